"""Ring, masks, rosters and openings: every rule kept and broken."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol import labels, ring
from protocol.errors import ConcordatError, JobVoid, ProtocolError
from protocol.labels import Label, LabelLedger
from protocol.masking import MaskKey, mask, unmask_group
from protocol.opening import Opening, Roster, RosterBook, checked, with_count

BANKS = ("bank-a", "bank-b", "bank-c")
LABEL = Label("h/update", "job-1", 0, 1)
GROUP = hashlib.sha256(b"group").digest()
MASK_KEYS = {bank: MaskKey.generate() for bank in BANKS}
PAIR_KEYS = {
    own: {
        peer: MASK_KEYS[own].agree(own, peer, MASK_KEYS[peer].public, "job-1")
        for peer in BANKS
        if peer != own
    }
    for own in BANKS
}


def _refused(code: str, error: type[ConcordatError] = ProtocolError) -> Any:
    return pytest.raises(error, match=rf"\[{code}\]")


def _masked(own: str, vector: NDArray[np.uint64], **change: Any) -> NDArray[np.uint64]:
    options: dict[str, Any] = {
        "own": own,
        "banks": BANKS,
        "pair_keys": PAIR_KEYS[own],
        "group_key": GROUP,
        "label": LABEL,
    }
    return mask(vector, **(options | change))


class TestRing:
    def test_rounding_is_half_even_and_once(self) -> None:
        values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994])
        assert ring.signed(ring.encode(values, 0, 10.0)).tolist() == [0, 2, 2, 0, -2, 0]
        assert ring.signed(ring.encode(np.array([2.5, 3.5]) / 4096, 12, 1.0)).tolist() == [2, 4]

    def test_clip_comes_after_rounding(self) -> None:
        values = np.array([3.0, 3.4, 1e300, -1e308, -3.0001])
        assert ring.signed(ring.encode(values, 0, 3.0)).tolist() == [3, 3, 3, -3, -3]
        # 2.5 · 2^0 is no integer: the bound is the integer below, never above the limit.
        assert ring.signed(ring.encode(np.array([2.6, 2.5]), 0, 2.5)).tolist() == [2, 2]
        assert ring.signed(ring.encode(np.array([2.7, -9.0]), 0, 2.7)).tolist() == [2, -2]

    def test_sums_are_exact(self) -> None:
        values = np.array([1.25, -7.5, 0.0])
        total = ring.encode(values, 24, 100.0) + ring.encode(-2 * values, 24, 100.0)
        assert ring.decode(total, 24).tolist() == (-values).tolist()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite(self, value: float) -> None:
        with _refused("RING_NOT_FINITE"):
            ring.encode(np.array([1.0, value]), 12, 10.0)

    @pytest.mark.parametrize(
        ("bits", "limit"),
        [(-1, 1.0), (53, 1.0), (True, 1.0), (12, 0.0), (12, -1.0), (12, np.inf), (12, np.nan), (40, 8193.0)],
    )
    def test_parameters_out_of_range(self, bits: int, limit: float) -> None:
        with _refused("RING_PARAMETERS"):
            ring.encode(np.zeros(1), bits, limit)
        ring.encode(np.zeros(1), 40, 8192.0)

    def test_wrap_at_the_limit_and_above(self) -> None:
        """n·limit·2^f + 10·σ < 2^(K − 1): exact at the edge, where floats would not decide."""
        edge = 2.0 ** (39 - 12)
        ring.check_headroom(1, np.nextafter(edge, 0.0), 12, width=40)
        for refused in (
            (1, edge, 12, 0.0, 40),
            (1, np.nextafter(edge, 0.0), 12, 1.0, 40),
            (2, edge / 2, 12, 0, 40),
        ):
            with _refused("RING_WRAP"):
                ring.check_headroom(*refused)
        ring.check_headroom(2**31 - 1, 1.0, 32)
        with _refused("RING_WRAP"):
            ring.check_headroom(2**31, 1.0, 32)

    def test_a_sum_at_the_limit_is_exact_and_one_above_wraps(self) -> None:
        top = ring.encode(np.array([2.0**53]), 0, 2.0**53)
        count = 1023
        ring.check_headroom(count, 2.0**53, 0)
        total = np.zeros(1, dtype=np.uint64)
        for _ in range(count):
            total += top
        assert ring.signed(total).tolist() == [count * 2**53]
        with _refused("RING_WRAP"):
            ring.check_headroom(count + 1, 2.0**53, 0)
        assert ring.signed(total + top).tolist() == [-(2**63)]

    @pytest.mark.parametrize(
        "arguments",
        [
            (0, 1.0, 12),
            (3, 0.0, 12),
            (3, np.inf, 12),
            (3, 1.0, 12, -1.0),
            (3, 1.0, 12, np.nan),
            (3, 1.0, 12, 0, 65),
        ],
    )
    def test_headroom_of_nonsense(self, arguments: Any) -> None:
        with _refused("RING_PARAMETERS"):
            ring.check_headroom(*arguments)

    def test_bytes(self) -> None:
        vector = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
        data = ring.to_bytes(vector)
        assert data == bytes(8) + b"\x01" + bytes(7) + b"\xff" * 8
        assert ring.from_bytes(data, 3).tolist() == vector.tolist()
        for length in (2, 4):
            with _refused("RING_LENGTH"):
                ring.from_bytes(data, length)
        signed_words: Any = np.zeros(3, dtype=np.int64)
        for call in (ring.to_bytes, ring.signed):
            with _refused("RING_ELEMENTS"):
                call(signed_words)


class TestMaskKey:
    def test_both_sides_agree(self) -> None:
        assert PAIR_KEYS["bank-a"]["bank-b"] == PAIR_KEYS["bank-b"]["bank-a"]
        assert len({key for row in PAIR_KEYS.values() for key in row.values()}) == 3
        restored = MaskKey.from_bytes(MASK_KEYS["bank-a"].to_bytes())
        assert (
            restored.agree("bank-a", "bank-b", MASK_KEYS["bank-b"].public, "job-1")
            == (PAIR_KEYS["bank-a"]["bank-b"])
        )

    def test_names_and_job_are_bound(self) -> None:
        key, peer = MASK_KEYS["bank-a"], MASK_KEYS["bank-b"].public
        known = key.agree("bank-a", "bank-b", peer, "job-1")
        assert key.agree("bank-a", "bank-b", peer, "job-2") != known
        assert key.agree("bank-a", "bank-x", peer, "job-1") != known
        assert key.agree("bank-c", "bank-b", peer, "job-1") != known

    @pytest.mark.parametrize(
        "public",
        [b"", bytes(31), bytes(32), (1).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little")],
    )
    def test_weak_key(self, public: bytes) -> None:
        with _refused("MASK_KEY"):
            MASK_KEYS["bank-a"].agree("bank-a", "bank-b", public, "job-1")

    def test_own_key_sent_back(self) -> None:
        key = MASK_KEYS["bank-a"]
        with _refused("MASK_KEY"):
            key.agree("bank-a", "bank-b", key.public, "job-1")
        with _refused("MASK_KEY"):
            key.agree("bank-a", "bank-a", MASK_KEYS["bank-b"].public, "job-1")
        with _refused("MASK_KEY"):
            MaskKey.from_bytes(b"short")
        assert key.to_bytes().hex() not in repr(key)


class TestMask:
    VECTOR = np.arange(5, dtype=np.uint64)

    def test_masks_cancel_over_the_roster(self) -> None:
        vectors = {bank: self.VECTOR * np.uint64(i + 1) for i, bank in enumerate(BANKS)}
        total = np.zeros(5, dtype=np.uint64)
        for bank in reversed(BANKS):
            total += _masked(bank, vectors[bank])
        assert (
            unmask_group(total, group_key=GROUP, label=LABEL).tolist()
            == (self.VECTOR * np.uint64(6)).tolist()
        )

    def test_input_and_order_of_names_do_not_matter(self) -> None:
        before = self.VECTOR.copy()
        one = _masked("bank-a", self.VECTOR)
        assert self.VECTOR.tolist() == before.tolist()
        assert one.tolist() == _masked("bank-a", self.VECTOR, banks=["bank-c", "bank-a", "bank-b"]).tolist()

    def test_group_mask_is_the_first_bank_s_alone(self) -> None:
        for bank in BANKS:
            difference = _masked(bank, self.VECTOR) - _masked(bank, self.VECTOR, group_key=None)
            expected = labels.words(labels.derive(GROUP, LABEL), 5) if bank == BANKS[0] else np.zeros(5)
            assert difference.tolist() == expected.tolist()

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"banks": ("bank-a", "bank-b")}, "MASK_ROSTER"),
            ({"banks": ("bank-b", "bank-c", "bank-d")}, "MASK_ROSTER"),
            ({"banks": ("bank-a", "bank-a", "bank-b", "bank-c")}, "MASK_ROSTER"),
            ({"banks": ("bank-a", "bank-a", "bank-b")}, "MASK_ROSTER"),
            ({"pair_keys": {}}, "MASK_PAIR_MISSING"),
            ({"pair_keys": {"bank-b": bytes(32)}}, "MASK_PAIR_MISSING"),
            ({"pair_keys": {"bank-b": bytes(32), "bank-c": b""}}, "LABEL_KEY"),
            ({"group_key": b""}, "LABEL_KEY"),
            ({"label": Label("h", "j", bank="bank-a")}, "LABEL_MALFORMED"),
        ],
    )
    def test_refusals(self, change: dict[str, Any], code: str) -> None:
        with _refused(code):
            _masked("bank-a", self.VECTOR, **change)

    @pytest.mark.parametrize(
        "vector", [np.zeros(3), np.zeros(3, dtype=np.int64), np.zeros((1, 3), dtype=np.uint64)]
    )
    def test_only_one_row_of_ring_elements(self, vector: Any) -> None:
        with _refused("RING_ELEMENTS"):
            _masked("bank-a", vector)
        with _refused("RING_ELEMENTS"):
            unmask_group(vector, group_key=GROUP, label=LABEL)

    def test_uses_are_seen_by_the_ledger(self) -> None:
        with labels.observe(LabelLedger()) as ledger:
            for bank in BANKS:
                _masked(bank, self.VECTOR)
                _masked(bank, self.VECTOR)
            assert len(ledger) == 7  # each bank under two pads, and one group mask
            with _refused("LABEL_REUSED"):
                _masked("bank-b", self.VECTOR + np.uint64(1))


class TestRoster:
    def test_round_trip_and_digest(self) -> None:
        roster = Roster.of("job-1", 1, ["bank-c", "bank-a", "bank-b"])
        assert roster.banks == BANKS
        assert Roster.from_body(json.loads(json.dumps(roster.body))) == roster
        assert len({roster.digest, Roster("job-1", 0, BANKS).digest, Roster("job-2", 1, BANKS).digest}) == 3

    @pytest.mark.parametrize(
        ("job", "attempt", "banks", "code"),
        [
            ("job-1", 0, ("bank-a", "bank-b"), "ROSTER_TOO_SMALL"),
            ("job-1", 0, ("bank-b", "bank-a", "bank-c"), "ROSTER_MALFORMED"),
            ("job-1", 0, ("bank-a", "bank-a", "bank-b"), "ROSTER_MALFORMED"),
            ("job-1", 0, list(BANKS), "ROSTER_MALFORMED"),
            ("job-1", 0, ("A", "bank-b", "bank-c"), "PARTY_NAME"),
            ("job-1", -1, BANKS, "ROSTER_MALFORMED"),
            ("job-1", False, BANKS, "ROSTER_MALFORMED"),
            ("", 0, BANKS, "ROSTER_MALFORMED"),
        ],
    )
    def test_malformed(self, job: str, attempt: int, banks: Any, code: str) -> None:
        with _refused(code):
            Roster(job, attempt, banks)

    def test_malformed_body(self) -> None:
        body = Roster("job-1", 0, BANKS).body
        for change in ({"more": 1}, {"banks": "abc"}, {"banks": [1, 2, 3]}, {"attempt": None}):
            with pytest.raises(ProtocolError):
                Roster.from_body(body | change)

    def test_one_roster_per_attempt(self) -> None:
        four = Roster("job-1", 0, (*BANKS, "bank-d"))
        book = RosterBook()
        book.admit(four)
        book.admit(four)
        book.admit(Roster("job-1", 1, BANKS))
        book.admit(Roster("job-2", 0, BANKS))
        restored = RosterBook.from_state(json.loads(json.dumps(book.to_state())))
        for each in (book, restored):
            with _refused("ROSTER_SECOND"):
                each.admit(Roster("job-1", 0, BANKS))


class TestOpening:
    ROSTER = Roster("job-1", 0, BANKS)

    def _opening(self) -> Opening:
        return Opening(self.ROSTER, "h/update", 1, 2)

    @staticmethod
    def _vector(number: int) -> NDArray[np.uint64]:
        return np.array([1, number], dtype=np.uint64)

    def test_complete(self) -> None:
        opening = self._opening()
        for number, bank in enumerate(BANKS):
            assert opening.missing == BANKS[number:]
            opening.add(bank, self._vector(number))
            opening.add(bank, self._vector(number))
        assert opening.missing == ()
        assert opening.total().tolist() == [3, 3]
        assert opening.total().tolist() == [3, 3]
        assert checked(opening.total(), self.ROSTER).tolist() == [3]

    def test_incomplete_is_void(self) -> None:
        opening = self._opening()
        opening.add("bank-a", self._vector(1))
        opening.add("bank-c", self._vector(1))
        with pytest.raises(JobVoid, match="bank-b"):
            opening.total()

    def test_nothing_after_the_total(self) -> None:
        opening = self._opening()
        for bank in BANKS:
            opening.add(bank, self._vector(1))
        opening.total()
        for sender in ("bank-a", "bank-d"):
            with _refused("OPENING_CLOSED"):
                opening.add(sender, self._vector(1))

    def test_refusals(self) -> None:
        opening = self._opening()
        opening.add("bank-a", self._vector(1))
        with _refused("OPENING_CHANGED"):
            opening.add("bank-a", self._vector(2))
        with _refused("OPENING_STRANGER"):
            opening.add("bank-d", self._vector(1))
        for vector in (np.ones(3, dtype=np.uint64), np.ones(2), np.ones((2, 1), dtype=np.uint64)):
            with _refused("OPENING_LENGTH"):
                opening.add("bank-b", vector)  # type: ignore[arg-type]
        with _refused("OPENING_LENGTH"):
            Opening(self.ROSTER, "h/update", 1, 0)
        assert opening.missing == ("bank-b", "bank-c")

    def test_what_was_added_is_a_copy(self) -> None:
        opening, vector = self._opening(), self._vector(1)
        for bank in BANKS:
            opening.add(bank, vector)
        vector[1] = 99
        opening.total()[1] = 99
        assert opening.total().tolist() == [3, 3]

    def test_count(self) -> None:
        vector = np.array([5, 6], dtype=np.uint64)
        assert with_count(vector).tolist() == [1, 5, 6]
        for count in (2, 4, 0, 2**64 - 3):
            with _refused("OPENING_COUNT"):
                checked(np.array([count, 5], dtype=np.uint64), self.ROSTER)
        with _refused("OPENING_COUNT"):
            checked(np.zeros(0, dtype=np.uint64), self.ROSTER)
        with _refused("RING_ELEMENTS"):
            with_count(np.zeros(2))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "fault",
        [
            {"group_key": bytes(32)},
            {"label": Label("h/update", "job-1", 0, 2)},
            {"label": Label("s", "job-1", 0, 1)},
        ],
    )
    def test_count_finds_a_bank_that_masked_otherwise(self, fault: dict[str, Any]) -> None:
        opening = Opening(self.ROSTER, "h/update", 1, 3)
        for bank in BANKS:
            vector = with_count(np.arange(2, dtype=np.uint64))
            opening.add(bank, _masked(bank, vector, **(fault if bank == "bank-a" else {})))
        with _refused("OPENING_COUNT"):
            checked(unmask_group(opening.total(), group_key=GROUP, label=LABEL), self.ROSTER)
