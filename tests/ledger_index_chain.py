"""A chain for the index that a test writes: blocks with the ledger's events, and forks."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import sqlalchemy as sa
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger import storage
from ledger.abi import canonical_type, ledger_abi, signature
from ledger.client.reading import Block, Entry
from ledger.index import folding, tables
from protocol.errors import Unavailable

CONTRACT = b"\7" * 20
A, B, LIEN, TAG = (bytes([number]) * 32 for number in (1, 2, 3, 4))


def packed(**fields: int) -> int:
    word, shift = 0, 0
    for field, (_, bits) in zip(dataclasses.fields(folding.Slot), storage.CLAIM, strict=True):
        word |= fields.get(field.name, 0) << shift
        shift += bits
    return word


def event(name: str, **values: Any) -> tuple[tuple[bytes, ...], bytes]:
    entry = next(one for one in ledger_abi() if one["type"] == "event" and one["name"] == name)
    topics = [keccak(text=signature(entry))]
    kinds, plain = [], []
    for one in entry["inputs"]:
        if one["indexed"]:
            topics.append(encode([canonical_type(one)], [values[one["name"]]]))
        else:
            kinds.append(canonical_type(one))
            plain.append(values[one["name"]])
    return tuple(topics), encode(kinds, plain)


class Chain:
    """Blocks with events; a fork replaces those from a height on."""

    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, list[tuple[tuple[bytes, ...], bytes]]]] = []
        self.silent = False
        self.moves: list[Any] = []

    def add(self, *events: tuple[tuple[bytes, ...], bytes], salt: str = "") -> None:
        seed = f"{len(self.blocks)}/{salt}/{self.blocks[-1][0].hex() if self.blocks else ''}"
        self.blocks.append((hashlib.sha256(seed.encode()).digest(), list(events)))

    def block(self, number: int | None = None) -> Block | None:
        if self.silent:
            raise Unavailable("LEDGER_SILENT", "silent")
        place = len(self.blocks) - 1 if number is None else number
        if not 0 <= place < len(self.blocks):
            return None
        parent = self.blocks[place - 1][0] if place else bytes(32)
        return Block(place, self.blocks[place][0], parent, 1_000 + place)

    def entries(self, address: bytes, first: int, last: int) -> list[Entry]:
        assert address == CONTRACT
        found = []
        for number in range(first, min(last, len(self.blocks) - 1) + 1):
            digest, events = self.blocks[number]
            for index, (topics, data) in enumerate(events):
                found.append(Entry(number, digest, index, digest, topics, data))
        if self.moves:
            self.moves.pop(0)()
        return found


def state(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.begin() as db:
        return {
            table.name: [tuple(row) for row in db.execute(sa.select(table).order_by(*table.primary_key))]
            for table in (tables.claims, tables.liens, tables.tags)
        }


def opened(claim: bytes, cap: int = 1_000_000, pledged: int = 0) -> list[Any]:
    body = (claim, B, bytes(32), bytes(32), bytes(32), bytes(32))
    return [
        event("BodySet", claimId=claim, body=body),
        event("State", claimId=claim, packed=packed(cap=cap, pledged=pledged, grade=2, seq=1)),
        event("TagClaimed", tag=TAG, claimId=claim, epoch=1),
    ]


def lien(claim: bytes, ppm: int, status: int = 1) -> Any:
    return event("LienSet", claimId=claim, lienId=LIEN, ppm=ppm, status=status, holder=B)
