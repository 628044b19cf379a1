"""Opening of a sum: complete or void.

Specification: the training protocol, steps B6 and B9. A roster (job, attempt, sorted banks) is fixed and
signed before anybody sends. The server adds the masked vectors of exactly that roster and gives out the total
once all of them are there; until then there is nothing to read, and if a bank drops the attempt is void: its
masks don't cancel. The next attempt masks under new labels.

Element 0 of every opened vector is a bank's constant 1 (`with_count`), so that the reader, after unmasking,
finds the number of banks there (`checked`). Masks that did not cancel, a vector added twice or a wrong group
key are found with probability 1 − 2^-64.

Invariants:
    - One vector per bank: the same bytes again change nothing, other bytes are refused.
    - No total of a partial roster ever leaves, and nothing is added after a total was given out: a late share
      can't turn one total into two whose difference is a single bank.

What each party learns: the server who has sent. Not protected: any bank can make an attempt void by silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import canonical
from protocol.errors import JobVoid, ProtocolError
from protocol.identity import check_name
from protocol.masking import MINIMUM_BANKS


@dataclass(frozen=True)
class Roster:
    """Who takes part in the openings of an attempt.

    Attributes:
        job: the manifest's digest J.
        attempt: from 0.
        banks: names, sorted, at least three, each once.
    """

    job: str
    attempt: int
    banks: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.job, str) or not self.job or type(self.attempt) is not int or self.attempt < 0:
            raise ProtocolError("ROSTER_MALFORMED", "A roster must name its job and attempt.")
        if not isinstance(self.banks, tuple) or list(self.banks) != sorted(
            {check_name(b) for b in self.banks}
        ):
            raise ProtocolError("ROSTER_MALFORMED", "A roster's banks must be sorted, each named once.")
        if len(self.banks) < MINIMUM_BANKS:
            raise ProtocolError("ROSTER_TOO_SMALL", f"A roster needs at least {MINIMUM_BANKS} banks.")

    @classmethod
    def of(cls, job: str, attempt: int, banks: Iterable[str]) -> Roster:
        """Build a roster from names in any order."""
        return cls(job, attempt, tuple(sorted(banks)))

    @property
    def body(self) -> dict[str, Any]:
        """The roster as the body of a signed document of kind ``roster``."""
        return {"job": self.job, "attempt": self.attempt, "banks": list(self.banks)}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Roster:
        """Read a verified document's body.

        Raises:
            ProtocolError: ``ROSTER_MALFORMED`` or ``ROSTER_TOO_SMALL``.
        """
        if set(body) != {"job", "attempt", "banks"} or not isinstance(body["banks"], list):
            raise ProtocolError("ROSTER_MALFORMED", "A roster must hold exactly job, attempt, banks.")
        return cls(body["job"], body["attempt"], tuple(body["banks"]))

    @property
    def digest(self) -> str:
        """The roster's digest."""
        return canonical.digest("roster", self.body)


class RosterBook:
    """The rosters that a bank has masked under: one per (job, attempt), for good.

    A bank that masked one vector under two rosters of an attempt would let the difference of the two totals
    show the bank that is in one of them only.
    """

    def __init__(self) -> None:
        self._rosters: dict[tuple[str, int], str] = {}

    def admit(self, roster: Roster) -> None:
        """Record a roster before masking; the same one again changes nothing.

        Raises:
            ProtocolError: ``ROSTER_SECOND`` if this attempt has another roster already.
        """
        known = self._rosters.setdefault((roster.job, roster.attempt), roster.digest)
        if known != roster.digest:
            raise ProtocolError(
                "ROSTER_SECOND",
                f"Attempt {roster.attempt} has another roster already.",
                "A changed roster needs a new attempt.",
            )

    def to_state(self) -> list[list[str | int]]:
        """Return the record as a JSON value; the caller stores it before the masked vector leaves."""
        return [[job, attempt, mark] for (job, attempt), mark in sorted(self._rosters.items())]

    @classmethod
    def from_state(cls, state: Iterable[Sequence[str | int]]) -> RosterBook:
        """Restore the record."""
        book = cls()
        for job, attempt, mark in state:
            book._rosters[(str(job), int(attempt))] = str(mark)
        return book


class Opening:
    """The server's side of one opening: adds the masked vectors of a roster."""

    def __init__(self, roster: Roster, name: str, round: int, length: int) -> None:  # noqa: A002 - the protocol's word
        """Begin an opening.

        Args:
            roster: who must send.
            name: what is opened, such as ``"h/update"``.
            round: Flower round, 0 where there is none.
            length: elements of a vector, the count included.

        Raises:
            ProtocolError: ``OPENING_LENGTH`` if there is no element.
        """
        if length < 1:
            raise ProtocolError("OPENING_LENGTH", "An opening must have at least one element.")
        self.roster = roster
        self.name = name
        self.round = round
        self.length = length
        self._vectors: dict[str, NDArray[np.uint64]] = {}
        self._total: NDArray[np.uint64] | None = None

    def add(self, sender: str, vector: NDArray[np.uint64]) -> None:
        """Take a bank's masked vector; the same one again changes nothing.

        Args:
            sender: name of the bank, as the transport authenticated it.
            vector: ring elements, shape (length,).

        Raises:
            ProtocolError: ``OPENING_CLOSED`` after the total, ``OPENING_STRANGER`` for a party outside the
                roster, ``OPENING_LENGTH`` for another shape or type, ``OPENING_CHANGED`` if the bank sends
                other bytes than before.
        """
        if self._total is not None:
            raise ProtocolError("OPENING_CLOSED", f"{self.name} has been opened already.")
        if sender not in self.roster.banks:
            raise ProtocolError("OPENING_STRANGER", f"A party outside the roster takes part in {self.name}.")
        if vector.dtype != np.uint64 or vector.shape != (self.length,):
            raise ProtocolError("OPENING_LENGTH", f"{sender} sends a vector of another length or type.")
        known = self._vectors.get(sender)
        if known is None:
            self._vectors[sender] = vector.copy()
        elif not np.array_equal(known, vector):
            raise ProtocolError("OPENING_CHANGED", f"{sender} sends another vector than before.")

    @property
    def missing(self) -> tuple[str, ...]:
        """The banks of the roster that have not sent yet, sorted."""
        if self._total is not None:
            return ()
        return tuple(bank for bank in self.roster.banks if bank not in self._vectors)

    def total(self) -> NDArray[np.uint64]:
        """Return the sum over the complete roster, shape (length,), and close the opening.

        Raises:
            JobVoid: ``OPENING_INCOMPLETE`` if a bank has not sent.
        """
        if self._total is None:
            if self.missing:
                raise JobVoid(
                    "OPENING_INCOMPLETE",
                    f"{self.name} lacks {', '.join(self.missing)}; attempt {self.roster.attempt} is void.",
                    "The stage restarts with the remaining banks if there are at least three.",
                )
            total = np.zeros(self.length, dtype=np.uint64)
            for vector in self._vectors.values():
                total += vector
            self._total = total
            self._vectors.clear()
        return self._total.copy()


def with_count(vector: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a bank's vector behind the constant 1, shape (n + 1,); done before masking."""
    if vector.dtype != np.uint64 or vector.ndim != 1:
        raise ProtocolError("RING_ELEMENTS", "A vector must be one row of unsigned 64-bit words.")
    return np.concatenate([np.ones(1, dtype=np.uint64), vector])


def checked(total: NDArray[np.uint64], roster: Roster) -> NDArray[np.uint64]:
    """Return an unmasked total without its count, shape (n,).

    Raises:
        ProtocolError: ``OPENING_COUNT`` if the count is not the number of banks: masks did not cancel.
    """
    if total.dtype != np.uint64 or total.ndim != 1 or len(total) < 1 or int(total[0]) != len(roster.banks):
        raise ProtocolError(
            "OPENING_COUNT",
            f"The total does not count {len(roster.banks)} banks: its masks did not cancel.",
            "Nothing of it was used. Look for a bank that masked under another roster or attempt.",
        )
    return total[1:].copy()
