"""What the server, a relay and a late share can read out of masked vectors: nothing.

Keys are fixed, so every statistic here is the same in every run. Each attack has a planted bug beside it that
turns it red, so that a test which can't fail would be seen. For the chi-square tests the alarm is raised
at the 10^-9 quantile: over the about 250 statistics of this file an honest implementation with other
keys would raise it with probability below 3·10^-7.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, chi2, poisson

from protocol import labels, masking, ring
from protocol.errors import JobVoid, ProtocolError
from protocol.labels import Label, LabelLedger
from protocol.masking import mask, unmask_group
from protocol.opening import Opening, Roster, RosterBook, checked, with_count

Vector = NDArray[np.uint64]
ALARM = 1e-9
FOUR = ("bank-a", "bank-b", "bank-c", "bank-d")
THREE = FOUR[:3]


def _key(*parts: str) -> bytes:
    return hashlib.sha256("/".join(parts).encode()).digest()


GROUP = _key("group")


def _pairs(own: str, banks: Sequence[str]) -> dict[str, bytes]:
    return {peer: _key("pair", *sorted((own, peer))) for peer in banks if peer != own}


def _mask(own: str, vector: Vector, label: Label, banks: Sequence[str] = THREE, **change: Any) -> Vector:
    options: dict[str, Any] = {"pair_keys": _pairs(own, banks), "group_key": GROUP}
    return mask(vector, own=own, banks=banks, label=label, **(options | change))


def _sum(vectors: Sequence[Vector]) -> Vector:
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total = total + vector
    return total


def _update(bank: str, length: int, round_: int = 1) -> Vector:
    """A bank's update as it looks in training: small numbers, close to each other from round to round."""
    seed = int.from_bytes(_key("update", bank)[:4], "big")
    base = np.random.Generator(np.random.PCG64(seed)).normal(size=length)
    step = np.random.Generator(np.random.PCG64(seed + round_)).normal(size=length) * 0.01
    return ring.encode(base + step, 24, 100.0)


def _is_uniform(vector: Vector) -> bool:
    """Chi-square of each of the eight byte positions against uniform, false alarm ALARM each."""
    octets = vector.astype("<u8").view(np.uint8).reshape(-1, 8)
    limit = chi2.isf(ALARM, 255)
    expected = len(octets) / 256
    for place in range(8):
        counts = np.bincount(octets[:, place], minlength=256)
        if ((counts - expected) ** 2 / expected).sum() > limit:
            return False
    return True


def _bare_words(key: bytes, n: int) -> Vector:
    return np.frombuffer(labels.keystream(key, 8 * n), dtype="<u8").astype(np.uint64)


class TestPartialSums:
    LENGTH = 20_000
    LABEL = Label("h/update", "job-1", 0, 1)

    def _masked(self, banks: Sequence[str] = FOUR) -> dict[str, Vector]:
        return {bank: _mask(bank, _update(bank, self.LENGTH), self.LABEL, banks) for bank in banks}

    def _subsets(self) -> list[tuple[str, ...]]:
        return [chosen for size in range(1, 5) for chosen in itertools.combinations(FOUR, size)]

    def test_every_partial_sum_and_the_total_are_uniform_to_the_server(self) -> None:
        masked = self._masked()
        for chosen in self._subsets():
            assert _is_uniform(_sum([masked[bank] for bank in chosen])), chosen

    def test_only_the_complete_sum_reads_with_the_group_key(self) -> None:
        masked = self._masked()
        for chosen in self._subsets():
            opened = unmask_group(_sum([masked[b] for b in chosen]), group_key=GROUP, label=self.LABEL)
            plain = _sum([_update(bank, self.LENGTH) for bank in chosen])
            assert (opened.tolist() == plain.tolist()) == (chosen == FOUR)
            assert _is_uniform(opened) == (chosen != FOUR)

    def test_differences_of_masked_vectors_are_uniform_too(self) -> None:
        masked = self._masked()
        for one, other in itertools.combinations(FOUR, 2):
            assert _is_uniform(masked[one] - masked[other])

    def test_total_does_not_read_without_the_group_key(self) -> None:
        """The server tries: no key, a key of zeros, another job's key, another round's label."""
        masked = [_mask(b, with_count(_update(b, 500)), self.LABEL, FOUR) for b in FOUR]
        total, roster = _sum(masked), Roster("job-1", 0, FOUR)
        attempts: list[Vector] = [total]
        attempts += [unmask_group(total, group_key=k, label=self.LABEL) for k in (bytes(32), _key("other"))]
        attempts += [unmask_group(total, group_key=GROUP, label=replace(self.LABEL, round=2))]
        for attempt in attempts:
            with pytest.raises(ProtocolError, match="OPENING_COUNT"):
                checked(attempt, roster)
        right = checked(unmask_group(total, group_key=GROUP, label=self.LABEL), roster)
        assert right.tolist() == _sum([_update(b, 500) for b in FOUR]).tolist()

    def test_red_without_a_group_key_the_server_reads_the_total(self) -> None:
        masked = [_mask(b, _update(b, self.LENGTH), self.LABEL, FOUR, group_key=None) for b in FOUR]
        assert not _is_uniform(_sum(masked))

    def test_red_masks_of_28_bits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(labels, "words", lambda key, n: _bare_words(key, n) >> np.uint64(36))
        assert not _is_uniform(self._masked()["bank-b"])

    def test_red_pads_that_do_not_name_the_pair(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One key for all and no pair in the label: the middle bank of three adds and subtracts one pad."""
        honest = labels.derive
        monkeypatch.setattr(labels, "derive", lambda key, label: honest(bytes(32), replace(label, bank="")))
        vector = _update("bank-b", self.LENGTH)
        assert _mask("bank-b", vector, self.LABEL, THREE).tolist() == vector.tolist()


class TestGroupMask:
    """n·G mod 2^64 has log2(n's power of two) known low bits; a single G has none."""

    LENGTH = 4_000
    LABEL = Label("h/update", "job-1", 0, 1)

    def _low_bits_told(self, masked: Sequence[Vector], bits: int) -> int:
        """Count elements whose low bits the total shows, as the server would guess them."""
        low = np.uint64((1 << bits) - 1)
        truth = _sum([_update(bank, self.LENGTH) for bank in FOUR]) & low
        return int(((_sum(masked) & low) == truth).sum())

    def test_low_bits_of_the_total_are_hidden(self) -> None:
        masked = [_mask(bank, _update(bank, self.LENGTH), self.LABEL, FOUR) for bank in FOUR]
        for bits in (1, 2):
            told = self._low_bits_told(masked, bits)
            chance = binom(self.LENGTH, 0.5**bits)
            assert chance.ppf(ALARM / 2) <= told <= chance.isf(ALARM / 2)

    def test_red_group_mask_added_by_all_banks(self) -> None:
        pad = _bare_words(labels.derive(GROUP, self.LABEL), self.LENGTH)
        masked = [
            _mask(bank, _update(bank, self.LENGTH), self.LABEL, FOUR, group_key=None) + pad for bank in FOUR
        ]
        assert self._low_bits_told(masked, 2) == self.LENGTH


class TestExplainability:
    """The server's view in one world is byte for byte a possible view of any other world."""

    LABEL = Label("h/update", "job-1", 0, 1)
    LENGTH = 50

    def _view(
        self, worlds: dict[str, Vector], pads: dict[bytes, Vector], patch: pytest.MonkeyPatch
    ) -> list[bytes]:
        with patch.context() as context:
            if pads:
                context.setattr(labels, "words", lambda key, n: pads[key][:n])
            return [ring.to_bytes(_mask(bank, worlds[bank], self.LABEL, FOUR)) for bank in FOUR]

    def _pad_key(self, *banks: str) -> bytes:
        if not banks:
            return labels.derive(GROUP, self.LABEL)
        pair = (banks[0], banks[1])
        return labels.derive(_key("pair", *sorted(pair)), replace(self.LABEL, bank=pair))

    def test_any_other_updates_explain_the_transcript(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = self._view({bank: _update(bank, self.LENGTH) for bank in FOUR}, {}, monkeypatch)
        other = {bank: np.full(self.LENGTH, i * 10**15, dtype=np.uint64) for i, bank in enumerate(FOUR)}
        view = [ring.from_bytes(data, self.LENGTH) for data in seen]
        # Keep all pads but the first bank's; solve its pads with the others from their messages, then the
        # group mask from its own.
        pads = {
            self._pad_key(*pair): _bare_words(self._pad_key(*pair), self.LENGTH)
            for pair in itertools.combinations(FOUR[1:], 2)
        }
        first = view[0] - other[FOUR[0]]
        for place, bank in enumerate(FOUR[1:], start=1):
            pad = other[bank] - view[place]
            for peer in FOUR[1:]:
                if peer > bank:
                    pad = pad + pads[self._pad_key(bank, peer)]
                elif peer < bank:
                    pad = pad - pads[self._pad_key(bank, peer)]
            pads[self._pad_key(FOUR[0], bank)] = pad
            first = first - pad
        pads[self._pad_key()] = first
        assert self._view(other, pads, monkeypatch) == seen


class TestLedger:
    """Test 2 of the specification: over a whole job, its retry and its rounds no pad masks two messages."""

    LENGTH = 30

    def _run(self, label: Callable[[str, int, int], Label], ledger: LabelLedger) -> None:
        with labels.observe(ledger):
            for attempt, banks in ((0, FOUR), (1, THREE)):
                for stage in ("h/update", "s/update"):
                    for round_ in range(1, 6):
                        for bank in banks:
                            step = round_ + 100 * attempt + (1_000 if stage == "s/update" else 0)
                            vector = with_count(_update(bank, self.LENGTH, step))
                            _mask(bank, vector, label(stage, attempt, round_), banks)
                            _mask(bank, vector, label(stage, attempt, round_), banks)  # a resend
                for bank in banks:
                    histogram = np.arange(self.LENGTH + attempt, dtype=np.uint64)
                    _mask(bank, histogram, label("h/histogram", attempt, 0), banks)

    def test_a_job_with_retry_rounds_and_histogram(self) -> None:
        ledger = LabelLedger()
        self._run(lambda stage, attempt, round_: Label(stage, "job-1", attempt, round_), ledger)
        # 11 openings an attempt; 4 banks under 3 pads and one group mask, 3 under 2 and one.
        assert len(ledger) == 11 * (4 * 3 + 1) + 11 * (3 * 2 + 1)

    @pytest.mark.parametrize(
        "planted",
        [
            pytest.param(
                lambda stage, attempt, round_: Label(stage, "job-1", attempt), id="without the round"
            ),
            pytest.param(
                lambda stage, attempt, round_: Label(stage, "job-1", 0, round_), id="without the attempt"
            ),
            pytest.param(
                lambda stage, attempt, round_: Label("x", "job-1", attempt, round_), id="without the stage"
            ),
        ],
    )
    def test_red_labels_that_leave_something_out(self, planted: Callable[[str, int, int], Label]) -> None:
        with pytest.raises(ProtocolError, match="LABEL_REUSED"):
            self._run(planted, LabelLedger())

    def test_red_two_jobs_under_one_name(self) -> None:
        ledger = LabelLedger()
        with labels.observe(ledger):
            _mask("bank-a", _update("bank-a", 5, 1), Label("h", "job-1"))
            with pytest.raises(ProtocolError, match="LABEL_REUSED"):
                _mask("bank-a", _update("bank-a", 5, 2), Label("h", "job-1"))


def _close(one: Vector, other: Vector) -> bool:
    """Test 3 of the specification: do two arrays coincide in more elements than chance allows?

    Elements within 2^47 of each other, rate 2^-16 under uniformity; alarm at the 10^-9 quantile.
    """
    distance = np.abs(ring.signed(one - other).astype(np.float64))
    return bool((distance < 2.0**47).sum() > poisson.isf(ALARM, len(one) * 2.0**-16))


class TestDifferenceScanner:
    LENGTH = 8_000

    def _view(self, label: Callable[[int], Label]) -> list[Vector]:
        rounds = range(1, 5)
        return [_mask(b, _update(b, self.LENGTH, r), label(r)) for r in rounds for b in THREE]

    def test_no_two_arrays_of_a_view_are_close(self) -> None:
        view = self._view(lambda round_: Label("h/update", "job-1", 0, round_))
        for one, other in itertools.combinations(view, 2):
            assert not _close(one, other)
            assert not _close(one, np.zeros_like(one))

    def test_red_label_without_the_round(self) -> None:
        view = self._view(lambda round_: Label("h/update", "job-1", 0))
        assert any(_close(one, other) for one, other in itertools.combinations(view, 2))


class TestLateShare:
    """Test 5 of the specification: two attempts, two rosters, one bank that drops and comes late."""

    LENGTH = 200
    LATE = "bank-d"

    def _attempts(self, label: Callable[[int], Label]) -> tuple[dict[str, Vector], dict[str, Vector]]:
        """Return what a relay holds: all four masked vectors of attempt 0, the three of attempt 1.

        The worst case: the same vectors are masked again, as in the opening of the label direction.
        """
        held = [
            {
                bank: _mask(bank, with_count(_update(bank, self.LENGTH)), label(attempt), banks)
                for bank in banks
            }
            for attempt, banks in ((0, FOUR), (1, THREE))
        ]
        return held[0], held[1]

    def _isolated(self, first: dict[str, Vector], second: dict[str, Vector]) -> set[tuple[str, ...]]:
        """Try all differences of sums over subsets of both attempts against all sums of banks' vectors."""

        def sums(vectors: dict[str, Vector]) -> dict[tuple[str, ...], Vector]:
            chosen = [
                c for size in range(len(vectors) + 1) for c in itertools.combinations(sorted(vectors), size)
            ]
            zero = np.zeros(self.LENGTH + 1, dtype=np.uint64)
            return {c: _sum([zero, *(vectors[bank] for bank in c)]) for c in chosen}

        plain = sums({bank: with_count(_update(bank, self.LENGTH)) for bank in FOUR})
        targets = {vector.tobytes(): chosen for chosen, vector in plain.items() if chosen}
        targets |= {(np.uint64(0) - vector).tobytes(): chosen for chosen, vector in plain.items() if chosen}
        found = set()
        for one in sums(first).values():
            for other in sums(second).values():
                hit = targets.get((one - other).tobytes())
                if hit is not None:
                    found.add(hit)
        return found

    def test_no_difference_of_totals_shows_a_bank(self) -> None:
        first, second = self._attempts(lambda attempt: Label("v/share", "job-1", attempt))
        assert self._isolated(first, second) == set()

    def test_red_labels_reused_across_attempts(self) -> None:
        first, second = self._attempts(lambda attempt: Label("v/share", "job-1", 0))
        assert (self.LATE,) in self._isolated(first, second)

    def test_red_the_scan_finds_a_sum_without_masks(self) -> None:
        plain = {bank: with_count(_update(bank, self.LENGTH)) for bank in FOUR}
        found = self._isolated(plain, {bank: plain[bank] for bank in THREE})
        assert {(bank,) for bank in FOUR} <= found

    def test_the_server_gives_out_no_partial_total_and_takes_no_late_share(self) -> None:
        first, second = self._attempts(lambda attempt: Label("v/share", "job-1", attempt))
        void = Opening(Roster("job-1", 0, FOUR), "v/share", 0, self.LENGTH + 1)
        for bank in THREE:
            void.add(bank, first[bank])
        with pytest.raises(JobVoid, match=self.LATE):
            void.total()
        again = Opening(Roster("job-1", 1, THREE), "v/share", 0, self.LENGTH + 1)
        with pytest.raises(ProtocolError, match="OPENING_STRANGER"):
            again.add(self.LATE, first[self.LATE])
        for bank in THREE:
            again.add(bank, second[bank])
        again.total()
        with pytest.raises(ProtocolError, match="OPENING_CLOSED"):
            again.add("bank-a", first["bank-a"])

    def test_shares_of_two_attempts_do_not_mix(self) -> None:
        first, second = self._attempts(lambda attempt: Label("v/share", "job-1", attempt))
        mixed = Opening(Roster("job-1", 1, THREE), "v/share", 0, self.LENGTH + 1)
        mixed.add("bank-a", first["bank-a"])
        mixed.add("bank-b", second["bank-b"])
        mixed.add("bank-c", second["bank-c"])
        for attempt in (0, 1):
            label = Label("v/share", "job-1", attempt)
            with pytest.raises(ProtocolError, match="OPENING_COUNT"):
                checked(unmask_group(mixed.total(), group_key=GROUP, label=label), mixed.roster)

    def test_second_roster_of_an_attempt_is_refused_before_masking(self) -> None:
        book = RosterBook()
        book.admit(Roster("job-1", 0, FOUR))
        with pytest.raises(ProtocolError, match="ROSTER_SECOND"):
            book.admit(Roster("job-1", 0, THREE))

    def test_red_without_that_refusal_two_rosters_isolate_a_bank(self) -> None:
        label = Label("v/share", "job-1", 0)
        totals = [
            _sum([_mask(bank, _update(bank, self.LENGTH), label, banks) for bank in banks])
            for banks in (FOUR, THREE)
        ]
        assert (totals[0] - totals[1]).tolist() == _update(self.LATE, self.LENGTH).tolist()


class TestActiveServer:
    """Keys that a server could slip in."""

    def test_one_key_under_two_names_gives_two_pads(self) -> None:
        own, peer = masking.MaskKey.generate(), masking.MaskKey.generate()
        keys = {name: own.agree("bank-a", name, peer.public, "job-1") for name in ("bank-b", "bank-c")}
        assert keys["bank-b"] != keys["bank-c"]

    @pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little")])
    def test_a_key_that_makes_the_secret_known_is_refused(self, public: bytes) -> None:
        with pytest.raises(ProtocolError, match="MASK_KEY"):
            masking.MaskKey.generate().agree("bank-a", "bank-b", public, "job-1")
