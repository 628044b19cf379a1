"""The command line: one module a noun."""

from concordat.cli.app import main

__all__ = ["main"]
