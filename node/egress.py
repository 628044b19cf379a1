"""The egress log: what left the building, hash-chained and signed, written before the bytes go.

A record names time, peer, purpose, job, field class, number of bytes and their digest, and the digest of the record
before it; the node's identity key signs each. So an altered, dropped or re-ordered record is found by anybody who has
the log and the node's public key. A log cut off at its end is found by comparing it with a head seen elsewhere: the
node keeps its head in a file of its own, and the coordinator keeps the head that each job ended with.

Not protected: an operator who owns the node can release bytes by other means; this is the institution's own record,
not a fence around its administrators.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

from node.keystore import write_private
from node.store import Store, egress
from protocol.canonical import encode, lp
from protocol.errors import ConcordatError, ProtocolError
from protocol.identity import IdentityKey, PublicKey

DOMAIN = "egress"
GENESIS = "0" * 64


@dataclass(frozen=True)
class Record:
    """One release.

    Attributes:
        seq: position in the log, from 1.
        at: Unix time in milliseconds.
        peer: who receives the bytes.
        purpose: why, such as ``"train round 2"``.
        job: the job's identifier, or empty.
        field_class: what kind of data they are made of, such as ``"masked update"``.
        bytes: how many.
        payload: SHA-256 of them, hex.
        previous: digest of the record before, hex.
    """

    seq: int
    at: int
    peer: str
    purpose: str
    job: str
    field_class: str
    bytes: int
    payload: str
    previous: str

    def digest(self) -> str:
        """Return the record's digest, hex."""
        return sha256(lp("concordat/v1", DOMAIN) + encode(asdict(self))).hexdigest()


@dataclass(frozen=True)
class Head:
    """The end of a log: number of records and the digest of the last."""

    seq: int
    digest: str


class EgressLog:
    """The log in the node's database."""

    def __init__(self, store: Store, key: IdentityKey, head_file: Path) -> None:
        self._store, self._key, self._head_file = store, key, head_file
        self._lock = threading.Lock()
        self._head = self._last()

    def append(self, *, peer: str, purpose: str, job: str, field_class: str, payload: bytes) -> Record:
        """Write the record of a release that is about to happen; it is on disk when this returns."""
        with self._lock:
            record = Record(
                seq=self._head.seq + 1,
                at=time.time_ns() // 1_000_000,
                peer=peer,
                purpose=purpose,
                job=job,
                field_class=field_class,
                bytes=len(payload),
                payload=sha256(payload).hexdigest(),
                previous=self._head.digest,
            )
            digest = record.digest()
            signature = self._key.sign(DOMAIN, bytes.fromhex(digest)).hex()
            with self._store.engine.begin() as db:
                text = json.dumps(asdict(record), sort_keys=True)
                db.execute(
                    egress.insert().values(seq=record.seq, record=text, digest=digest, signature=signature)
                )
            self._head = Head(record.seq, digest)
            write_private(self._head_file, encode(asdict(self._head)))
            return record

    def head(self) -> Head:
        """Return the end of the log."""
        return self._head

    def records(self, job: str | None = None) -> Iterator[Record]:
        """Return the records in order, of one job or of all."""
        for record, _, _ in _rows(self._store):
            if job is None or record.job == job:
                yield record

    def _last(self) -> Head:
        with self._store.engine.connect() as db:
            row = db.execute(sa.select(egress.c.seq, egress.c.digest).order_by(egress.c.seq.desc())).first()
        return Head(0, GENESIS) if row is None else Head(row[0], row[1])


def _rows(store: Store) -> Iterator[tuple[Record, str, str]]:
    with store.engine.connect() as db:
        for row in db.execute(sa.select(egress).order_by(egress.c.seq)).mappings():
            try:
                record = Record(**json.loads(row["record"]))
            except (ValueError, TypeError):
                raise ProtocolError(
                    "EGRESS_ALTERED", f"record {row['seq']} of the egress log can't be read"
                ) from None
            yield record, row["digest"], row["signature"]


def verify(store: Store, key: PublicKey, heads: Mapping[str, Head]) -> Head:
    """Check the whole log: every record's digest, signature, place and link.

    Args:
        store: the node's database.
        key: the node's public identity key.
        heads: ends of the log that were seen elsewhere, by where; the log must pass through each.

    Returns:
        The log's head.

    Raises:
        ProtocolError: a record was altered, dropped or re-ordered, or the log was cut off; the message says where.
    """
    previous, seq, passed = GENESIS, 0, {(0, GENESIS)}
    for record, digest, signature in _rows(store):
        seq += 1
        if record.seq != seq:
            raise ProtocolError(
                "EGRESS_GAP", f"the egress log has no record {seq}; {record.seq} stands there"
            )
        if record.previous != previous:
            raise ProtocolError(
                "EGRESS_BROKEN", f"record {seq} of the egress log doesn't follow record {seq - 1}"
            )
        if record.digest() != digest:
            raise ProtocolError("EGRESS_ALTERED", f"record {seq} of the egress log was altered")
        try:
            key.verify(DOMAIN, bytes.fromhex(digest), bytes.fromhex(signature))
        except (ConcordatError, ValueError):
            raise ProtocolError(
                "EGRESS_ALTERED", f"record {seq} of the egress log isn't signed by this node"
            ) from None
        previous = digest
        passed.add((seq, digest))
    for where, head in heads.items():
        if (head.seq, head.digest) not in passed:
            raise ProtocolError(
                "EGRESS_CUT", f"the egress log ends at {seq}, but {where} has seen record {head.seq} of it"
            )
    return Head(seq, previous)


def read_head(path: Path) -> Head | None:
    """Read a head file, or None if there is none yet."""
    return Head(**json.loads(path.read_bytes())) if path.exists() else None
