"""The product on shares: equal to the plaintext sums to the bit, T's refusals, the wrap limit."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol import join, product, ring
from protocol.errors import ProtocolError
from protocol.join import Matched, MemorySpool, Reader, Table, Writer, bucketed
from protocol.labels import LabelLedger, observe
from protocol.product import ComputeSums, DenseBook, Product

TABLE_KEY, SHARE_SEED, PAD_SEED = (hashlib.sha256(x.encode()).digest() for x in ("K_tab", "s_T", "s_U"))


def _output(name: object) -> bytes:
    return hashlib.sha512(f"output {name}".encode()).digest()


def _world(
    n: int, width: int, coverage: float, seed: int = 1, wire: int = 40
) -> tuple[Product, NDArray[np.uint8], Matched]:
    """A table of n rows, read by a bank of n rows of which the stated share is listed."""
    bits = np.random.Generator(np.random.PCG64(seed)).integers(0, 2, (n, width), dtype=np.uint8)
    table = Table("job-1", 0, "bank-a", "shop", bucketed(n), width)
    writer = Writer(table, n, table_key=TABLE_KEY, share_seed=SHARE_SEED, spool=MemorySpool())
    writer.add([_output(i) for i in range(n)], bits)
    covered = round(n * coverage)
    own = [_output(i) for i in range(covered)] + [_output(f"x{i}") for i in range(n - covered)]
    reader = Reader(table, own, table_key=TABLE_KEY)
    for chunk in writer.chunks():
        reader.feed(chunk)
    return Product(table, wire), bits, reader.finish()


def _at_compute(shape: Product, chunks: list[bytes]) -> NDArray[np.uint64]:
    side = ComputeSums(shape, share_seed=SHARE_SEED)
    for chunk in chunks:
        side.feed(chunk)
    return side.finish(DenseBook())


def _shared_sums(shape: Product, matched: Matched, values: NDArray[np.int64]) -> NDArray[np.int64]:
    chunks = list(product.dense(shape, matched, values, seed=PAD_SEED))
    total = product.bank_sums(matched, values)
    total = total + _at_compute(shape, chunks)
    total = total + product.partner_sums(shape, seed=PAD_SEED, share_seed=SHARE_SEED)
    return ring.signed_low(total, shape.width)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "BLOCK", 64)


@pytest.mark.usefixtures("small_blocks")
class TestEquality:
    @pytest.mark.parametrize("coverage", [0.0, 0.5, 1.0])
    def test_sums_equal_the_plaintext_to_the_bit(self, coverage: float) -> None:
        shape, bits, matched = _world(300, 7, coverage)
        outcomes = np.random.Generator(np.random.PCG64(2)).random(len(matched.rows)) < 0.22
        values = product.weights(outcomes, 0.22)
        plain = values @ bits[matched.rows].astype(np.int64)
        assert _shared_sums(shape, matched, values).tolist() == plain.tolist()

    @pytest.mark.parametrize("coverage", [0.0, 0.5, 1.0])
    def test_sizes_do_not_depend_on_coverage(self, coverage: float) -> None:
        shape, _, matched = _world(300, 7, coverage)
        values = np.ones(len(matched.rows), dtype=np.int64)
        sizes = [len(chunk) for chunk in product.dense(shape, matched, values, seed=PAD_SEED)]
        assert sizes == [shape.chunk_bytes(chunk) for chunk in range(shape.chunks)]
        assert sum(sizes) == 7 * 320 * 5

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_any_weights_any_bits(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(1, 90))
        shape, bits, matched = _world(n, 3, data.draw(st.floats(0, 1)), seed=data.draw(st.integers(0, 9)))
        c = len(matched.rows)
        whole = st.integers(-(2**39) // 90, 2**39 // 90)
        values = np.array(data.draw(st.lists(whole, min_size=c, max_size=c)), dtype=np.int64)
        plain = values @ bits[matched.rows].astype(np.int64)
        assert _shared_sums(shape, matched, values).tolist() == plain.tolist()

    def test_red_a_component_swapped_is_not_equal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shape, bits, matched = _world(300, 2, 1.0)
        values = product.weights(np.arange(300) % 3 == 0, 0.22)
        honest = join.zeta
        monkeypatch.setattr(product, "zeta", lambda t, s, c, b: honest(t, s, 1 - c, b))
        plain = values @ bits[matched.rows].astype(np.int64)
        assert _shared_sums(shape, matched, values).tolist() != plain.tolist()


class TestWrap:
    """Test 12: exact at the limit, refused one beyond, and wrong if it were not refused."""

    WIRE, BITS = 24, 12

    def _extreme(self, n: int, sign: int) -> tuple[int, int]:
        """Return the sum over n rows of weight ±1 with all bits one, on shares and in the plain."""
        shape, _, matched = _world(n, 1, 1.0, wire=self.WIRE)
        values = np.full(n, sign << self.BITS, dtype=np.int64)
        flat = replace(matched, shares=matched.shares ^ self._missing(n, matched))
        return int(_shared_sums(shape, flat, values)[0]), n * sign << self.BITS

    @staticmethod
    def _missing(n: int, matched: Matched) -> NDArray[np.uint8]:
        """Where the partner's bit is zero: flipped, so that every bit is one."""
        _, bits, _ = _world(n, 1, 1.0)
        return 1 - bits[matched.rows]

    @pytest.mark.parametrize("sign", [1, -1])
    def test_exact_at_the_limit_and_refused_beyond(self, sign: int) -> None:
        limit = 2 ** (self.WIRE - 1 - self.BITS) - 1
        ring.check_headroom(limit, 1.0, self.BITS, 0.0, self.WIRE)
        shared, plain = self._extreme(limit, sign)
        assert shared == plain
        with pytest.raises(ProtocolError, match="RING_WRAP"):
            ring.check_headroom(limit + 1, 1.0, self.BITS, 0.0, self.WIRE)

    def test_red_one_beyond_the_limit_would_wrap(self) -> None:
        shared, plain = self._extreme(2 ** (self.WIRE - 1 - self.BITS), 1)
        assert shared == -plain

    def test_noise_counts(self) -> None:
        limit = 2 ** (self.WIRE - 1 - self.BITS) - 1
        with pytest.raises(ProtocolError, match="RING_WRAP"):
            ring.check_headroom(limit, 1.0, self.BITS, 2**self.BITS / 10, self.WIRE)


class TestWeights:
    @pytest.mark.parametrize(
        ("rate", "good", "bad"), [(0.25, -1024, 3072), (0.22, -901, 3195), (0.5, -2048, 2048)]
    )
    def test_weights_are_rounded_once(self, rate: float, good: int, bad: int) -> None:
        assert product.label_weights(rate) == (good, bad)
        assert product.weights(np.array([False, True]), rate).tolist() == [good, bad]

    def test_half_goes_to_even(self) -> None:
        assert product.label_weights(2.5 / 4096) == (-2, 4094)
        assert product.label_weights(3.5 / 4096) == (-4, 4092)

    @pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan"), 2.0])
    def test_base_rates_out_of_range_are_refused(self, rate: float) -> None:
        with pytest.raises(ProtocolError, match="PRODUCT_BASE_RATE"):
            product.label_weights(rate)

    def test_outcomes_are_booleans(self) -> None:
        with pytest.raises(ProtocolError, match="PRODUCT_OUTCOMES"):
            product.weights(np.array([0, 1]), 0.22)  # type: ignore[arg-type]

    def test_weights_fit_the_rows(self) -> None:
        shape, _, matched = _world(8, 2, 1.0)
        for wrong in (np.zeros(7, dtype=np.int64), np.zeros(8)):
            with pytest.raises(ProtocolError, match="PRODUCT_WEIGHTS"):
                product.bank_sums(matched, wrong)  # type: ignore[arg-type]
            with pytest.raises(ProtocolError, match="PRODUCT_WEIGHTS"):
                list(product.dense(shape, matched, wrong, seed=PAD_SEED))  # type: ignore[arg-type]


class TestShape:
    def test_a_product_runs_on_a_join(self) -> None:
        table = Table("job-1", 0, "bank-a", "shop", 8, 2)
        for shape in ((replace(table, kind="publication"), 40), (table, 12), (table, 8), (table, 72)):
            with pytest.raises(ProtocolError, match="PRODUCT_SHAPE"):
                Product(*shape)


class TestCompute:
    """Test 6, T's side: lengths, a second D; what T can't do stands with the opening's tests."""

    def _parts(self) -> tuple[Product, list[bytes]]:
        shape, _, matched = _world(40, 2, 1.0)
        return shape, list(product.dense(shape, matched, np.ones(40, dtype=np.int64), seed=PAD_SEED))

    def test_wrong_lengths_are_refused(self) -> None:
        shape, chunks = self._parts()
        for changed in (chunks[:-1], [*chunks, chunks[0]], [chunks[0][:-5], *chunks[1:]], [b""]):
            with pytest.raises(ProtocolError, match="PRODUCT_LENGTH"):
                _at_compute(shape, changed)

    def test_a_second_d_is_refused_and_the_same_one_is_not(self) -> None:
        shape, chunks = self._parts()
        book = DenseBook()
        for _ in range(2):
            side = ComputeSums(shape, share_seed=SHARE_SEED)
            for chunk in chunks:
                side.feed(chunk)
            side.finish(book)
            book = DenseBook.from_state(book.to_state())
        side = ComputeSums(shape, share_seed=SHARE_SEED)
        for chunk in chunks[::-1]:
            side.feed(chunk)
        with pytest.raises(ProtocolError, match="PRODUCT_SECOND"):
            side.finish(book)

    @pytest.mark.parametrize(
        "place", [{"attempt": 1}, {"bank": "bank-b"}, {"partner": "state"}, {"job": "job-2"}]
    )
    def test_another_place_has_its_own_d(self, place: dict[str, object]) -> None:
        book = DenseBook()
        table = Table("job-1", 0, "bank-a", "shop", 8, 2)
        book.admit(table, "one")
        book.admit(replace(table, **place), "two")  # type: ignore[arg-type]

    def test_a_share_seed_has_32_bytes(self) -> None:
        with pytest.raises(ProtocolError, match="LABEL_KEY"):
            ComputeSums(self._parts()[0], share_seed=bytes(16))

    def test_changed_weights_under_one_seed_are_seen(self) -> None:
        shape, _, matched = _world(40, 2, 1.0)
        with observe(LabelLedger()):
            for _ in range(2):  # a repeat
                list(product.dense(shape, matched, np.ones(40, dtype=np.int64), seed=PAD_SEED))
            changed = np.ones(40, dtype=np.int64)
            changed[3] = 7
            with pytest.raises(ProtocolError, match="LABEL_REUSED"):
                list(product.dense(shape, matched, changed, seed=PAD_SEED))
