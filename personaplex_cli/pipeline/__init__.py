"""The stations of the data path.

microphone → encoder → websocket → …server… → websocket → playback (decoder → playout buffer) → speaker

Stations do not import each other; `call.py` connects them.
"""
