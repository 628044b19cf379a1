"""What an institution keeps: its receivables, and the requests between it and others.

States of a request::

    OPEN    waits for the other party (out), or for this one (in)
    SENT    this party signed last and submitted it
    DONE    final on the ledger
    REFUSED the ledger or the other party refused; `code` says why
    DECLINED somebody said no

Dossiers and requests lie sealed; what stays readable is the claim's id, the kind, the peer and the state.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from ledger.index import tables
from ledger.service.wallet import Wallet
from protocol.errors import LedgerError

OPEN, SENT, DONE, REFUSED, DECLINED = "open", "sent", "done", "refused", "declined"
OUT, IN = "out", "in"

PAGE = 200
"""Entries of a list that are shown at once."""


@dataclass(frozen=True)
class Receivable:
    """A receivable that this institution has a part in.

    Attributes:
        claim: 32 bytes.
        part: ``owner``, ``obligor`` or ``bank``.
        content: dossier, opening, and which key signs; see `ledger.service.desk`.
        created_at: Unix seconds.
        paid: minor units that were paid or credited.
    """

    claim: bytes
    part: str
    content: Mapping[str, Any] = field(repr=False)
    created_at: int
    paid: int


@dataclass(frozen=True)
class Request:
    """A statement that needs two parties.

    Attributes:
        id: 32 hexadecimal digits.
        direction: ``out`` or ``in``.
        peer: the other institution.
        kind: what is asked for.
        claim: 32 bytes.
        content: statement, signatures, dossier.
        state: see the module.
        code: why it was refused, or "".
        detail: arguments of the refusal.
        created_at: Unix seconds.
        told: out: the peer has it; in: the peer knows how it ended.
    """

    id: str
    direction: str
    peer: str
    kind: str
    claim: bytes
    content: Mapping[str, Any] = field(repr=False)
    state: str
    code: str
    detail: Mapping[str, Any]
    created_at: int
    told: bool


class Tray:
    """Receivables and requests in the service's database."""

    def __init__(self, engine: Engine, wallet: Wallet) -> None:
        self._engine = engine
        self._wallet = wallet

    # -- receivables ----------------------------------------------------------------------------------------

    def keep(self, claim: bytes, part: str, content: Mapping[str, Any], file: bytes = b"") -> None:
        """Keep a receivable, or what is newly known of it."""
        table = tables.receivables
        sealed = self._wallet.seal(content, _place(claim))
        with self._engine.begin() as db:
            values = {"sealed": sealed, "part": part, "file": file}
            if db.execute(sa.update(table).where(table.c.claim == claim).values(**values)).rowcount == 0:
                db.execute(
                    sa.insert(table).values(claim=claim, created_at=int(time.time()), paid=0, **values)
                )

    def receivable(self, claim: bytes) -> Receivable:
        """Return a receivable.

        Raises:
            LedgerError: ``RECEIVABLE_UNKNOWN``.
        """
        table = tables.receivables
        with self._engine.begin() as db:
            row = db.execute(sa.select(table).where(table.c.claim == claim)).one_or_none()
        if row is None:
            raise LedgerError("RECEIVABLE_UNKNOWN", "This institution has no part in such a receivable.")
        return self._receivable(row)

    def receivables(self, limit: int = PAGE, offset: int = 0) -> list[Receivable]:
        """Return a page of the receivables, newest first."""
        table = tables.receivables
        query = sa.select(table).order_by(table.c.created_at.desc(), table.c.claim)
        with self._engine.begin() as db:
            rows = db.execute(query.limit(limit).offset(offset)).all()
        return [self._receivable(row) for row in rows]

    def by_file(self, digest: bytes) -> list[Receivable]:
        """Return the receivables whose document is a file, by its SHA-256."""
        table = tables.receivables
        with self._engine.begin() as db:
            rows = db.execute(sa.select(table).where(table.c.file == digest)).all()
        return [self._receivable(row) for row in rows]

    def _receivable(self, row: Any) -> Receivable:
        claim = bytes(row.claim)
        content = self._wallet.open(bytes(row.sealed), _place(claim))
        return Receivable(claim, row.part, content, row.created_at, row.paid)

    # -- liens ----------------------------------------------------------------------------------------------

    def hold(self, lien: bytes, claim: bytes, key_index: int) -> None:
        """Remember which key holds a lien, before it is asked for."""
        table = tables.holdings
        with self._engine.begin() as db:
            db.execute(sa.delete(table).where(table.c.lien == lien))
            db.execute(sa.insert(table).values(lien=lien, claim=claim, key_index=key_index))

    def holdings(self, claim: bytes) -> dict[bytes, int]:
        """Return the key index of each lien that was asked for on a claim; not all of them were taken."""
        table = tables.holdings
        with self._engine.begin() as db:
            rows = db.execute(sa.select(table).where(table.c.claim == claim)).all()
        return {bytes(row.lien): row.key_index for row in rows}

    # -- requests -------------------------------------------------------------------------------------------

    def add(
        self,
        direction: str,
        peer: str,
        kind: str,
        claim: bytes,
        content: Mapping[str, Any],
        *,
        id_: str = "",
        state: str = OPEN,
    ) -> Request:
        """Keep a request; the same id again changes nothing."""
        name, now = id_ or secrets.token_hex(16), int(time.time())
        with self._engine.begin() as db:
            known = db.execute(
                sa.select(tables.requests.c.id).where(tables.requests.c.id == name)
            ).one_or_none()
            if known is None:
                db.execute(
                    sa.insert(tables.requests).values(
                        id=name,
                        direction=direction,
                        peer=peer,
                        kind=kind,
                        claim=claim,
                        sealed=self._wallet.seal(content, "request/" + name),
                        state=state,
                        created_at=now,
                        updated_at=now,
                    )
                )
        return self.request(name)

    def request(self, name: str) -> Request:
        """Return a request.

        Raises:
            LedgerError: ``REQUEST_UNKNOWN``.
        """
        with self._engine.begin() as db:
            row = db.execute(sa.select(tables.requests).where(tables.requests.c.id == name)).one_or_none()
        if row is None:
            raise LedgerError("REQUEST_UNKNOWN", "There is no such request.")
        return self._request(row)

    def requests(
        self, claim: bytes | None = None, *states: str, limit: int = PAGE, offset: int = 0
    ) -> list[Request]:
        """Return a page of the requests, newest first; of one claim, or in some states."""
        table = tables.requests
        query = sa.select(table).order_by(table.c.created_at.desc(), table.c.id)
        if claim is not None:
            query = query.where(table.c.claim == claim)
        if states:
            query = query.where(table.c.state.in_(states))
        with self._engine.begin() as db:
            rows = db.execute(query.limit(limit).offset(offset)).all()
        return [self._request(row) for row in rows]

    def under_way(self) -> list[Request]:
        """Return what the worker looks after: what was sent here, and what others have not answered yet."""
        table = tables.requests
        asked = (table.c.state == OPEN) & (table.c.direction == OUT)
        query = sa.select(table).where((table.c.state == SENT) | asked)
        with self._engine.begin() as db:
            return [self._request(row) for row in db.execute(query).all()]

    def waiting(self) -> int:
        """Return how many requests of others wait for an answer."""
        table = tables.requests
        query = sa.select(sa.func.count()).where(table.c.state == OPEN, table.c.direction == IN)
        with self._engine.begin() as db:
            return int(db.execute(query).scalar_one())

    def step(self, name: str, state: str, code: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """Take a request to a state."""
        table = tables.requests
        values = {
            "state": state,
            "code": code,
            "detail": json.dumps(detail or {}),
            "updated_at": int(time.time()),
        }
        with self._engine.begin() as db:
            db.execute(sa.update(table).where(table.c.id == name).values(**values))

    def finish(self, name: str, claim: bytes, minor: int) -> None:
        """Take a request to DONE, and add what it paid or credited, in one transaction."""
        table, mine = tables.requests, tables.receivables
        with self._engine.begin() as db:
            ending = sa.update(table).where(table.c.id == name, table.c.state != DONE)
            values = {"state": DONE, "code": "", "updated_at": int(time.time())}
            if db.execute(ending.values(**values)).rowcount and minor:
                db.execute(sa.update(mine).where(mine.c.claim == claim).values(paid=mine.c.paid + minor))

    def untold(self) -> list[Request]:
        """Return incoming requests whose end the asking party has not been told."""
        table = tables.requests
        ended = table.c.state.in_((DONE, REFUSED, DECLINED))
        query = sa.select(table).where(table.c.direction == IN, table.c.told.is_(False), ended)
        with self._engine.begin() as db:
            return [self._request(row) for row in db.execute(query).all()]

    def told(self, name: str) -> None:
        """Note that the other party has the request, or knows its end."""
        with self._engine.begin() as db:
            db.execute(sa.update(tables.requests).where(tables.requests.c.id == name).values(told=True))

    def _request(self, row: Any) -> Request:
        return Request(
            id=row.id,
            direction=row.direction,
            peer=row.peer,
            kind=row.kind,
            claim=bytes(row.claim),
            content=self._wallet.open(bytes(row.sealed), "request/" + row.id),
            state=row.state,
            code=row.code,
            detail=json.loads(row.detail or "{}"),
            created_at=row.created_at,
            told=bool(row.told),
        )

    # -- keys given to peers --------------------------------------------------------------------------------

    def given(self, purpose: bytes) -> tuple[int, Any] | None:
        """Return (key index, content) of what was promised for a purpose, if it was."""
        with self._engine.begin() as db:
            row = db.execute(sa.select(tables.given).where(tables.given.c.key == purpose)).one_or_none()
        if row is None:
            return None
        return row.key_index, self._wallet.open(bytes(row.sealed), "given/" + purpose.hex())

    def give(self, purpose: bytes, role: int, index: int, content: Any) -> None:
        """Remember a key that was named to a peer for a purpose."""
        sealed = self._wallet.seal(content, "given/" + purpose.hex())
        with self._engine.begin() as db:
            db.execute(sa.insert(tables.given).values(key=purpose, role=role, key_index=index, sealed=sealed))

    def used(self, purpose: bytes, after: bytes) -> None:
        """Move a promise that was kept out of the way; the next one for its purpose gets a fresh key."""
        table = tables.given
        row = self.given(purpose)
        if row is None:
            return
        sealed = self._wallet.seal(row[1], "given/" + after.hex())
        with self._engine.begin() as db:
            db.execute(sa.delete(table).where(table.c.key == after))
            db.execute(sa.update(table).where(table.c.key == purpose).values(key=after, sealed=sealed))


def _place(claim: bytes) -> str:
    return "receivable/" + claim.hex()
