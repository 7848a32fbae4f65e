"""A local server that speaks the protocol, for demonstration, development and tests."""
