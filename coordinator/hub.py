"""The server's side of a session: gathers signatures, adds masked sums, gives out totals; reads nothing.

Runs beside the Flower message that opened the session, over the exchange. Every total is kept before it is given out,
and what was opened once stands for the job: a later attempt gets the same total again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from coordinator.store import Store
from node.exchange import Exchange
from protocol import ring
from protocol.canonical import encode
from protocol.envelope import Envelope, pack, unpack
from protocol.errors import ProtocolError, Unavailable
from protocol.identity import Directory, IdentityKey
from protocol.mailbox import COORDINATOR, object_name
from protocol.opening import Opening, Roster

ROSTER, PUBLISHED = "roster", "published"
GATHERED = (ROSTER, PUBLISHED)
"""Signed statements of all banks: gathered, not added; anew in every session."""


class Hub:
    """One session of an attempt; :meth:`turn` does what can be done now.

    Args:
        store: keeps the totals.
        exchange: the coordinator's connection.
        key: the coordinator's identity key.
        directory: who is who.
        job: the coordinator's name of the job (the proposal's digest).
        roster: the banks of the attempt.
        generation: the generation of the session.
        names: the openings of the session, in order; those of ``GATHERED`` gather signatures.
        standing: names of openings that stand for the whole job.
        sequence: next sequence number towards a party.
        told: called with (step, party, event, details).
    """

    def __init__(
        self,
        store: Store,
        exchange: Exchange,
        key: IdentityKey,
        directory: Directory,
        job: str,
        roster: Roster,
        generation: int,
        names: Sequence[str],
        standing: Sequence[str],
        sequence: Callable[[str], int],
        told: Callable[..., None],
    ) -> None:
        self._store, self._exchange, self._key, self._directory = store, exchange, key, directory
        self._job, self._roster, self._generation = job, roster, generation
        self._names, self._standing = list(names), standing
        self._sequence, self._told = sequence, told
        self._received: dict[str, bytes] = {}
        self._refused: dict[str, bytes] = {}
        self._given: dict[str, set[str]] = {}
        self._seen = -1

    def opened(self) -> dict[str, int]:
        """Return which standing openings were made in an earlier attempt, with the attempt."""
        earlier = self._store.openings(self._job)
        return {
            name: attempt
            for (name, attempt) in earlier
            if name in self._standing and attempt < self._roster.attempt
        }

    def turn(self) -> None:
        """Take what has come, open what is complete."""
        while self._names and self._step(self._names[0]):
            self._names.pop(0)

    def _step(self, name: str) -> bool:
        kept = self._kept(name)
        if kept is None:
            for bank in self._roster.banks:
                if bank not in self._received:
                    found = self._fetch(bank, name)
                    if found is not None:
                        self._received[bank] = found
            if len(self._received) < len(self._roster.banks):
                return False
            kept = self._combine(name)
            if name not in GATHERED:
                # Signatures are gathered anew in every session: a bank that lost its peers signs again.
                self._store.save_opening(self._job, name, self._roster.attempt, kept)
            self._received.clear()
            self._told(name, "", "opened", bytes=len(kept), banks=len(self._roster.banks))
        self._give(name, kept)
        return True

    def _kept(self, name: str) -> bytes | None:
        if name in GATHERED:
            return None
        made = self._store.openings(self._job)
        attempts = sorted(attempt for (known, attempt) in made if known == name)
        if name in self._standing and attempts:
            return made[(name, attempts[0])]
        return made.get((name, self._roster.attempt))

    def _fetch(self, bank: str, name: str) -> bytes | None:
        roster = self._roster
        place = object_name(roster.job, roster.attempt, self._generation, name, bank, COORDINATOR)
        try:
            data = self._exchange.poll(bank, place)
        except Unavailable:
            # Whatever keeps it from being read, the stage's deadline ends the wait.
            return None
        if data is None:
            return None
        try:
            envelope = unpack(data, recipient=COORDINATOR, job=roster.job, directory=self._directory)
            found = (envelope.sender, envelope.attempt, envelope.generation, envelope.step)
            if found != (bank, roster.attempt, self._generation, name):
                raise ProtocolError(
                    "MESSAGE_UNEXPECTED", f"a message of {bank} is not the one that was awaited"
                )
        except ProtocolError as error:
            # Nothing of it is used, and it ends nothing: whoever put it there could end any job by it.
            if self._refused.get(bank) != data:
                self._refused[bank] = data
                self._told(name, bank, "refused", code=error.code)
            return None
        self._told(name, bank, "sent", bytes=len(data))
        return envelope.payload

    def _combine(self, name: str) -> bytes:
        if name in GATHERED:
            return encode({bank: json.loads(signed) for bank, signed in self._received.items()})
        length = len(next(iter(self._received.values()))) // 8
        opening = Opening(self._roster, name, 0, length)
        for bank, data in self._received.items():
            opening.add(bank, ring.from_bytes(data, length))
        return ring.to_bytes(opening.total())

    def _give(self, name: str, total: bytes) -> None:
        roster = self._roster
        for bank in roster.banks:
            envelope = Envelope(
                roster.job,
                roster.attempt,
                self._generation,
                COORDINATOR,
                bank,
                name,
                self._sequence(bank),
                total,
            )
            place = object_name(roster.job, roster.attempt, self._generation, name, COORDINATOR, bank)
            data = pack(envelope, self._key)
            self._exchange.put(bank, place, data)
            self._told(name, bank, "gave", bytes=len(data))
