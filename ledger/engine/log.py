"""The durable log: records in SQLite, written before anything is executed.

Specification: one row a record with its chained digest (`records.chain`), and one row that repeats size and
digest of the whole, in one transaction, WAL with synchronous=FULL (the commit returns after fsync). Beside
the database lies a *mark*: two slots of 128 bytes, written in turn after a block was executed, without
fsync::

    size (8) ‖ digest (32) ‖ head block hash (32) ‖ zeros (24) ‖ SHA-256 of the 96 bytes before

Invariants:
    - Opening reads and re-hashes every record. A changed, missing or misplaced one raises ``LOG_CORRUPT``.
    - A log that ends before the mark raises ``LOG_SHORTENED``: SQLite silently drops a damaged tail of its
      WAL, and only a witness outside the database can tell that from a crash before the commit.
    - The mark is never ahead of the database, since it is written later; after a power cut it may be behind.

Not protected: database and mark put back together from an old backup. The members' checkpoints and the signed
acknowledgements show that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ledger.engine import records
from ledger.engine.records import BlockRecord, GenesisRecord
from protocol.errors import ConcordatError, ProtocolError, Unavailable
from protocol.merkle import MerkleTree

_SLOT = 128
_UNREADABLE = (sqlite3.Error, UnicodeError)
"""What the driver raises for a damaged file; the latter when the damage hits the text of its own error message."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    idx INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS whole (
    id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT;
"""


def corrupt(cause: str) -> Unavailable:
    """Return the error for a damaged log."""
    return Unavailable(
        "LOG_CORRUPT",
        f"The ledger's log is damaged: {cause}.",
        "Keep the files. Restore the log from a member's replica and compare it with the last checkpoint.",
    )


class Mark:
    """The witness beside the database; see the module."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> tuple[int, bytes, bytes] | None:
        """Return (size, digest, head block hash) of the newest intact slot."""
        best: tuple[int, bytes, bytes] | None = None
        for slot in (0, 1):
            data = os.pread(self._fd, _SLOT, slot * _SLOT)
            if len(data) == _SLOT and hashlib.sha256(data[:96]).digest() == data[96:]:
                size = int.from_bytes(data[:8], "big")
                if best is None or size > best[0]:
                    best = (size, data[8:40], data[40:72])
        return best

    def write(self, size: int, digest: bytes, block_hash: bytes) -> None:
        """Note a size; alternating slots, so that a torn write leaves the other one."""
        data = size.to_bytes(8, "big") + digest + block_hash + bytes(24)
        os.pwrite(self._fd, data + hashlib.sha256(data).digest(), (size % 2) * _SLOT)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class DurableLog:
    """The log of one gateway or one replica; one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Open a log and verify all of it.

        Raises:
            Unavailable: ``LOG_CORRUPT``, ``LOG_SHORTENED``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.tree = MerkleTree()
        self.digest = records.START
        with contextlib.ExitStack() as opened:
            self._mark = Mark(folder / "log.mark")
            opened.callback(self._mark.close)
            try:
                self._db = self._connect(folder / "log.sqlite")
                opened.callback(self._db.close)
                # A connection of its own for readers: they never see what is not yet committed.
                self._reader = self._connect(folder / "log.sqlite")
                opened.callback(self._reader.close)
            except _UNREADABLE as error:
                raise corrupt("SQLite can't open it") from error
            self._verify()
            self._opened = opened.pop_all()

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "cell_size_check=ON",
                "trusted_schema=OFF",
            ):
                db.execute(f"PRAGMA {pragma}")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _verify(self) -> None:
        try:
            if self._db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise corrupt("SQLite's own check fails")
            for index, body, digest in self._db.execute("SELECT idx, body, digest FROM record ORDER BY idx"):
                if index != len(self.tree):
                    raise corrupt(f"record {len(self.tree)} is missing")
                self._take(body)
                if self.digest != digest:
                    raise corrupt(f"record {index} does not match its digest")
            row = self._db.execute("SELECT size, digest FROM whole").fetchone()
        except _UNREADABLE as error:
            raise corrupt("SQLite can't read it") from error
        except ConcordatError as error:
            raise (
                error
                if error.code == "LOG_CORRUPT"
                else corrupt("a record has no valid form or stands in the wrong place")
            ) from error
        if row != ((len(self.tree), self.digest) if len(self.tree) else None):
            raise corrupt("its end does not match its own summary")
        mark = self._mark.read()
        if mark is not None and mark[0] > len(self.tree):
            raise Unavailable(
                "LOG_SHORTENED",
                f"The ledger's log has {len(self.tree)} records, but {mark[0]} were acknowledged.",
                "Records were lost below the database. Restore the log from a member's replica.",
            )
        if mark is not None and mark[0] == len(self.tree) and mark[1] != self.digest:
            raise corrupt("it differs from what was acknowledged")

    def _take(self, body: object) -> None:
        if not isinstance(body, bytes):
            raise corrupt("a record is not bytes")
        self._check_place(body)
        self.tree.append(body)
        self.digest = records.chain(self.digest, body)

    def _check_place(self, body: bytes) -> None:
        record, index = records.decode(body), len(self.tree)
        number = record.number if isinstance(record, BlockRecord) else 0
        if number != index:
            raise ProtocolError("RECORD_PLACE", "A record has another number than its place in the log.")

    def __len__(self) -> int:
        return len(self.tree)

    @property
    def marked_head(self) -> tuple[int, bytes] | None:
        """(size, hash of the last block) as acknowledged before the last stop, if the mark is intact."""
        mark = self._mark.read()
        return None if mark is None else (mark[0], mark[2])

    def append(self, body: bytes) -> int:
        """Make a record durable and return its index.

        Raises:
            Unavailable: ``LOG_WRITE`` if the store fails; the caller must stop.
            ProtocolError: ``RECORD_MALFORMED``, ``RECORD_PLACE``.
        """
        self._check_place(body)
        index, digest = len(self.tree), records.chain(self.digest, body)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT INTO record VALUES (?, ?, ?)", (index, body, digest))
            self._db.execute("INSERT OR REPLACE INTO whole VALUES (1, ?, ?)", (index + 1, digest))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise Unavailable(
                "LOG_WRITE", "The ledger's log can't be written.", "Check the disk; then restart the gateway."
            ) from error
        self._take(body)
        return index

    def mark(self, block_hash: bytes) -> None:
        """Note, outside the database, that all records so far were executed up to this block."""
        self._mark.write(len(self.tree), self.digest, block_hash)

    def read(self, start: int, count: int) -> list[bytes]:
        """Return up to `count` records from `start`, each compared with the hash taken at opening.

        Raises:
            Unavailable: ``LOG_CORRUPT``.
        """
        try:
            rows = self._reader.execute(
                "SELECT idx, body FROM record WHERE idx >= ? ORDER BY idx LIMIT ?", (start, count)
            ).fetchall()
        except _UNREADABLE as error:
            raise corrupt("SQLite can't read it") from error
        bodies = []
        for offset, (index, body) in enumerate(rows):
            if index != start + offset or index >= len(self.tree):
                break
            if hashlib.sha256(b"\0" + body).digest() != self.tree.leaf(index):
                raise corrupt(f"record {index} changed while the process ran")
            bodies.append(body)
        return bodies

    def blocks(self, start: int = 1, chunk: int = 256) -> Iterator[list[BlockRecord]]:
        """Yield the block records from index `start` in chunks."""
        while bodies := self.read(start, chunk):
            decoded = [records.decode(body) for body in bodies]
            yield [record for record in decoded if isinstance(record, BlockRecord)]
            start += len(bodies)

    def genesis(self) -> GenesisRecord:
        """Return record 0.

        Raises:
            ProtocolError: ``RECORD_MALFORMED`` if there is none.
        """
        bodies = self.read(0, 1)
        record = records.decode(bodies[0]) if bodies else None
        if not isinstance(record, GenesisRecord):
            raise ProtocolError("RECORD_MALFORMED", "The log has no genesis record.")
        return record

    def close(self) -> None:
        """Close both files."""
        self._opened.close()
