"""The live display of a job: one line a step, with parties, bytes and seconds, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from concordat.cli.output import say, size

if TYPE_CHECKING:
    from rich.table import Table

CARRIES = ("asked", "asked again", "answered", "sent", "gave")
"""Kinds of events whose bytes crossed a link."""
GOOD = ("done", "finished", "opened", "answered", "approve")
BAD = ("refused", "gave up", "failed", "void", "reject", "rejected", "cancelled")
WAITING, WORKING, DONE, STOPPED = "waiting", "working", "done", "stopped"


class Screen(Protocol):
    """What takes events as they come."""

    def take(self, event: dict[str, Any]) -> None:
        """Take an event: ``step``, ``party``, ``kind``, ``detail``, ``at`` (Unix seconds)."""
        ...


@dataclass
class Step:
    """How far a step is."""

    began: float
    last: float
    state: str = WORKING
    bytes: int = 0
    note: str = ""
    parties: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """Seconds from its first event to its last."""
        return self.last - self.began


class Progress:
    """The steps of a job, from its events. Free of input and output."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self._round = 0

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        name, kind, party, at = event["step"], event["kind"], event["party"], float(event["at"])
        if name == "train":
            name = f"round {self._round + 1}"
        elif name.startswith("round "):
            self._round = int(name.split()[1])
        elif name == "attempt":
            self._round = 0
        step = self.steps.setdefault(name, Step(at, at))
        step.last = max(step.last, at)
        if party:
            step.parties.add(party)
        detail = event.get("detail") or {}
        if kind in CARRIES:
            step.bytes += int(detail.get("bytes") or 0)
        if kind in BAD:
            step.state, step.note = STOPPED, _told(party, kind, detail)
        elif step.state != STOPPED or kind in GOOD:
            step.note = _told(party, kind, detail)
            step.state = DONE if kind in GOOD and not (party and kind == "answered") else step.state


def _told(party: str, kind: str, detail: dict[str, Any]) -> str:
    """Return an event in a few words."""
    more = next(
        (str(detail[key]) for key in ("cause", "detail", "code", "title", "why") if detail.get(key)), ""
    )
    rows = f"{detail['rows']:,} rows" if isinstance(detail.get("rows"), int) else ""
    return " ".join(word for word in (party, kind, rows, more) if word)


def line(event: dict[str, Any]) -> str:
    """Return an event as a line of a log."""
    detail = event.get("detail") or {}
    bytes_ = f" ({size(int(detail['bytes']))})" if detail.get("bytes") else ""
    clock = time.strftime("%H:%M:%S", time.gmtime(float(event["at"])))
    return f"{clock}Z  {event['step']:<12} {_told(event['party'], event['kind'], detail)}{bytes_}"


class Log:
    """A line an event, where nobody looks at a terminal."""

    def take(self, event: dict[str, Any]) -> None:
        """Print the event."""
        say(line(event))


class Live:
    """A table that renews itself."""

    def __init__(self, title: str, live: Any) -> None:
        self._title, self._live, self._progress = title, live, Progress()

    def take(self, event: dict[str, Any]) -> None:
        """Take an event and draw the table anew."""
        self._progress.take(event)
        self._live.update(drawn(self._title, self._progress))


def drawn(title: str, progress: Progress) -> Table:
    """Return the steps as a table."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(title), title_justify="left", expand=False)
    made.add_column("step")
    made.add_column("state")
    for name in ("parties", "bytes", "seconds"):
        made.add_column(name, justify="right")
    made.add_column("last", overflow="ellipsis", no_wrap=True, max_width=60)
    colours = {DONE: "green", STOPPED: "red"}
    for name, step in progress.steps.items():
        colour = colours.get(step.state, "yellow")
        made.add_row(
            escape(name),
            f"[{colour}]{step.state}[/{colour}]",
            str(len(step.parties) or ""),
            size(step.bytes) if step.bytes else "",
            f"{step.seconds:.1f}",
            escape(step.note),
        )
    return made


@contextmanager
def display(title: str) -> Iterator[Screen]:
    """Show events as they come: a live table on a terminal, else a line each; always on stderr."""
    if not sys.stderr.isatty():
        yield Log()
        return
    from rich.console import Console
    from rich.live import Live as RichLive

    with RichLive(console=Console(stderr=True), refresh_per_second=8, transient=False) as live:
        yield Live(title, live)
