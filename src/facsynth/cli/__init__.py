"""The `fac` command: it parses, calls the library and prints."""

from facsynth.cli.group import main

__all__ = ["main"]
