"""The command line: parses, then imports; no logic of its own."""

from kerash5.cli._main import main

__all__ = ["main"]
