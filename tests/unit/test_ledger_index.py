"""The event index: follows, folds, and goes back when the chain took another course."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledger_index_chain import CONTRACT, LIEN, A, B, Chain, event, lien, opened, packed, state

from ledger import storage
from ledger.index import folding, tables
from ledger.index.folding import Slot
from ledger.index.following import Follower, Happened
from protocol.errors import Unavailable


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = tables.connect(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield made
    made.dispose()


def test_the_slot_reads_as_the_contract_packs_it() -> None:
    word = packed(cap=7, pledged=6, seq=5, due_week=3_000, grade=1, flags=9, end=2, hold_until=1 << 31)
    slot = Slot.of(word.to_bytes(32, "big"))
    assert (slot.cap, slot.pledged, slot.seq, slot.due_week, slot.grade) == (7, 6, 5, 3_000, 1)
    assert folding.flag_names(slot.flags) == ["short", "hold"]
    assert (slot.end, slot.hold_until, slot.dispute_until) == (2, 1 << 31, 0)
    assert sum(bits for _, bits in storage.CLAIM) == 256
    spelled = [re.sub("([A-Z])", lambda found: "_" + found[1].lower(), name) for name, _ in storage.CLAIM]
    assert [field.name for field in dataclasses.fields(Slot)] == spelled


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
