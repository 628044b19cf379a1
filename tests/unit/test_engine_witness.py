"""A member's rules on hand-made checkpoints and records, without an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import coincurve
import pytest

from ledger.engine import evidence, genesis
from ledger.engine.checkpoints import Book
from ledger.engine.evidence import Statement
from ledger.engine.genesis import Genesis, sign_legacy
from ledger.engine.keys import LedgerKeys
from ledger.engine.records import BlockRecord
from ledger.engine.witness import Witness
from protocol import document
from protocol.checkpoint import START, Checkpoint, Note, cosign, sign
from protocol.errors import ConfigurationError, LedgerError, ProtocolError, Unavailable

BANKS = ("bank-a", "bank-b", "bank-c")
NOW = 1_800_000_000
KEYS = {name: LedgerKeys.generate() for name in ("operator", *BANKS)}


def founded() -> Genesis:
    chain_id = genesis.new_chain_id()
    raws, _ = genesis.deploy(chain_id, [("one", b"\x00"), ("two", b"\x00")])
    body = genesis.draft(
        KEYS["operator"].member("operator"),
        [KEYS[name].member(name) for name in BANKS],
        NOW,
        chain_id=chain_id,
        deployments=raws,
    )
    signed = document.sign(genesis.KIND, body, "operator", KEYS["operator"].identity)
    for name in BANKS:
        signed = document.add_signature(signed, name, KEYS[name].identity)
    return genesis.check(signed)


GENESIS = founded()


def checkpoint(size: int, previous: bytes = START, **changes: object) -> Checkpoint:
    made = Checkpoint(
        origin=GENESIS.origin,
        size=size,
        root=bytes([size]) * 32,
        chain_id=GENESIS.chain.chain_id,
        genesis=GENESIS.digest,
        registry=None,
        number=size - 1,
        block_hash=bytes([size]) * 32,
        state_root=bytes([size]) * 32,
        time=NOW + size,
        previous=previous,
        members=GENESIS.member_set,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def stated(of: Checkpoint, *banks: str, time: int | None = NOW) -> Statement:
    """Return what the operator signed, timestamped and cosigned, read back from its text."""
    key, note = KEYS["operator"].checkpoint, Note(of.text, ())
    note = note.plus(sign(of.text, GENESIS.origin, key))
    if time is not None:
        note = note.plus(cosign(of.text, GENESIS.origin, key, time))
    for bank in banks:
        note = note.plus(cosign(of.text, f"{GENESIS.origin}/{bank}", KEYS[bank].checkpoint, NOW))
    return evidence.read(note.encode(), GENESIS)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    book = Book(tmp_path / "book.sqlite")
    yield Witness(GENESIS, book, "bank-a", KEYS["bank-a"].checkpoint, lambda: NOW)
    book.close()


def kinds(witness: Witness) -> list[str]:
    return [each.kind for each in witness.book.evidence()]


FIRST = checkpoint(3)
SECOND = checkpoint(5, FIRST.digest)
KEY = coincurve.PrivateKey(b"\5" * 32)


def call(nonce: int = 0, to: bytes = b"\1" * 20) -> bytes:
    return sign_legacy(KEY, GENESIS.chain.chain_id, nonce, to, b"", 100_000)


def block(number: int, time: int = NOW, *raws: bytes) -> BlockRecord:
    return BlockRecord(number, time, bytes(32), raws or (call(),))


def test_a_chain_of_checkpoints_is_accepted_and_cosigned(witness: Witness) -> None:
    for each in (FIRST, SECOND):
        witness.check_next(stated(each))
        witness.accept(stated(each), each)
    assert witness.book.tip == (5, SECOND.digest)
    note = witness.book.at(5)
    assert note is not None
    assert evidence.read(note.encode(), GENESIS).members == {"bank-a": NOW}
    assert evidence.read(witness.latest(), GENESIS).members == {"bank-a": NOW}


@pytest.mark.parametrize(
    "offered",
    [checkpoint(5, b"\7" * 32), checkpoint(2, FIRST.digest, time=NOW + 3), checkpoint(9, SECOND.digest)],
    ids=["unknown predecessor", "smaller", "one left out"],
)
def test_what_does_not_extend_the_last_one_is_evidence(witness: Witness, offered: Checkpoint) -> None:
    witness.accept(stated(FIRST), FIRST)
    with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
        witness.check_next(stated(offered))
    assert kinds(witness) == ["NOT_AN_EXTENSION"]
    for refused in (
        lambda: witness.accept(stated(SECOND), SECOND),
        lambda: witness.observe(stated(SECOND)),
        lambda: witness.settle(stated(SECOND)),
        lambda: witness.hear("bank-b", stated(FIRST, "bank-b")),
        witness.latest,
        witness.final,
    ):
        with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
            refused()


def test_a_peer_with_a_checkpoint_between_two_of_ours_is_evidence(witness: Witness) -> None:
    for each in (FIRST, SECOND):
        witness.accept(stated(each), each)
    other = checkpoint(4, b"\7" * 32)
    with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
        witness.hear("bank-b", stated(other, "bank-b"))
    assert kinds(witness) == ["NOT_AN_EXTENSION"]


def test_two_checkpoints_on_one_predecessor_are_proof(witness: Witness) -> None:
    witness.accept(stated(FIRST), FIRST)
    witness.accept(stated(SECOND), SECOND)
    rival = checkpoint(4, FIRST.digest)
    with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
        witness.hear("bank-b", stated(rival, "bank-b"))
    assert kinds(witness) == ["TWO_HISTORIES"]
    evidence.judge(witness.book.evidence()[0], GENESIS)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (stated(FIRST), stated(SECOND), None),
        (stated(FIRST), stated(FIRST, time=NOW + 9), None),
        (stated(checkpoint(3)), stated(checkpoint(3, state_root=b"\7" * 32)), "TWO_HISTORIES"),
        (stated(FIRST), stated(checkpoint(5, START)), "TWO_HISTORIES"),
        (stated(FIRST), stated(checkpoint(5, FIRST.digest, time=NOW)), "TWO_HISTORIES"),
        (stated(FIRST, time=NOW + 35), stated(checkpoint(5, FIRST.digest, time=NOW + 5)), None),
        (stated(FIRST, time=NOW + 36), stated(checkpoint(5, FIRST.digest, time=NOW + 5)), "CLOCK"),
        (stated(SECOND, time=NOW + 99), stated(FIRST), None),
        (stated(FIRST, time=NOW - 27), stated(FIRST), None),
        (stated(FIRST, time=NOW - 28), stated(FIRST), "CLOCK"),
        (stated(checkpoint(3, chain_id=5)), stated(FIRST), "WRONG_LEDGER"),
        (stated(checkpoint(3, genesis=b"\7" * 32)), stated(FIRST), "WRONG_LEDGER"),
        (stated(checkpoint(3, registry=(b"\7" * 20, b"\7" * 32))), stated(FIRST), "WRONG_LEDGER"),
    ],
)
def test_which_statements_contradict_each_other(
    first: Statement, second: Statement, kind: str | None
) -> None:
    assert evidence.contradiction(first, second, GENESIS) == kind
    assert evidence.contradiction(second, first, GENESIS) == kind


@pytest.mark.parametrize(
    ("record", "previous_time", "found"),
    [
        (block(7), NOW, None),
        (block(7, NOW + 30), NOW, None),
        (block(7, NOW + 31), NOW, "future"),
        (block(7, NOW - 1), NOW, "before that of the block before"),
        (block(7, NOW - 30), NOW - 60, None),
        (block(7, NOW - 31), NOW - 60, "operator stated"),
        (block(2, NOW - 31), NOW - 60, None),
        (block(7, NOW, call(), call(to=b"")), NOW, "TX_CREATES_CONTRACT"),
        (block(1, NOW, *GENESIS.deployments), NOW, None),
        (block(1, NOW, *reversed(GENESIS.deployments)), NOW, "deployment"),
        (block(1, NOW, GENESIS.deployments[0]), NOW, "deployment"),
        (block(1), NOW, "deployment"),
    ],
)
def test_which_records_no_honest_operator_writes(
    witness: Witness, record: BlockRecord, previous_time: int, found: str | None
) -> None:
    # The operator stated at NOW that its log had three records.
    witness.accept(stated(FIRST), FIRST)
    witness.settle(stated(FIRST))
    if found is None:
        witness.check_record(record, previous_time, stated(SECOND))
        assert kinds(witness) == []
        return
    with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
        witness.check_record(record, previous_time, stated(SECOND))
    (kept,) = witness.book.evidence()
    assert kept.kind == "RECORD_FORBIDDEN"
    assert found in kept.detail


@pytest.mark.parametrize("time", [None, NOW - 31, NOW + 31])
def test_statements_off_the_own_clock_are_not_used(witness: Witness, time: int | None) -> None:
    with pytest.raises(Unavailable, match=r"\[CHECKPOINT_STALE\]"):
        witness.observe(stated(FIRST, time=time))
    assert kinds(witness) == []


def test_a_note_of_somebody_else_is_not_read() -> None:
    text = FIRST.text
    for note in (
        Note(text, (sign(text, GENESIS.origin, KEYS["bank-a"].checkpoint),)),
        Note(text, (sign(text, "other/origin", KEYS["operator"].checkpoint),)),
        Note(text, (cosign(text, GENESIS.origin, KEYS["operator"].checkpoint, NOW),)),
    ):
        with pytest.raises(ProtocolError):
            evidence.read(note.encode(), GENESIS)
    foreign = checkpoint(3, origin="concordat/ledger/other")
    note = Note(foreign.text, (sign(foreign.text, GENESIS.origin, KEYS["operator"].checkpoint),))
    with pytest.raises(ProtocolError, match=r"\[CHECKPOINT_ORIGIN\]"):
        evidence.read(note.encode(), GENESIS)


def test_a_witness_needs_its_own_key(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.sqlite")
    for name, key in (("bank-a", "bank-b"), ("operator", "operator"), ("nobody", "bank-a")):
        with pytest.raises(ConfigurationError, match=r"\[NOT_A_MEMBER\]"):
            Witness(GENESIS, book, name, KEYS[key].checkpoint, lambda: NOW)
    book.close()


def test_a_damaged_book_is_refused(tmp_path: Path, witness: Witness) -> None:
    witness.accept(stated(FIRST), FIRST)
    witness.accept(stated(SECOND), SECOND)
    path = tmp_path / "book.sqlite"
    with pytest.raises(LedgerError, match=r"\[CHECKPOINT_NOT_EXTENDING\]"):
        witness.book.add(FIRST, sign(FIRST.text, GENESIS.origin, KEYS["operator"].checkpoint))
    import sqlite3

    database = sqlite3.connect(path)
    with database:
        database.execute("DELETE FROM checkpoint WHERE size = 3")
    database.close()
    with pytest.raises(Unavailable, match=r"\[BOOK_CORRUPT\]"):
        Book(path)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(Unavailable, match=r"\[BOOK_CORRUPT\]"):
        Book(path)
