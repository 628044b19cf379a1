"""The outbox: calls that are signed and durable before they are sent, and the only authority on nonces.

Invariants:
    - One row per idempotency key. The same key with the same call returns the first row; with another call it is
      refused.
    - One nonce row per sender, taken under the database's lock in the transaction that stores the signed call, so
      processes that share the database never take a nonce twice and never leave one out.
    - A state changes only along `submission.check_step`.

SQLite (BEGIN IMMEDIATE, synchronous=FULL) or PostgreSQL (SELECT … FOR UPDATE).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from eth_hash.auto import keccak
from sqlalchemy.engine import Connection, Engine

from ledger.client.ports import Place, Signer
from ledger.client.submission import State, Submission, check_step
from ledger.database import open_engine
from protocol.canonical import lp
from protocol.errors import LedgerError

_metadata = sa.MetaData()
_nonces = sa.Table(
    "ledger_nonce",
    _metadata,
    sa.Column("sender", sa.LargeBinary(20), primary_key=True),
    sa.Column("next", sa.BigInteger, nullable=False),
)
_calls = sa.Table(
    "ledger_call",
    _metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("sender", sa.LargeBinary(20), nullable=False),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("block", sa.BigInteger),
    sa.Column("block_hash", sa.LargeBinary(32), nullable=False, default=b""),
    sa.Column("succeeded", sa.Boolean),
    sa.Column("refusal", sa.String(80), nullable=False, default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("filler", sa.LargeBinary, nullable=False, default=b""),
    sa.UniqueConstraint("sender", "nonce"),
)

FILLER_GAS = 21_000


def connect(url: str) -> Engine:
    """Return an engine for the outbox's database, with its tables.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
    """
    engine = open_engine(url)
    _metadata.create_all(engine)
    return engine


class Outbox:
    """Calls of one database; several processes may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Close the database's connections."""
        self._engine.dispose()

    def add(self, key: str, signer: Signer, to: bytes, data: bytes, gas: int) -> Submission:
        """Sign a call with its sender's next nonce and store it; return it. It is sent by the pump.

        Args:
            key: the caller's idempotency key, up to 200 characters.
            signer: who sends.
            to: called address, 20 bytes.
            data: call data.
            gas: limit.

        Raises:
            LedgerError: ``OUTBOX_KEY`` for an empty or long key, ``OUTBOX_OTHER_CALL`` if the key stands for
                another call.
        """
        if not 1 <= len(key) <= 200:
            raise LedgerError("OUTBOX_KEY", "An idempotency key must have 1 to 200 characters.")
        digest = hashlib.sha256(lp("ledger-call/v1", signer.address, to, data, gas)).digest()
        try:
            return self._add(key, digest, signer, to, data, gas)
        except sa.exc.IntegrityError:
            # Two processes met on one key with different senders, hence under different locks: look again.
            return self._add(key, digest, signer, to, data, gas)

    def _add(self, key: str, digest: bytes, signer: Signer, to: bytes, data: bytes, gas: int) -> Submission:
        with self._engine.begin() as db:
            nonce = self._lock(db, signer.address)
            known = db.execute(sa.select(_calls).where(_calls.c.key == key)).one_or_none()
            if known is not None:
                if known.digest != digest:
                    raise LedgerError("OUTBOX_OTHER_CALL", "This idempotency key stands for another call.")
                return _submission(known)
            raw = signer.sign(nonce, to, data, gas)
            db.execute(sa.update(_nonces).where(_nonces.c.sender == signer.address).values(next=nonce + 1))
            db.execute(
                sa.insert(_calls).values(
                    key=key,
                    digest=digest,
                    sender=signer.address,
                    nonce=nonce,
                    raw=raw,
                    hash=keccak(raw),
                    state=State.QUEUED,
                )
            )
        return self.get(key)

    def adopt(self, sender: bytes, count: int) -> None:
        """Begin a sender's nonces at what the chain counts, if the outbox has none for it.

        For a key that sent before it had an outbox; a key must never have two.
        """
        with self._engine.begin() as db:
            if self._lock(db, sender) == 0:
                db.execute(sa.update(_nonces).where(_nonces.c.sender == sender).values(next=count))

    def _lock(self, db: Connection, sender: bytes) -> int:
        """Return the sender's next nonce; its row is ours until the transaction ends."""
        query = sa.select(_nonces.c.next).where(_nonces.c.sender == sender).with_for_update()
        found = db.execute(query).scalar_one_or_none()
        if found is None:
            insert = sa.text(
                "INSERT INTO ledger_nonce (sender, next) VALUES (:sender, 0) ON CONFLICT DO NOTHING"
            )
            db.execute(insert, {"sender": sender})
            found = db.execute(query).scalar_one()
        return int(found)

    def get(self, key: str) -> Submission:
        """Return a call.

        Raises:
            LedgerError: ``OUTBOX_UNKNOWN``.
        """
        with self._read() as db:
            row = db.execute(sa.select(_calls).where(_calls.c.key == key)).one_or_none()
        if row is None:
            raise LedgerError("OUTBOX_UNKNOWN", "No call has this idempotency key.")
        return _submission(row)

    def open(self, limit: int) -> list[Submission]:
        """Return calls that are not final yet, each sender's in the order of nonces."""
        query = (
            sa.select(_calls)
            .where(_calls.c.state.in_([State.QUEUED, State.INCLUDED]))
            .order_by(_calls.c.nonce)
            .limit(limit)
        )
        with self._read() as db:
            return [_submission(row) for row in db.execute(query)]

    def unfilled(self, limit: int) -> list[tuple[Submission, bytes]]:
        """Return refused calls whose nonce must still be filled, with the bytes to fill it (empty at first)."""
        query = (
            sa.select(_calls).where(_calls.c.state == State.REFUSED, _calls.c.block.is_(None)).limit(limit)
        )
        with self._read() as db:
            return [(_submission(row), row.filler) for row in db.execute(query)]

    def sent(self, key: str) -> None:
        """Count one attempt."""
        with self._engine.begin() as db:
            db.execute(sa.update(_calls).where(_calls.c.key == key).values(attempts=_calls.c.attempts + 1))

    def store_filler(self, key: str, raw: bytes) -> None:
        """Keep the transaction that fills a refused call's nonce, before it is sent."""
        with self._engine.begin() as db:
            db.execute(sa.update(_calls).where(_calls.c.key == key).values(filler=raw))

    def move(
        self,
        key: str,
        state: State,
        place: Place | None = None,
        succeeded: bool | None = None,
        refusal: str = "",
    ) -> Submission:
        """Take a call one step on; the same step again changes nothing.

        Raises:
            LedgerError: ``OUTBOX_STEP``, ``OUTBOX_UNKNOWN``.
        """
        with self._engine.begin() as db:
            row = db.execute(sa.select(_calls).where(_calls.c.key == key).with_for_update()).one_or_none()
            if row is None:
                raise LedgerError("OUTBOX_UNKNOWN", "No call has this idempotency key.")
            check_step(State(row.state), state)
            values: dict[str, Any] = {"state": state, "succeeded": succeeded, "refusal": refusal}
            values["block"] = None if place is None else place.block
            values["block_hash"] = b"" if place is None else place.block_hash
            db.execute(sa.update(_calls).where(_calls.c.key == key).values(**values))
        return self.get(key)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.begin() as db:
            yield db


def _submission(row: Any) -> Submission:
    return Submission(
        key=row.key,
        sender=bytes(row.sender),
        nonce=row.nonce,
        raw=bytes(row.raw),
        hash=bytes(row.hash),
        state=State(row.state),
        block=row.block,
        block_hash=bytes(row.block_hash),
        succeeded=row.succeeded,
        refusal=row.refusal,
        attempts=row.attempts,
    )
