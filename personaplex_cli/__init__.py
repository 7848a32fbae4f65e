"""Talk to full-duplex voice models from a terminal."""

__version__ = "0.1.0"
