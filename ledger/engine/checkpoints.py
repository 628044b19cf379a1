"""Composing checkpoints from a chain, and the book in which a party keeps those that it stands by.

Invariants of a book:
    - One text per size; sizes grow; each text names the digest of the one before. It is written (SQLite, FULL)
      before a signature leaves the process.
    - Once it holds evidence, it takes no further checkpoint: the party has stopped, also after a restart.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ledger.engine.chain import Chain
from ledger.engine.evidence import Evidence
from protocol.checkpoint import START, Checkpoint, Note, Signature
from protocol.errors import LedgerError, Unavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint (
    size INTEGER PRIMARY KEY, previous BLOB NOT NULL UNIQUE, text TEXT NOT NULL, operator TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cosignature (
    size INTEGER NOT NULL, member TEXT NOT NULL, line TEXT NOT NULL, PRIMARY KEY (size, member)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS observation (id INTEGER PRIMARY KEY CHECK (id = 1), note TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS evidence (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
"""


async def compose(chain: Chain, size: int, previous: bytes) -> Checkpoint:
    """Return the checkpoint over the first `size` records, as they replay here."""
    genesis = chain.genesis
    head = chain.head
    header = head if head.number == size - 1 else await chain.header(size - 1)
    registry = genesis.registry
    return Checkpoint(
        origin=genesis.origin,
        size=size,
        root=chain.log.tree.root(size),
        chain_id=genesis.chain.chain_id,
        genesis=genesis.digest,
        registry=None if registry is None else (registry.address, registry.code_hash),
        number=header.number,
        block_hash=header.hash,
        state_root=header.state_root,
        time=header.time,
        previous=previous,
        members=genesis.member_set,
    )


def halted() -> LedgerError:
    """Return the error of a party that stopped."""
    return LedgerError(
        "LEDGER_HALTED",
        "Evidence of misconduct was found; nothing on this ledger counts as final any more.",
        "Read the evidence, talk to the other members, and decide together how to go on.",
    )


class Book:
    """The checkpoints that a party stands by."""

    def __init__(self, path: Path) -> None:
        """Open or create a book.

        Raises:
            Unavailable: ``BOOK_CORRUPT``.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "cell_size_check=ON",
                "trusted_schema=OFF",
            ):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
            if self._db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise sqlite3.DatabaseError
            self._check_chain()
        except (sqlite3.Error, UnicodeError) as error:
            self._db.close()
            raise _corrupt() from error
        except BaseException:
            self._db.close()
            raise

    def _check_chain(self) -> None:
        expected, size = START, 0
        for number, named, text in self._db.execute(
            "SELECT size, previous, text FROM checkpoint ORDER BY size"
        ):
            checkpoint = Checkpoint.from_text(text)
            if checkpoint.size != number or number <= size or not checkpoint.previous == named == expected:
                raise _corrupt()
            expected, size = checkpoint.digest, number

    @property
    def last(self) -> Checkpoint | None:
        """The newest checkpoint."""
        row = self._db.execute("SELECT text FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else Checkpoint.from_text(row[0])

    @property
    def tip(self) -> tuple[int, bytes]:
        """(size, digest) of the newest checkpoint; (0, zeros) before the first."""
        last = self.last
        return (0, START) if last is None else (last.size, last.digest)

    def at(self, size: int) -> Note | None:
        """Return the checkpoint of a size with all signatures that are known, or None."""
        row = self._db.execute("SELECT text, operator FROM checkpoint WHERE size = ?", (size,)).fetchone()
        if row is None:
            return None
        lines = self._db.execute("SELECT line FROM cosignature WHERE size = ? ORDER BY member", (size,))
        return Note(
            row[0], tuple(Signature.from_line(line) for line in (row[1], *(each[0] for each in lines)))
        )

    def following(self, previous: bytes) -> Note | None:
        """Return the checkpoint that names `previous` as the one before, or None."""
        row = self._db.execute("SELECT size FROM checkpoint WHERE previous = ?", (previous,)).fetchone()
        return None if row is None else self.at(row[0])

    def after(self, size: int, count: int) -> list[Note]:
        """Return up to `count` checkpoints of a larger size, in order."""
        rows = self._db.execute(
            "SELECT size FROM checkpoint WHERE size > ? ORDER BY size LIMIT ?", (size, count)
        ).fetchall()
        return [note for row in rows if (note := self.at(row[0])) is not None]

    def add(self, checkpoint: Checkpoint, operator: Signature, *cosignatures: tuple[str, Signature]) -> None:
        """Durably stand by a checkpoint that extends the last one.

        Args:
            checkpoint: what was verified.
            operator: its signature of type 0x01.
            cosignatures: (member, signature); the party's own one.

        Raises:
            LedgerError: ``LEDGER_HALTED``, ``CHECKPOINT_NOT_EXTENDING``.
        """
        if self.evidence():
            raise halted()
        size, digest = self.tip
        if checkpoint.size <= size or checkpoint.previous != digest:
            raise LedgerError(
                "CHECKPOINT_NOT_EXTENDING", "A checkpoint does not extend the last one signed here."
            )
        with self._transaction():
            self._db.execute(
                "INSERT INTO checkpoint VALUES (?, ?, ?, ?)",
                (checkpoint.size, checkpoint.previous, checkpoint.text, operator.line),
            )
            for member, signature in cosignatures:
                self._cosign(checkpoint.size, member, signature)

    def cosign(self, size: int, member: str, signature: Signature) -> None:
        """Keep a member's cosignature, already verified, on a checkpoint of this book."""
        with self._transaction():
            self._cosign(size, member, signature)

    def _cosign(self, size: int, member: str, signature: Signature) -> None:
        self._db.execute("INSERT OR IGNORE INTO cosignature VALUES (?, ?, ?)", (size, member, signature.line))

    def known(self, member: str) -> int:
        """Return the largest size that a member has cosigned, as far as known here."""
        row = self._db.execute("SELECT max(size) FROM cosignature WHERE member = ?", (member,)).fetchone()
        return int(row[0] or 0)

    def counts(self, least: int) -> list[tuple[int, frozenset[str]]]:
        """Return (size, members who cosigned) for sizes from `least`, largest first."""
        rows = self._db.execute(
            "SELECT size, group_concat(member) FROM cosignature WHERE size >= ? GROUP BY size ORDER BY size DESC",
            (least,),
        )
        return [(size, frozenset(members.split(","))) for size, members in rows]

    def observe(self, note: Note) -> None:
        """Remember the operator's newest timestamped statement."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO observation VALUES (1, ?)", (note.encode(),))

    @property
    def observation(self) -> str | None:
        """The operator's newest timestamped statement, as a note."""
        row = self._db.execute("SELECT note FROM observation").fetchone()
        return None if row is None else str(row[0])

    def stop(self, found: Evidence) -> None:
        """Keep evidence; from now on the book takes nothing."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO evidence VALUES (?, ?)",
                (found.identifier, json.dumps(found.to_json())),
            )

    def evidence(self) -> list[Evidence]:
        """Return all evidence kept."""
        rows = self._db.execute("SELECT body FROM evidence ORDER BY id")
        return [Evidence.from_json(json.loads(row[0])) for row in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _corrupt() -> Unavailable:
    return Unavailable(
        "BOOK_CORRUPT",
        "The book of checkpoints is damaged.",
        "Don't sign with an empty book: ask the other members for the last checkpoint that you cosigned.",
    )
