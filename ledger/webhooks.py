"""Webhooks: an institution's own systems are told of state changes, durably and signed.

Specification: Standard Webhooks 1.0 (standardwebhooks.com): headers ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature: v1,BASE64(HMAC-SHA256(secret, id.timestamp.body))``; a secret is ``whsec_`` and 24 to 64 bytes in
base64.

Invariants:
    - A delivery is stored in the transaction that stores the event, and only events under final blocks are stored, so
      nothing is told that is undone later on the embedded chain.
    - The id is the event's place on the ledger: the same event again has the same id, and the receiver drops it.
    - Retries back off from seconds to hours and end after about three days; then the delivery is ``failed`` and shown.

What each party learns: the receiver a claim's id, what happened, and shares; never a name, an amount or a document.
Not protected: whoever has the secret can forge. Redirects are not followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from ledger.index import tables
from ledger.index.following import Happened
from protocol.errors import ConfigurationError

RETRIES = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, 86_400, 86_400)
"""Seconds before each further attempt."""

EVENTS = {
    "Confirmed": "receivable.confirmed",
    "Attested": "receivable.attested",
    "Upgraded": "receivable.upgraded",
    "Pledged": "receivable.pledged",
    "LienSettled": "receivable.settled",
    "FreeSettled": "receivable.settled",
    "Credited": "receivable.credited",
    "LienAssigned": "receivable.lien-assigned",
    "LienFrozenUntil": "receivable.lien-frozen",
    "Renewed": "receivable.renewed",
    "Transferred": "receivable.transferred",
    "Split": "receivable.split",
    "Amended": "receivable.amended",
    "Reissued": "receivable.reissued",
    "Voided": "receivable.voided",
    "Held": "receivable.held",
    "Contended": "receivable.contended",
    "Adopted": "receivable.adopted",
    "Disputed": "receivable.disputed",
    "Resolved": "receivable.resolved",
    "TagCollision": "receivable.collision",
    "DuplicateNoticed": "receivable.duplicate",
}
"""Events of the ledger that are told, and under which type; a release shows as ``receivable.released``."""

_RELEASED = 2
_TOLD = ("ppm", "cap", "lien", "lienId")


@dataclass(frozen=True)
class Target:
    """An address to tell.

    Attributes:
        url: where to.
        secret: raw bytes.
        events: types; all if empty.
    """

    url: str
    secret: bytes = field(repr=False)
    events: tuple[str, ...] = ()


def read_secret(text: str) -> bytes:
    """Return the bytes of a ``whsec_`` secret.

    Raises:
        ConfigurationError: ``WEBHOOK_SECRET``.
    """
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith("whsec_") or not 24 <= len(secret) <= 64:
        raise ConfigurationError(
            "WEBHOOK_SECRET", "A webhook's secret must be whsec_ and 24 to 64 bytes in base64."
        )
    return secret


def sign(secret: bytes, identifier: str, timestamp: int, body: str) -> str:
    """Return the value of ``webhook-signature``."""
    mac = hmac.new(secret, f"{identifier}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def type_of(event: Happened) -> str:
    """Return the type under which an event is told, or ""."""
    if event.name == "LienSet" and event.fields.get("status") == _RELEASED:
        return "receivable.released"
    return EVENTS.get(event.name, "")


def payload(event: Happened) -> dict[str, Any]:
    """Return what is told of an event."""
    data: dict[str, Any] = {"claim": event.claim.hex(), "block": event.block}
    data.update({name: value for name, value in event.fields.items() if name in _TOLD})
    return {"type": type_of(event), "timestamp": event.time, "data": data}


class Deliveries:
    """Stores what is to be told, and tells it."""

    def __init__(
        self,
        engine: Engine,
        targets: Sequence[Target],
        client: httpx.Client,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._targets = {target.url: target for target in targets}
        self._client = client
        self._clock = clock

    def note(self, db: Connection, event: Happened) -> None:
        """Store the deliveries of an event, in the transaction that stores the event."""
        kind = type_of(event)
        for target in self._targets.values():
            if not kind or (target.events and kind not in target.events):
                continue
            identifier = f"evt_{event.transaction.hex()[:32]}_{event.position}"
            table = tables.deliveries
            known = sa.select(table.c.id).where(table.c.id == identifier, table.c.url == target.url)
            if db.execute(known).one_or_none() is None:
                body = json.dumps(payload(event), sort_keys=True)
                values = {"id": identifier, "url": target.url, "body": body, "attempts": 0}
                db.execute(sa.insert(table).values(**values, due_at=int(self._clock()), state="waiting"))

    def work(self, limit: int = 20) -> int:
        """Try what is due; return how many were delivered."""
        now, table = int(self._clock()), tables.deliveries
        query = sa.select(table).where(table.c.state == "waiting", table.c.due_at <= now)
        with self._engine.begin() as db:
            due = db.execute(query.order_by(table.c.due_at).limit(limit)).all()
        delivered = 0
        for row in due:
            done = self._try(row)
            delivered += done
            attempts = row.attempts + 1
            values: dict[str, Any] = {"attempts": attempts}
            if done:
                values["state"] = "delivered"
            elif attempts > len(RETRIES):
                values["state"] = "failed"
            else:
                values["due_at"] = now + RETRIES[attempts - 1]
            with self._engine.begin() as db:
                mine = (table.c.id == row.id) & (table.c.url == row.url)
                db.execute(sa.update(table).where(mine).values(**values))
        return delivered

    def _try(self, row: Any) -> bool:
        target = self._targets.get(row.url)
        if target is None:
            return False
        stamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "webhook-id": row.id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(target.secret, row.id, stamp, row.body),
        }
        try:
            answer = self._client.post(
                row.url, content=row.body.encode(), headers=headers, follow_redirects=False
            )
        except httpx.HTTPError:
            return False
        return 200 <= answer.status_code < 300

    def counts(self) -> dict[str, int]:
        """Return how many deliveries are in each state."""
        table = tables.deliveries
        query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
        with self._engine.begin() as db:
            return {state: int(count) for state, count in db.execute(query).all()}
