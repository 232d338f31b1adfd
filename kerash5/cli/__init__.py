"""The command line: parses arguments, then imports and calls the public API."""

from kerash5.cli._main import main

__all__ = ["main"]
