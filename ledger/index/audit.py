"""The audit: reads the chain once more and names every difference between it and the index.

Compared are the hashes of the stored blocks, every event with its place and fields, each claim's packed slot and
body, each lien and each tag, all at the newest block that the index covers. Nothing is mended: `rebuild` is for the
operator to order, once the difference is understood.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from ledger.abi import decode_result, encode_call
from ledger.client.reading import ChainReader
from ledger.commitments import Body
from ledger.index import folding, tables
from ledger.index.following import BATCH, read_entry
from protocol.errors import Unavailable

_BODY = ("owner", "obligor", "terms_hash", "doc_root", "contract_tag", "root")


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        what: ``block``, ``event``, ``claim``, ``lien`` or ``tag``.
        which: its name: a block's number, a place, or hexadecimal digits.
        field: what differs; "" if the whole is missing.
        index: what the index has, or None.
        chain: what the chain has, or None.
    """

    what: str
    which: str
    field: str
    index: Any
    chain: Any

    def to_json(self) -> dict[str, Any]:
        """Return the difference as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found.

    Attributes:
        height: the block that it judged at.
        compared: how many of each were compared.
        differences: all of them, in order.
    """

    height: int
    compared: dict[str, int]
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "height": self.height,
            "compared": self.compared,
            "differences": [each.to_json() for each in self.differences],
        }


def audit(engine: Engine, chain: ChainReader, contract: bytes) -> Report:
    """Compare index and chain.

    Args:
        engine: the index' database.
        chain: the own node.
        contract: the ledger's address, 20 bytes.

    Raises:
        Unavailable: the node does not answer; ``AUDIT_EMPTY`` before the index has read a block.
    """
    with engine.begin() as db:
        height = db.execute(sa.select(sa.func.max(tables.blocks.c.number))).scalar()
        found = {
            table.name: db.execute(sa.select(table)).all()
            for table in (tables.blocks, tables.events, tables.claims, tables.liens, tables.tags)
        }
    if height is None:
        raise Unavailable(
            "AUDIT_EMPTY", "The index has read nothing yet.", "Wait until it follows the chain."
        )
    reading = _Reading(chain, contract, int(height))
    differences = [
        *reading.blocks(found["index_block"]),
        *reading.events(found["index_event"]),
        *reading.claims(found["index_claim"]),
        *reading.liens(found["index_lien"]),
        *reading.tags(found["index_tag"]),
    ]
    compared = {name.removeprefix("index_"): len(rows) for name, rows in found.items()}
    return Report(int(height), compared, tuple(differences))


class _Reading:
    def __init__(self, chain: ChainReader, contract: bytes, height: int) -> None:
        self._chain, self._contract, self._height = chain, contract, height
        self._claims: set[bytes] = set()
        self._liens: set[tuple[bytes, bytes]] = set()
        self._tags: set[bytes] = set()

    def _view(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        data = self._chain.call(self._contract, encode_call(function, arguments), self._height)
        return decode_result(function, data)

    def blocks(self, rows: Any) -> Iterator[Difference]:
        """Compare the hashes of stored blocks."""
        for row in rows:
            block = self._chain.block(row.number)
            stands = None if block is None else block.hash.hex()
            if stands != bytes(row.hash).hex():
                yield Difference("block", str(row.number), "hash", bytes(row.hash).hex(), stands)

    def events(self, rows: Any) -> Iterator[Difference]:
        """Compare every event, and remember what the chain's own events speak of."""
        kept = {(row.block, row.position): row for row in rows}
        for first in range(0, self._height + 1, BATCH):
            last = min(first + BATCH - 1, self._height)
            for entry in self._chain.entries(self._contract, first, last):
                each = read_entry(entry, 0)
                if each is None:
                    continue
                self._remember(each.name, each.claim, each.fields)
                which, row = f"{each.block}/{each.position}", kept.pop((each.block, each.position), None)
                if row is None:
                    yield Difference("event", which, "", None, each.name)
                    continue
                pairs = {
                    "name": (row.name, each.name),
                    "claim": (bytes(row.claim).hex(), each.claim.hex()),
                    "transaction": (bytes(row.transaction).hex(), each.transaction.hex()),
                    "block_hash": (bytes(row.block_hash).hex(), entry.block_hash.hex()),
                    "fields": (_loaded(row.fields), each.fields),
                }
                for field, (index, stands) in pairs.items():
                    if index != stands:
                        yield Difference("event", which, field, index, stands)
        for (block, position), row in sorted(kept.items()):
            yield Difference("event", f"{block}/{position}", "", row.name, None)

    def _remember(self, name: str, claim: bytes, fields: dict[str, Any]) -> None:
        if name in ("State", "BodySet"):
            self._claims.add(claim)
        elif name == "LienSet" and fields["status"]:
            self._liens.add((claim, bytes.fromhex(fields["lienId"])))
        elif name == "TagClaimed":
            self._tags.add(bytes.fromhex(fields["tag"]))

    def claims(self, rows: Any) -> Iterator[Difference]:
        """Compare slots and bodies."""
        kept = {bytes(row.claim): row for row in rows}
        for claim in sorted(self._claims | kept.keys()):
            row, name = kept.get(claim), claim.hex()
            word = int(self._view("packedOf", claim)[0]).to_bytes(32, "big")
            if row is None or not any(word):
                yield Difference(
                    "claim", name, "", None if row is None else "known", "known" if any(word) else None
                )
                continue
            index, stands = folding.Slot.of(bytes(row.packed)), folding.Slot.of(word)
            for field in folding.Slot.__slots__:
                if getattr(index, field) != getattr(stands, field):
                    yield Difference("claim", name, field, getattr(index, field), getattr(stands, field))
            body = Body(*(bytes(getattr(row, field)) for field in _BODY)).digest().hex()
            entry = self._view("statusOf", claim)[0]
            if body != entry[19].hex():
                yield Difference("claim", name, "body", body, entry[19].hex())

    def liens(self, rows: Any) -> Iterator[Difference]:
        """Compare liens."""
        kept = {(bytes(row.claim), bytes(row.lien)): row for row in rows}
        for claim, lien in sorted(self._liens | kept.keys()):
            row, name = kept.get((claim, lien)), f"{claim.hex()}/{lien.hex()}"
            ppm, status, _, holder = self._view("lienOf", claim, lien)[0]
            if row is None or status == 0:
                if row is not None or status:
                    yield Difference(
                        "lien", name, "", None if row is None else "known", "known" if status else None
                    )
                continue
            pairs = {
                "ppm": (row.ppm, ppm),
                "status": (row.status, status),
                "holder": (bytes(row.holder).hex(), holder.hex()),
            }
            for field, (index, stands) in pairs.items():
                if index != stands:
                    yield Difference("lien", name, field, index, stands)

    def tags(self, rows: Any) -> Iterator[Difference]:
        """Compare who holds each tag."""
        kept = {bytes(row.tag): bytes(row.claim) for row in rows}
        for tag in sorted(self._tags | kept.keys()):
            stands = self._view("claimOf", tag)[0]
            if kept.get(tag, bytes(32)) != stands:
                index = kept[tag].hex() if tag in kept else None
                yield Difference("tag", tag.hex(), "claim", index, stands.hex() if any(stands) else None)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
