"""DeLong sums over any rows, cells and split between banks."""

import numpy as np
from delong_exact import exact
from hypothesis import given
from hypothesis import strategies as st

from protocol import comparison, metrics

EDGES = np.linspace(0.0, 1.0, 9)


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, outcomes with two of either kind at least, and the bank of each row."""
    n = draw(st.integers(4, 60))
    unit = st.floats(0.0, 1.0, allow_nan=False)
    first = np.array(draw(st.lists(unit, min_size=n, max_size=n)))
    second = np.array(draw(st.lists(unit, min_size=n, max_size=n)))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=np.int8)
    y[:2], y[2:4] = 0, 1
    bank = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    return first, second, y, bank


@given(rows())
def test_the_banks_sums_give_delong_on_cells(made: tuple[np.ndarray, ...]) -> None:
    first, second, y, bank = made
    one, two = metrics.histogram(EDGES, first, y), metrics.histogram(EDGES, second, y)
    total = np.zeros(comparison.LENGTH, dtype=np.uint64)
    for b in range(4):
        own = bank == b
        total += comparison.sums(one, two, (first[own], second[own]), y[own])
    found = comparison.compare(one, two, total)
    at = [metrics.places(EDGES, score).astype(np.float64) for score in (first, second)]
    difference, error = exact(at[0], at[1], y)
    assert abs(found.difference - difference) < 1e-9
    # In squares: near zero a root makes much of the fixed point's last bit.
    assert abs(found.standard_error**2 - error**2) < 1e-5
    assert found.lower <= found.difference <= found.upper
