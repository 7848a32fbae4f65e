"""Whether a call would work, found out step by step: each check has a time limit and comes to a result.

Nothing is printed here.
"""
