"""What holds for every input: injective encodings, exact sums, whole messages, complete or void openings."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol import canonical, document, metrics, ring
from protocol.envelope import Envelope, ReplayGuard, pack, unpack
from protocol.errors import JobVoid, ProtocolError, Replayed
from protocol.identity import Directory, IdentityKey, Party, Role
from protocol.labels import Label
from protocol.masking import mask, unmask_group
from protocol.opening import Opening, Roster, checked, with_count
from protocol.sealing import SealingKey, seal

KEY = IdentityKey.generate()
DIRECTORY = Directory([Party("bank-a", Role.BANK, KEY.public, "", 0, 10, 0)])
SEALING = SealingKey.generate()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.lists(st.one_of(st.binary(max_size=12), TEXT), max_size=6)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=20,
)


def _split(joined: bytes) -> list[bytes]:
    parts = []
    while joined:
        length = int.from_bytes(joined[:4], "big")
        parts.append(joined[4 : 4 + length])
        joined = joined[4 + length :]
    return parts


@given(PARTS)
def test_length_prefixes_can_be_read_back(parts: list[bytes | str]) -> None:
    raw = [part if isinstance(part, bytes) else part.encode() for part in parts]
    assert _split(canonical.lp(*parts)) == raw


@given(JSON)
def test_canonical_bytes_come_back_to_the_same_value_and_bytes(value: Any) -> None:
    data = canonical.encode(value)
    again = canonical.decode(data)
    assert again == value
    assert canonical.encode(again) == data


@given(st.binary(max_size=60))
def test_decoding_foreign_bytes_never_fails_otherwise(data: bytes) -> None:
    refused = ""
    try:
        assert canonical.encode(canonical.decode(data)) == data
    except ProtocolError as error:
        refused = error.code
    assert refused in {"", "CANONICAL_BYTES"}


NAMES = ["bank-a", "bank-b", "", "shop"]
LABELS = st.builds(
    Label,
    st.sampled_from(["h", "h/update", "hj"]),
    st.sampled_from(["j", "j1", "1"]),
    st.integers(0, 12),
    st.integers(0, 12),
    st.one_of(st.sampled_from(NAMES), st.sampled_from([("bank-a", "bank-b"), ("bank-b", "shop")])),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
)


@given(LABELS, LABELS)
def test_two_labels_have_one_info_only_if_they_are_equal(one: Label, other: Label) -> None:
    assert (one.info == other.info) == (one == other)


@given(
    st.builds(
        Envelope,
        st.just("job-1"),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.just("bank-a"),
        st.just("compute"),
        st.sampled_from(["a", "join/table", "v.2_x-y"]),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=200),
    ),
    st.data(),
)
def test_an_envelope_is_whole_or_refused(envelope: Envelope, data: st.DataObject) -> None:
    packed = pack(envelope, KEY)
    opened = unpack(packed, recipient="compute", job="job-1", directory=DIRECTORY)
    assert opened == envelope
    at = data.draw(st.integers(0, len(packed) - 1))
    inserted = data.draw(st.binary(max_size=3))
    removed = data.draw(st.integers(0, 8))
    changed = packed[:at] + inserted + packed[at + removed :]
    if changed != packed:
        with pytest.raises(ProtocolError):
            unpack(changed, recipient="compute", job="job-1", directory=DIRECTORY)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_no_envelope(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(b"\x01" + data, recipient="compute", job="job-1", directory=DIRECTORY)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([b"x", b"y"])), max_size=20), st.booleans())
def test_accepted_sequences_increase_and_resends_are_known(
    sent: list[tuple[int, bytes]], stored: bool
) -> None:
    guard, accepted = ReplayGuard(), dict[int, bytes]()
    for sequence, payload in sent:
        envelope = Envelope("job-1", 0, 0, "bank-a", "compute", "s", sequence, payload)
        last = max(accepted, default=-1)
        if stored:
            guard = ReplayGuard.from_state(guard.to_state())
        if sequence > last:
            guard.accept(envelope)
            accepted[sequence] = payload
            continue
        with pytest.raises(Replayed) as refusal:
            guard.accept(envelope)
        known = accepted.get(sequence) == payload
        assert refusal.value.code == ("ENVELOPE_REPEATED" if known else "ENVELOPE_OUT_OF_ORDER")


@settings(max_examples=50)
@given(st.binary(max_size=100), st.binary(max_size=10), st.binary(max_size=10), st.binary(), st.binary())
def test_sealed_data_opens_under_its_own_info_and_aad_only(
    data: bytes, info: bytes, aad: bytes, other_info: bytes, other_aad: bytes
) -> None:
    sealed = seal(SEALING.public, data, info=info, aad=aad)
    assert SEALING.open(sealed, info=info, aad=aad) == data
    if (info, aad) != (other_info, other_aad):
        with pytest.raises(ProtocolError):
            SEALING.open(sealed, info=other_info, aad=other_aad)


@given(st.dictionaries(TEXT, JSON, max_size=3), st.dictionaries(TEXT, JSON, max_size=3))
def test_a_signature_fits_one_body(body: dict[str, Any], other: dict[str, Any]) -> None:
    signed = document.sign("kind", body, "bank-a", KEY)
    assert document.verify(signed, "kind", {"bank-a": KEY.public}, ["bank-a"]) == body
    if canonical.encode(body) != canonical.encode(other):
        with pytest.raises(ProtocolError):
            document.verify(signed | {"body": other}, "kind", {"bank-a": KEY.public}, ["bank-a"])


REALS = arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e6, 1e6))


@given(REALS, st.integers(0, 24), st.sampled_from([1.0, 10.0, 1e6]))
def test_encoding_errs_by_half_a_step_and_never_leaves_the_limit(
    values: Any, bits: int, limit: float
) -> None:
    decoded = ring.decode(ring.encode(values, bits, limit), bits)
    assert np.abs(decoded).max() <= limit
    assert np.abs(decoded - np.clip(values, -limit, limit)).max() <= max(
        2.0 ** -(bits + 1), limit % 2.0**-bits
    )


@given(st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=3))
def test_ring_sums_are_integer_sums(numbers: list[int]) -> None:
    total = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        total += np.array([number % 2**64], dtype=np.uint64)
    assert ring.signed(total).tolist() == [(sum(numbers) + 2**63) % 2**64 - 2**63]


def _pair(a: str, b: str) -> bytes:
    return hashlib.sha256("/".join(sorted((a, b))).encode()).digest()


@settings(max_examples=60)
@given(
    st.integers(3, 6),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_masks_cancel_over_the_complete_roster_in_any_order(
    count: int, length: int, random: Any, grouped: bool, attempt: int, round_: int
) -> None:
    banks = [f"bank-{i}" for i in range(count)]
    random.shuffle(banks)
    roster = Roster.of("j", attempt, banks)
    label = Label("h", "j", attempt, round_)
    group = hashlib.sha256(b"g").digest() if grouped else None
    vectors = {
        bank: np.array([random.getrandbits(64) for _ in range(length)], dtype=np.uint64) for bank in banks
    }
    opening = Opening(roster, "h", round_, length + 1)
    for bank in banks:
        pair_keys = {peer: _pair(bank, peer) for peer in banks if peer != bank}
        opening.add(
            bank,
            mask(
                with_count(vectors[bank]),
                own=bank,
                banks=banks,
                pair_keys=pair_keys,
                group_key=group,
                label=label,
            ),
        )
    total = opening.total()
    if group is not None:
        total = unmask_group(total, group_key=group, label=label)
    expected = np.zeros(length, dtype=np.uint64)
    for vector in vectors.values():
        expected += vector
    assert checked(total, roster).tolist() == expected.tolist()


class OpeningMachine(RuleBasedStateMachine):
    """A relay that delays, repeats, changes and invents; the opening is complete or void."""

    BANKS = ("bank-a", "bank-b", "bank-c", "bank-d")

    def __init__(self) -> None:
        super().__init__()
        self.opening = Opening(Roster("j", 0, self.BANKS), "h", 1, 2)
        self.taken: dict[str, list[int]] = {}
        self.given: list[int] | None = None

    @rule(
        sender=st.sampled_from([*BANKS, "stranger"]),
        value=st.integers(0, 2),
        length=st.sampled_from([2, 2, 3]),
    )
    def deliver(self, sender: str, value: int, length: int) -> None:
        vector = [1, value, 0][:length]
        right = (
            self.given is None
            and sender in self.BANKS
            and length == 2
            and self.taken.get(sender, vector) == vector
        )
        if right:
            self.opening.add(sender, np.array(vector, dtype=np.uint64))
            self.taken[sender] = vector
        else:
            with pytest.raises(ProtocolError):
                self.opening.add(sender, np.array(vector, dtype=np.uint64))

    @rule()
    def ask(self) -> None:
        if len(self.taken) < len(self.BANKS):
            with pytest.raises(JobVoid):
                self.opening.total()
            return
        total = self.opening.total().tolist()
        assert total == [4, sum(vector[1] for vector in self.taken.values())]
        assert self.given in (None, total)
        self.given = total

    @invariant()
    def missing_is_what_has_not_come(self) -> None:
        assert self.opening.missing == tuple(bank for bank in self.BANKS if bank not in self.taken)


TestOpeningMachine = OpeningMachine.TestCase

COUNTS = arrays.arrays(np.int64, 12, elements=st.integers(0, 200))


def _histogram(good: Any, bad: Any) -> metrics.ScoreHistogram:
    edges = np.linspace(0, 1, len(good) + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    return metrics.ScoreHistogram(edges, good, bad, (good + bad) * middle, 1.0)


@given(COUNTS, COUNTS)
def test_figures_stay_in_their_ranges(good: Any, bad: Any) -> None:
    counted = _histogram(good, bad)
    if good.sum() == 0 or bad.sum() == 0:
        return
    assert 0 <= metrics.auc(counted) <= 1
    assert metrics.auc(counted) + metrics.auc(_histogram(bad, good)) == pytest.approx(1)
    assert abs(2 * metrics.auc(counted) - 1) <= 2 * metrics.ks(counted) - metrics.ks(counted) ** 2 + 1e-12
    assert 0 <= metrics.ks(counted) <= 1
    curve = metrics.roc_points(counted)
    assert (np.diff(curve, axis=0) >= 0).all()
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(metrics.auc(counted))
    line = metrics.calibration(counted)
    assert all(0 <= cell.observed <= 1 for cell in line.cells)


@given(COUNTS, COUNTS, st.integers(1, 400))
def test_merging_keeps_rows_and_minimum(good: Any, bad: Any, minimum: int) -> None:
    counted = _histogram(good, bad)
    if counted.total < minimum:
        return
    merged = metrics.merge_small_cells(counted, minimum)
    assert merged.rows.min() >= minimum
    assert (merged.good.sum(), merged.bad.sum()) == (good.sum(), bad.sum())
    assert merged.edges[0] == 0
    assert merged.edges[-1] == 1


@given(COUNTS, COUNTS)
def test_stability_is_symmetric_and_not_negative(one: Any, other: Any) -> None:
    if one.sum() == 0 or other.sum() == 0:
        return
    value = metrics.stability_index(one, other)
    assert value >= 0
    assert value == pytest.approx(metrics.stability_index(other, one))
