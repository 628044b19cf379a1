"""DeLong from masked sums: equal to the paper's formulas on rows, and refused where the sums can't be."""

import numpy as np
import pytest
from delong_exact import exact

from protocol import comparison, metrics
from protocol.errors import DataError, ProtocolError

EDGES = np.linspace(0.0, 1.0, 65)


def scores(seed: int = 0, rows: int = 3000, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(seed))
    y = (rng.random(rows) < 0.25).astype(np.int8)
    common = rng.normal(size=rows) + y
    first = 1 / (1 + np.exp(-common - gain * y - rng.normal(size=rows)))
    second = 1 / (1 + np.exp(-common - rng.normal(size=rows)))
    return first, second, y


def opened(
    first: np.ndarray, second: np.ndarray, y: np.ndarray, banks: int = 3
) -> tuple[metrics.ScoreHistogram, metrics.ScoreHistogram, np.ndarray]:
    """Return both histograms and the sum of the banks' vectors."""
    counted = [metrics.histogram(quantiles(one), one, y) for one in (first, second)]
    total = np.zeros(comparison.LENGTH, dtype=np.uint64)
    for part in range(banks):
        own = slice(part, None, banks)
        total += comparison.sums(counted[0], counted[1], (first[own], second[own]), y[own])
    return counted[0], counted[1], total


def quantiles(score: np.ndarray) -> np.ndarray:
    inner = np.quantile(score, np.arange(1, 64) / 64)
    return np.concatenate([[0.0], np.maximum.accumulate(inner + np.arange(63) * 1e-12), [1.0]])


def cells(score: np.ndarray) -> np.ndarray:
    return metrics.places(quantiles(score), score).astype(np.float64)


@pytest.mark.parametrize(("seed", "gain"), [(0, 0.0), (1, 0.3), (2, 1.5)])
def test_it_is_delong_to_the_digit_on_cells_and_close_to_it_on_rows(seed: int, gain: float) -> None:
    first, second, y = scores(seed, gain=gain)
    found = comparison.compare(*opened(first, second, y))
    difference, error = exact(cells(first), cells(second), y)
    assert found.difference == pytest.approx(difference, abs=1e-9)
    assert found.standard_error == pytest.approx(error, rel=1e-6)
    difference, error = exact(first, second, y)
    assert found.difference == pytest.approx(difference, abs=0.001)
    assert found.standard_error == pytest.approx(error, rel=0.02)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * error, rel=0.02)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    # No difference between the scores: 95 % of 400 intervals, within three standard errors, hold zero.
    held = 0
    for seed in range(400):
        found = comparison.compare(*opened(*scores(seed, rows=500, gain=0.0)))
        held += found.lower <= 0.0 <= found.upper
    assert abs(held / 400 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400)


def test_a_score_is_no_better_than_itself() -> None:
    first, _, y = scores()
    found = comparison.compare(*opened(first, first, y))
    assert (found.difference, found.standard_error, found.lower, found.upper) == (0.0, 0.0, 0.0, 0.0)


def test_exchanged_scores_give_the_mirrored_interval() -> None:
    first, second, y = scores()
    there, back = (
        comparison.compare(*opened(first, second, y)),
        comparison.compare(*opened(second, first, y)),
    )
    assert back.difference == pytest.approx(-there.difference)
    assert back.lower == pytest.approx(-there.upper)


@pytest.mark.parametrize("place", [0, 2])
def test_sums_of_other_rows_are_refused(place: int) -> None:
    one, two, total = opened(*scores())
    total[place] += np.uint64(1 << 22)
    with pytest.raises(ProtocolError) as refused:
        comparison.compare(one, two, total)
    assert refused.value.code == "COMPARISON_SUMS"


def test_negative_squares_are_refused() -> None:
    one, two, total = opened(*scores())
    total[1] = np.uint64(2**64 - 5)
    with pytest.raises(ProtocolError) as refused:
        comparison.compare(one, two, total)
    assert refused.value.code == "COMPARISON_SUMS"


def test_other_rows_in_one_histogram_are_refused() -> None:
    first, second, y = scores()
    one, _, total = opened(first, second, y)
    fewer = metrics.histogram(EDGES, second[1:], y[1:])
    with pytest.raises(ProtocolError) as refused:
        comparison.compare(one, fewer, total)
    assert refused.value.code == "COMPARISON_ROWS"


def test_a_vector_of_another_length_is_refused() -> None:
    one, two, total = opened(*scores())
    with pytest.raises(ProtocolError) as refused:
        comparison.compare(one, two, total[1:])
    assert refused.value.code == "COMPARISON_SHAPE"


@pytest.mark.parametrize("bads", [0, 1])
def test_too_few_rows_of_an_outcome_are_refused(bads: int) -> None:
    first, second, y = scores(rows=100)
    y = np.zeros_like(y)
    y[:bads] = 1
    one, two = metrics.histogram(EDGES, first, y), metrics.histogram(EDGES, second, y)
    with pytest.raises(DataError) as refused:
        comparison.sums(one, two, (first, second), y)
    assert refused.value.code == "SCORE_ONE_CLASS"
    with pytest.raises(DataError):
        comparison.compare(one, two, np.zeros(comparison.LENGTH, dtype=np.uint64))


def test_scores_and_outcomes_of_unequal_length_are_refused() -> None:
    first, second, y = scores()
    one, two, _ = opened(first, second, y)
    with pytest.raises(DataError) as refused:
        comparison.sums(one, two, (first, second[1:]), y)
    assert refused.value.code == "SCORE_LENGTH"


def test_a_bank_without_rows_adds_nothing() -> None:
    first, second, y = scores()
    one, two, _ = opened(first, second, y)
    assert not comparison.sums(one, two, (first[:0], second[:0]), y[:0]).any()
