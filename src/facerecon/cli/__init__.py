"""The command ``facerecon``."""

from facerecon.cli.main import main

__all__ = ["main"]
