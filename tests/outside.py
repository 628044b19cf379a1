"""Where an intruder stands: a network namespace beside this machine's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outside:
    """A network namespace that reaches this machine at one address only, as an intruder would.

    Attributes:
        name: the namespace.
        host: this machine's address as seen from there.
    """

    name: str
    host: str

    @property
    def enter(self) -> list[str]:
        """The command under which a program runs there."""
        return ["ip", "netns", "exec", self.name]
