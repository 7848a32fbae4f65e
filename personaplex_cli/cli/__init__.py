"""Typer commands: options → call. The only place that catches PersonaplexError, the only one that prints."""
