"""Ogg pages and Opus packets. The only user of pyogg."""
