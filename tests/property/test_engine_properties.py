"""Records, evidence and the outbox' states under whatever Hypothesis thinks of."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.client.submission import State, check_step
from ledger.engine import records
from ledger.engine.gateway import frames
from ledger.engine.records import BlockRecord, GenesisRecord
from ledger.engine.replica import unframe
from protocol.errors import LedgerError, ProtocolError

HASHES = st.binary(min_size=32, max_size=32)
U64 = st.integers(0, (1 << 64) - 1)
BLOCKS = st.builds(
    BlockRecord,
    st.integers(1, (1 << 64) - 1),
    U64,
    HASHES,
    st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=50).map(tuple),
)
ANY = st.one_of(BLOCKS, st.builds(GenesisRecord, HASHES, HASHES))


@given(ANY)
def test_a_record_has_one_encoding(record: GenesisRecord | BlockRecord) -> None:
    data = records.encode(record)
    assert records.decode(data) == record


@given(ANY, st.data())
def test_a_changed_record_is_refused_or_another_one(
    record: GenesisRecord | BlockRecord, data: st.DataObject
) -> None:
    encoded = records.encode(record)
    at = data.draw(st.integers(0, len(encoded) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    changed = {
        "flip": encoded[:at] + bytes([encoded[at] ^ data.draw(st.integers(1, 255))]) + encoded[at + 1 :],
        "cut": encoded[:at],
        "insert": encoded[:at] + b"\0" + encoded[at:],
    }[kind]
    with contextlib.suppress(ProtocolError):
        found = records.decode(changed)
        assert records.encode(found) == changed
        assert found != record
    assert records.chain(records.START, changed) != records.chain(records.START, encoded)


@given(st.binary(max_size=200))
def test_noise_is_no_record_or_its_own_encoding(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert records.encode(records.decode(data)) == data


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(0, 500))
def test_records_travel_whole_or_not_at_all(bodies: list[bytes], cut: int) -> None:
    data = frames(bodies)
    assert unframe(data) == bodies
    if 0 < cut < len(data):
        with contextlib.suppress(ProtocolError):
            assert unframe(data[:cut]) == bodies[: len(unframe(data[:cut]))]


@given(st.lists(st.sampled_from(list(State)), max_size=8))
def test_a_call_never_leaves_its_end(path: list[State]) -> None:
    state = State.QUEUED
    for step in path:
        before = state
        with contextlib.suppress(LedgerError):
            check_step(state, step)
            state = step
        if before in (State.FINAL, State.REFUSED):
            assert state is before
    with pytest.raises(LedgerError):
        check_step(State.QUEUED, State.FINAL)
