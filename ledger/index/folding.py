"""What an event of the ledger changes in the index. No I/O beyond the open transaction.

Specification: the packed slot of a claim as `Types.sol` lays it out (first field in the lowest bits), and the four
events that carry state: ``State``, ``BodySet``, ``LienSet``, ``TagClaimed``. All others only tell the story.

Invariant: folding all events in order gives the same tables whatever was there before, so an index can always be made
again from its events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger.abi import Event
from ledger.commitments import WEEK
from ledger.index import tables
from ledger.storage import CLAIM, unpack

GRADES = {0: "none", 1: "attested", 2: "confirmed"}
ENDS = {0: "live", 1: "settled", 2: "void"}
FLAGS = {1: "short", 2: "conflict", 4: "disputed", 8: "hold"}
LIENS = {1: "live", 2: "released", 3: "settled", 4: "contested"}


@dataclass(frozen=True, slots=True)
class Slot:
    """A claim's packed slot, read; fields in the order of `ledger.storage.CLAIM`.

    Shares are in parts per million of the first payable, times in Unix seconds.
    """

    cap: int
    pledged: int
    seq: int
    version: int
    due_week: int
    lapse_week: int
    grade: int
    flags: int
    end: int
    liens: int
    children: int
    aliases: int
    epoch: int
    hold_until: int
    dispute_until: int

    @classmethod
    def of(cls, word: bytes) -> Slot:
        """Read 32 bytes."""
        return cls(*unpack(CLAIM, int.from_bytes(word, "big")).values())

    def at(self, time: int) -> tuple[str, list[str]]:
        """Return (state, names of the flags that are up) at a time in Unix seconds; expiry is computed."""
        lapsed = GRADES[self.grade] == "attested" and self.end == 0 and time // WEEK > self.lapse_week
        end = "void" if lapsed else ENDS[self.end]
        flags = (
            self.flags & 3 | (4 if self.dispute_until > time else 0) | (8 if self.hold_until > time else 0)
        )
        return (GRADES[self.grade] if end == "live" else end), flag_names(flags)


def flag_names(flags: int) -> list[str]:
    """Return the names of the flags that are up."""
    return [name for bit, name in FLAGS.items() if flags & bit]


def fields_json(event: Event) -> str:
    """Return an event's fields as the index keeps them: bytes as hexadecimal digits, structs as lists."""
    return json.dumps({name: plain(value) for name, value in event.fields.items()}, sort_keys=True)


def plain(value: Any) -> Any:
    """Return a value of the ABI as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def claim_of(event: Event) -> bytes:
    """Return the claim that an event concerns, or 32 zero bytes."""
    found = event.fields.get("claimId", event.fields.get("contender", bytes(32)))
    return bytes(found)


def apply(db: Connection, name: str, claim: bytes, fields: dict[str, Any]) -> None:
    """Change the index' state by one event, as the index keeps it.

    Args:
        db: the open transaction.
        name: the event's name.
        claim: 32 bytes.
        fields: as `fields_json` wrote them.
    """
    if name == "State":
        _update_claim(db, claim, packed=int(fields["packed"]).to_bytes(32, "big"))
    elif name == "BodySet":
        names = ("owner", "obligor", "terms_hash", "doc_root", "contract_tag", "root")
        body = dict(zip(names, (bytes.fromhex(each) for each in fields["body"]), strict=True))
        _update_claim(db, claim, **body)
    elif name == "LienSet":
        lien = bytes.fromhex(fields["lienId"])
        row = (tables.liens.c.claim == claim) & (tables.liens.c.lien == lien)
        db.execute(sa.delete(tables.liens).where(row))
        if fields["status"]:
            db.execute(
                sa.insert(tables.liens).values(
                    claim=claim,
                    lien=lien,
                    ppm=fields["ppm"],
                    status=fields["status"],
                    holder=bytes.fromhex(fields["holder"]),
                )
            )
    elif name == "TagClaimed":
        tag = bytes.fromhex(fields["tag"])
        db.execute(sa.delete(tables.tags).where(tables.tags.c.tag == tag))
        db.execute(sa.insert(tables.tags).values(tag=tag, claim=claim, epoch=fields["epoch"]))


def _update_claim(db: Connection, claim: bytes, **values: bytes) -> None:
    changed = db.execute(sa.update(tables.claims).where(tables.claims.c.claim == claim).values(**values))
    if changed.rowcount == 0:
        db.execute(sa.insert(tables.claims).values(claim=claim, **values))


def rebuild(db: Connection) -> None:
    """Make the state again from all events."""
    for table in (tables.claims, tables.liens, tables.tags):
        db.execute(sa.delete(table))
    order = sa.select(tables.events).order_by(tables.events.c.block, tables.events.c.position)
    for row in db.execute(order).all():
        apply(db, row.name, bytes(row.claim), json.loads(row.fields))
