"""What a call looks like: a pure view state, and the ways to show it."""
