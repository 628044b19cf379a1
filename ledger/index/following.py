"""The follower: keeps the index in step with the chain, and notices when the chain took another course.

Invariants:
    - It reads only blocks that count as final, and stores a block's hash with what it read under it.
    - Before it goes on it compares the newest stored hash with the chain's. If they differ it goes back to the last
      block that both know, drops what came after and makes the state again: the chain is right, always.
    - A batch of blocks is one transaction: events, state and what listeners add stand or fall together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from ledger.abi import decode_event
from ledger.client.reading import Block, Entry
from ledger.index import folding, tables
from protocol.errors import LedgerError, Unavailable

BATCH = 1_000
"""Blocks read at a time."""


class Source(Protocol):
    """A chain to follow; `ledger.client.reading.ChainReader` is one."""

    def block(self, number: int | None = None) -> Block | None:
        """Return a block, or the newest one."""
        ...

    def entries(self, address: bytes, first: int, last: int) -> list[Entry]:
        """Return a contract's log entries of some blocks, in order."""
        ...


@dataclass(frozen=True)
class Happened:
    """An event as the index keeps it.

    Attributes:
        block: its block's number.
        position: its place within the block.
        transaction: hash, 32 bytes.
        name: the event's name.
        claim: 32 bytes.
        fields: by name; bytes as hexadecimal digits.
        time: Unix seconds of the block.
    """

    block: int
    position: int
    transaction: bytes
    name: str
    claim: bytes
    fields: dict[str, Any]
    time: int


Listener = Callable[[Connection, Happened], None]


class Follower:
    """Follows one contract on one chain into one database."""

    def __init__(
        self, engine: Engine, source: Source, contract: bytes, listener: Listener | None = None
    ) -> None:
        """Connect the parts.

        Args:
            engine: the index' database.
            source: the chain.
            contract: the ledger's address, 20 bytes.
            listener: called in the transaction with each new event.
        """
        self._engine = engine
        self._source = source
        self._contract = contract
        self._listener = listener
        self.reorganisations = 0

    @property
    def height(self) -> int:
        """The newest block that the index covers; -1 for none."""
        with self._engine.begin() as db:
            return _height(db)

    def follow(self, final: int) -> int:
        """Read up to a final block; return how many events were new.

        Raises:
            Unavailable: the node does not answer, or changed its mind while it was read.
        """
        self._check_course()
        found, first = 0, self.height + 1
        while first <= final:
            last = min(first + BATCH - 1, final)
            found += self._read(first, last)
            first = last + 1
        return found

    def _check_course(self) -> None:
        with self._engine.begin() as db:
            query = sa.select(tables.blocks).order_by(tables.blocks.c.number.desc())
            known = [(row.number, bytes(row.hash)) for row in db.execute(query.limit(1_000))]
        common = -1
        for number, digest in known:
            block = self._source.block(number)
            if block is not None and block.hash == digest:
                common = number
                break
        if not known or common == known[0][0]:
            return
        self.reorganisations += 1
        with self._engine.begin() as db:
            db.execute(sa.delete(tables.blocks).where(tables.blocks.c.number > common))
            db.execute(sa.delete(tables.events).where(tables.events.c.block > common))
            folding.rebuild(db)

    def _read(self, first: int, last: int) -> int:
        end = self._block(last)
        entries = self._source.entries(self._contract, first, last)
        times = {last: end}
        for entry in entries:
            if entry.block not in times:
                times[entry.block] = self._block(entry.block)
        if any(times[entry.block].hash != entry.block_hash for entry in entries) or self._block(last) != end:
            raise Unavailable(
                "LEDGER_MOVED", "The chain changed while it was read.", "It will be read again."
            )
        happened = [
            each for entry in entries if (each := read_entry(entry, times[entry.block].time)) is not None
        ]
        try:
            with self._engine.begin() as db:
                if _height(db) != first - 1:
                    return 0  # another process read these blocks first
                for number, block in sorted(times.items()):
                    db.execute(
                        sa.insert(tables.blocks).values(number=number, hash=block.hash, time=block.time)
                    )
                for each in happened:
                    self._keep(db, each, times[each.block].hash)
        except sa.exc.IntegrityError:
            return 0  # the same, at the same moment
        return len(happened)

    def _keep(self, db: Connection, each: Happened, block_hash: bytes) -> None:
        db.execute(
            sa.insert(tables.events).values(
                block=each.block,
                position=each.position,
                block_hash=block_hash,
                transaction=each.transaction,
                name=each.name,
                claim=each.claim,
                fields=json.dumps(each.fields, sort_keys=True),
                time=each.time,
            )
        )
        folding.apply(db, each.name, each.claim, each.fields)
        if self._listener is not None:
            self._listener(db, each)

    def _block(self, number: int) -> Block:
        found = self._source.block(number)
        if found is None:
            raise Unavailable("LEDGER_BEHIND", "The node does not show a block that is final.")
        return found


def _height(db: Connection) -> int:
    found = db.execute(sa.select(sa.func.max(tables.blocks.c.number))).scalar()
    return -1 if found is None else int(found)


def read_entry(entry: Entry, time: int) -> Happened | None:
    """Return an entry as the index keeps it; None for events of another version of the contract."""
    try:
        event = decode_event(entry.topics, entry.data)
    except LedgerError:
        return None
    fields = json.loads(folding.fields_json(event))
    claim = folding.claim_of(event)
    return Happened(entry.block, entry.index, entry.transaction, event.name, claim, fields, time)
