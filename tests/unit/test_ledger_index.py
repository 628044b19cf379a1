"""The event index: follows, folds, and goes back when the chain took another course."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger.abi import canonical_type, ledger_abi, signature
from ledger.client.reading import Block, Entry
from ledger.index import folding, tables
from ledger.index.folding import Slot
from ledger.index.following import Follower, Happened
from protocol.errors import Unavailable

CONTRACT = b"\7" * 20
A, B, LIEN, TAG = (bytes([number]) * 32 for number in (1, 2, 3, 4))


def packed(**fields: int) -> int:
    word, shift = 0, 0
    for name, bits in folding._LAYOUT:
        word |= fields.get(name, 0) << shift
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


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = tables.connect(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield made
    made.dispose()


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


def test_the_slot_reads_as_the_contract_packs_it() -> None:
    word = packed(cap=7, pledged=6, seq=5, due_week=3_000, grade=1, flags=9, end=2, hold_until=1 << 31)
    slot = Slot.of(word.to_bytes(32, "big"))
    assert (slot.cap, slot.pledged, slot.seq, slot.due_week, slot.grade) == (7, 6, 5, 3_000, 1)
    assert folding.flag_names(slot.flags) == ["short", "hold"]
    assert (slot.end, slot.hold_until, slot.dispute_until) == (2, 1 << 31, 0)
    assert sum(bits for _, bits in folding._LAYOUT) == 256


def test_it_follows_up_to_a_final_block_and_tells_each_event_once(engine: sa.Engine) -> None:
    chain, told = Chain(), []

    def listen(db: sa.Connection, one: Happened) -> None:
        told.append((one.block, one.name))

    chain.add()
    chain.add(*opened(A))
    chain.add(lien(A, 600_000))
    follower = Follower(engine, chain, CONTRACT, listen)
    assert follower.follow(1) == 3
    assert follower.height == 1
    assert state(engine)["index_lien"] == []
    assert follower.follow(2) == 1
    assert follower.follow(2) == 0
    assert told == [(1, "BodySet"), (1, "State"), (1, "TagClaimed"), (2, "LienSet")]
    assert state(engine)["index_lien"] == [(A, LIEN, 600_000, 1, B)]
    assert follower.reorganisations == 0
    chain.add(event("LienSet", claimId=A, lienId=LIEN, ppm=0, status=0, holder=B))
    follower.follow(3)
    assert state(engine)["index_lien"] == [], "a lien that moved to another claim is gone here"


def test_case_48_a_reorganisation_reverts_the_state(engine: sa.Engine) -> None:
    chain = Chain()
    chain.add()
    chain.add(*opened(A))
    follower = Follower(engine, chain, CONTRACT)
    follower.follow(1)
    before = state(engine)
    chain.add(lien(A, 600_000), event("State", claimId=A, packed=packed(cap=9, seq=2)))
    chain.add()
    follower.follow(3)
    assert state(engine) != before
    del chain.blocks[2:]
    chain.add(salt="other")
    chain.add(lien(A, 1), salt="other")
    assert follower.follow(2) == 0
    assert follower.reorganisations == 1
    assert state(engine) == before, "the pledge that was dropped is gone"
    follower.follow(3)
    assert state(engine)["index_lien"] == [(A, LIEN, 1, 1, B)]


def test_a_chain_that_moves_while_it_is_read_leaves_nothing_half_read(engine: sa.Engine) -> None:
    chain = Chain()
    chain.add()
    chain.add(*opened(A))

    def fork() -> None:
        del chain.blocks[1:]
        chain.add(*opened(B), salt="other")

    chain.moves = [fork]
    follower = Follower(engine, chain, CONTRACT)
    with pytest.raises(Unavailable, match=r"\[LEDGER_MOVED\]"):
        follower.follow(1)
    assert follower.height == -1
    assert state(engine)["index_claim"] == []
    follower.follow(1)
    assert [row[0] for row in state(engine)["index_claim"]] == [B]


def test_a_silent_node_changes_nothing(engine: sa.Engine) -> None:
    chain = Chain()
    chain.add(*opened(A))
    follower = Follower(engine, chain, CONTRACT)
    follower.follow(0)
    chain.silent = True
    with pytest.raises(Unavailable):
        follower.follow(5)
    chain.silent = False
    with pytest.raises(Unavailable, match=r"\[LEDGER_BEHIND\]"):
        follower.follow(5)
    assert follower.height == 0


def test_the_state_can_always_be_made_again(engine: sa.Engine) -> None:
    chain = Chain()
    chain.add(*opened(A), lien(A, 5))
    chain.add(*opened(B), event("State", claimId=A, packed=packed(cap=1, seq=2)), lien(A, 3))
    Follower(engine, chain, CONTRACT).follow(1)
    before = state(engine)
    with engine.begin() as db:
        db.execute(sa.update(tables.claims).values(packed=bytes(32)))
        db.execute(sa.delete(tables.tags))
        folding.rebuild(db)
    assert state(engine) == before


def test_two_followers_share_a_database(engine: sa.Engine) -> None:
    chain = Chain()
    for _ in range(3):
        chain.add()
    chain.add(*opened(A))
    first, second = (Follower(engine, chain, CONTRACT) for _ in range(2))
    chain.moves = [lambda: second.follow(3)]
    assert first.follow(3) == 0, "the other one read these blocks first"
    assert second.follow(3) == 0
    assert [row[0] for row in state(engine)["index_claim"]] == [A]
