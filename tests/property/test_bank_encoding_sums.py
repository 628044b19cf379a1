"""Whatever the banks hold: the encoding doesn't depend on who adds what first, and stays within its bounds."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from bank_node.encoding import (
    CENTRING_BOUND,
    KNOT_BOUND,
    LARGEST_NUMBER,
    Columns,
    Encoding,
    centring_statistics,
    encoding_from,
    knot_statistics,
    knots_from,
)
from bank_node.training import FRACTION_BITS, UPDATE_LIMIT, update_vector, weights_from
from protocol import ring

COLUMNS = Columns(("n",), (("c", ("A", "B")),))
numbers = st.one_of(
    st.just(float("nan")),
    st.sampled_from([0.0, 1.0, -1.0, LARGEST_NUMBER, -LARGEST_NUMBER]),
    st.floats(-LARGEST_NUMBER, LARGEST_NUMBER, allow_nan=False),
    st.floats(-1e-6, 1e-6),
)
rows = st.lists(st.tuples(numbers, st.sampled_from(["A", "B", "C", None])), min_size=1, max_size=60)
banks = st.lists(rows, min_size=3, max_size=5)


def tables(held: list[list[tuple[float, str | None]]]) -> list[pd.DataFrame]:
    return [pd.DataFrame(bank, columns=["n", "c"]).astype({"n": "float64"}) for bank in held]


def agreed(frames: list[pd.DataFrame], bins: int) -> Encoding:
    def summed(vectors, bound):  # type: ignore[no-untyped-def]
        total = sum(ring.encode(v, bound.fraction_bits, bound.limit) for v in vectors)
        return ring.decode(np.asarray(total, dtype=np.uint64), bound.fraction_bits)

    knots = knots_from(summed([knot_statistics(COLUMNS, f, bins) for f in frames], KNOT_BOUND), COLUMNS, bins)
    return encoding_from(knots, summed([centring_statistics(knots, f) for f in frames], CENTRING_BOUND))


@settings(max_examples=60, deadline=None)
@given(held=banks, bins=st.integers(2, 16))
def test_the_order_of_banks_and_of_rows_doesn_t_matter(held: list, bins: int) -> None:
    frames = tables(held)
    one = agreed(frames, bins)
    assert agreed(frames[::-1], bins) == one
    assert agreed([frame.iloc[::-1] for frame in frames], bins).knots == one.knots


@settings(max_examples=60, deadline=None)
@given(held=banks, bins=st.integers(2, 16), fresh=rows)
def test_encoded_rows_are_finite_and_bounded_and_survive_a_document(
    held: list, bins: int, fresh: list
) -> None:
    encoding = agreed(tables(held), bins)
    frame = tables([fresh])[0]
    encoded = encoding.transform(frame)
    assert encoded.shape == (len(fresh), encoding.width)
    assert np.isfinite(encoded).all()
    assert np.abs(encoded).max(initial=0.0) <= 1.0 + 1e-5
    again = Encoding.from_dict(encoding.to_dict())
    assert again == encoding
    np.testing.assert_array_equal(again.transform(frame), encoded)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=40, max_size=80, unique=True), st.integers(2, 16))
def test_a_larger_number_never_has_a_smaller_code(values: list[float], bins: int) -> None:
    frame = pd.DataFrame({"n": sorted(values), "c": ["A"] * len(values)})
    encoding = agreed([frame] * 3, bins)
    inputs = [i for i, name in enumerate(encoding.names) if name.startswith("n r")]
    assert (np.diff(encoding.transform(frame)[:, inputs], axis=0) >= -1e-6).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-64, 64, width=32), min_size=6, max_size=6),
            st.lists(st.integers(32, 1 << 24), min_size=2, max_size=2),
        ),
        min_size=3,
        max_size=6,
    )
)
def test_the_ring_s_average_is_the_weighted_average(updates: list) -> None:
    weights = [np.array(w, dtype=np.float32).reshape(2, 3) for w, _ in updates]
    counts = [np.array(n, dtype=np.int64) for _, n in updates]
    elements = [
        ring.encode(update_vector(w, n), FRACTION_BITS, UPDATE_LIMIT)
        for w, n in zip(weights, counts, strict=True)
    ]
    total = np.zeros(8, dtype=np.uint64)
    for element in elements:
        total += element
    expected = np.average(np.stack(weights), axis=0, weights=np.stack(counts)[:, :, None].repeat(3, 2))
    np.testing.assert_allclose(
        weights_from(ring.decode(total, FRACTION_BITS), 2), expected, rtol=1e-6, atol=1e-6
    )
