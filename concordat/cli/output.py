"""What the command line prints: answers on stdout, people's words and errors on stderr.

With ``--format json`` stdout carries exactly one JSON object: the answer, or an RFC 9457 problem. A user's mistake is
one screen, never a traceback; the exit code is the error class's (``protocol.errors``).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from protocol.errors import ConcordatError, ConfigurationError, Unavailable

INTERRUPTED = 130


class Format(StrEnum):
    """How an answer is printed."""

    text = "text"
    json = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="text for people, json for programs: one object on stdout.")
]


def show(format: Format, answer: Any, text: Callable[[], str]) -> None:  # noqa: A002 - the option's name
    """Print an answer: the object as JSON, or its text."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False) if format is Format.json else text())


def say(text: str) -> None:
    """Print words for people."""
    typer.echo(text, err=True)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "(none)") -> str:
    """Return a plain table, columns aligned by their widest cell."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        return empty
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [list(head), *lines]
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return name and value a line, names aligned."""
    kept = [(name, str(value)) for name, value in pairs]
    width = max(len(name) for name, _ in kept)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in kept)


def moment(seconds: float) -> str:
    """Return a Unix time as people read it, in UTC; a dash for none."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z" if seconds else "-"


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


class Root(TyperGroup):
    """The whole command: turns every error into one screen or one problem object, and into an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; ends the process with its exit code."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(words, prog_name or "concordat", complete_var, standalone_mode=False, **extra)
            code = code if isinstance(code, int) else 0
        except Exception as error:  # noqa: BLE001 - the outermost edge: whatever happens ends as one screen
            code = _refuse(error, _asks_for_json(words))
        if not standalone_mode:
            return code
        return sys.exit(code)


def _asks_for_json(words: Sequence[str]) -> bool:
    """Return whether the words ask for JSON, also where they can't be parsed otherwise."""
    return "--format=json" in words or ("--format", "json") in set(pairwise(words))


def _refuse(error: Exception, as_json: bool) -> int:
    if isinstance(error, click.Abort):
        say("Stopped; nothing was changed.")
        return INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
        say(error.format_message())
        return ConfigurationError.exit_code
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone; the interpreter must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    told = explained(error)
    if os.environ.get("CONCORDAT_DEBUG"):
        traceback.print_exception(error)
    if as_json:
        typer.echo(json.dumps(told.problem(), indent=2, ensure_ascii=False))
    else:
        say(f"Error: {told}")
    return told.exit_code


def explained(error: Exception) -> ConcordatError:
    """Return any exception as an error that a user can act on.

    What an unforeseen exception says is left out: it could hold a cell of a table or a password of a URL.
    """
    if isinstance(error, ConcordatError):
        return error
    if isinstance(error, click.UsageError):
        known = error.ctx.command_path if error.ctx else "concordat"
        return ConfigurationError("USAGE", error.format_message(), f"`{known} --help` shows what it takes.")
    if isinstance(error, click.ClickException):
        return ConfigurationError("USAGE", error.format_message())
    if isinstance(error, OSError) and error.filename:
        return ConfigurationError("FILE_ERROR", f"{error.filename}: {error.strerror}", "Look at the path.")
    if type(error).__module__.startswith("sqlalchemy"):
        return Unavailable(
            "DATABASE_UNAVAILABLE",
            f"the database can't be used ({type(error).__name__})",
            "Look at [database] in the configuration, and whether the server runs.",
        )
    return ConcordatError(
        "INTERNAL",
        f"a fault of the program ({type(error).__name__})",
        "Set CONCORDAT_DEBUG=1 to see where it happened, and report it.",
    )
