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
JOINT, BEFORE_JOINT, AFTER_JOINT = "with partners", ("roster", "centring"), "published"
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
    """The steps of a job, from its events. Free of input and output.

    The stages with partners pass the coordinator by: their step begins where the banks have opened what comes before
    them, if others than banks were asked into the session, and ends where the banks state what was published.
    """

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self._round = 0
        self._asked: set[str] = set()
        self._banks: set[str] = set()

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        name, kind, party, at = event["step"], event["kind"], event["party"], float(event["at"])
        self._joint(name, kind, party, at)
        if name == JOINT and JOINT in self.steps:
            self._said(party, event.get("detail") or {})
            return
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

    def _joint(self, name: str, kind: str, party: str, at: float) -> None:
        """Begin or end the step of the stages with partners."""
        if name == "attempt":
            self._asked, self._banks = set(), set()
        elif name == "session" and party:
            self._asked.add(party)
        elif name == "roster" and kind == "sent":
            self._banks.add(party)
        elif name in BEFORE_JOINT and kind == "opened" and self._asked - self._banks and self._banks:
            step = self.steps.setdefault(JOINT, Step(at, at, note="the parties among themselves"))
            if step.state == DONE:
                # An attempt was void: time goes on from the last one.
                step.began, step.state = at - step.seconds, WORKING
            else:
                step.began = at
            step.last = at
            step.parties |= self._asked
        elif name == AFTER_JOINT and kind == "opened" and JOINT in self.steps:
            step = self.steps[JOINT]
            step.last, step.state = at, DONE

    def _said(self, party: str, detail: dict[str, Any]) -> None:
        """Show what a partner said of its part, not what it took: the step has ended before."""
        told = detail.get("told") or {}
        if "published" in told:
            said = "published" if told["published"] else "published nothing"
            note = self.steps[JOINT].note
            before = f"{note}; " if "published" in note else ""
            self.steps[JOINT].note = f"{before}{party} {said}"


def _told(party: str, kind: str, detail: dict[str, Any]) -> str:
    """Return an event in a few words."""
    more = next(
        (str(detail[key]) for key in ("cause", "detail", "code", "title", "why") if detail.get(key)), ""
    )
    rows = f"{detail['rows']:,} rows" if isinstance(detail.get("rows"), int) else ""
    told = detail.get("told") or {}
    if "published" in told:
        more = "published" if told["published"] else "published nothing"
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
