"""What the playout buffer computes: lateness of messages, the device's clock, pitch periods, splices.

Pure: samples and times in, samples and times out.
"""
