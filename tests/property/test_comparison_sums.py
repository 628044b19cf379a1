"""DeLong sums over any rows, cells and split between banks."""

import numpy as np
from delong_exact import exact
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import comparison, metrics

EDGES = np.linspace(0.0, 1.0, 9)


# Scores in hundredths, so that ties occur; two rows of either kind at least.
ROW = st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 1), st.integers(0, 3))


@given(st.lists(ROW, min_size=4, max_size=50))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_banks_sums_give_delong_on_cells(made: list[tuple[int, int, int, int]]) -> None:
    drawn = np.array(made)
    first, second, bank = drawn[:, 0] / 100, drawn[:, 1] / 100, drawn[:, 3]
    y = drawn[:, 2].astype(np.int8)
    y[:4] = (0, 0, 1, 1)
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
