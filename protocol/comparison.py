"""Whether one score separates better than another: DeLong's interval from masked sums.

Specification: DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves: a nonparametric approach", Biometrics 44 (1988). With m bad and n good rows, a bad row's
*placement* under a score is the share of good rows below it, a good row's the share of bad rows above it, ties
counting half. The mean placement of either kind is the AUC. For two scores let d be the differences of a row's two
placements; then ::

    AUC₁ − AUC₂ = mean of d        Var(AUC₁ − AUC₂) = s²(d over bad rows)/m + s²(d over good rows)/n

with sample variances s² (their equations 2–5 for the contrast (1, −1)). Placements follow from the two scores'
histograms over all banks, which everybody has; each bank adds up its own rows' d and d², in fixed point, and nothing
but those four sums over all banks is opened. This is DeLong's method to the digit on scores rounded to cells.

Invariants:
    - The vector's length doesn't depend on rows.
    - Sums whose means are not the difference of the two histograms' AUCs are refused: they are of other rows.

What each party learns: four numbers over all banks. Not protected: a bank may send any d², and so move the width of
the interval, but not its middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol import ring
from protocol.errors import DataError, ProtocolError
from protocol.metrics import FRACTION_BITS, MAXIMUM_ROWS, ScoreHistogram, auc, places

LENGTH = 4
"""Ring elements of a comparison: Σd and Σd² over bad rows, then over good rows."""

QUANTILE = 1.959963984540054
"""Of the normal distribution, for 95 %."""

_TOLERANCE = 1e-5
"""Above what fixed point does to a mean of two rows over a hundred banks."""


@dataclass(frozen=True)
class Comparison:
    """How much larger the first score's AUC is.

    Attributes:
        difference: AUC of the first less AUC of the second.
        standard_error: of the difference.
        lower: end of the 95 % interval.
        upper: end of the 95 % interval.
    """

    difference: float
    standard_error: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class _Placements:
    """Placement of a row by its cell: of a bad one, of a good one; shape (cells,) each."""

    bad: NDArray[np.float64]
    good: NDArray[np.float64]

    @classmethod
    def of(cls, counted: ScoreHistogram) -> _Placements:
        good, bad = counted.good.astype(np.float64), counted.bad.astype(np.float64)
        goods, bads = good.sum(), bad.sum()
        if goods < 2 or bads < 2:
            raise DataError(
                "SCORE_ONE_CLASS",
                "Two scores can't be compared: there are fewer than two rows of one outcome.",
                "Evaluate on rows with and without default.",
            )
        below = np.cumsum(good) - good / 2
        above = bads - np.cumsum(bad) + bad / 2
        return cls(below / goods, above / bads)


def sums(
    first: ScoreHistogram,
    second: ScoreHistogram,
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    y: NDArray[np.integer | np.bool_],
) -> NDArray[np.uint64]:
    """Return what one bank adds to a comparison, as ring elements, shape (4,).

    Args:
        first: the first score's histogram over all banks.
        second: the second score's.
        scores: both scores of this bank's rows, as they were sorted into the histograms, shape (k,) each.
        y: outcomes, 1 = default, shape (k,).

    Raises:
        DataError: ``SCORE_ONE_CLASS`` if there are fewer than two rows of one outcome over all banks,
            ``SCORE_LENGTH`` if lengths differ.
    """
    outcome = np.asarray(y).astype(bool)
    if any(score.shape != outcome.shape for score in scores):
        raise DataError("SCORE_LENGTH", "Scores and outcomes must have the same number of rows.")
    one, two = _Placements.of(first), _Placements.of(second)
    at, other = places(first.edges, scores[0]), places(second.edges, scores[1])
    bad = (one.bad[at] - two.bad[other])[outcome]
    good = (one.good[at] - two.good[other])[~outcome]
    values = np.array([bad.sum(), (bad**2).sum(), good.sum(), (good**2).sum()])
    return ring.encode(values, FRACTION_BITS, float(MAXIMUM_ROWS))


def compare(first: ScoreHistogram, second: ScoreHistogram, total: NDArray[np.uint64]) -> Comparison:
    """Return the difference of two scores and its interval.

    Args:
        first: the first score's histogram over all banks.
        second: the second score's, over the same rows.
        total: the opened total without masks, shape (4,).

    Raises:
        DataError: as `sums`.
        ProtocolError: ``COMPARISON_ROWS`` if the histograms count different rows, ``COMPARISON_SHAPE``, or
            ``COMPARISON_SUMS`` if the sums are not of the histograms' rows.
    """
    bads, goods = int(first.bad.sum()), int(first.good.sum())
    if (bads, goods) != (int(second.bad.sum()), int(second.good.sum())):
        raise ProtocolError("COMPARISON_ROWS", "Two scores are compared over different rows.")
    if total.shape != (LENGTH,):
        raise ProtocolError("COMPARISON_SHAPE", "A comparison's vector has the wrong length.")
    if min(bads, goods) < 2:
        _Placements.of(first)
    bad_sum, bad_squares, good_sum, good_squares = ring.decode(total, FRACTION_BITS)
    difference = auc(first) - auc(second)
    means = bad_sum / bads, good_sum / goods
    if any(abs(mean - difference) > _TOLERANCE for mean in means) or min(bad_squares, good_squares) < 0:
        raise ProtocolError(
            "COMPARISON_SUMS",
            "The sums of a comparison do not fit the histograms that they are of.",
            "A bank added up other rows than it sorted into cells.",
        )
    error = math.sqrt(_variance(bad_sum, bad_squares, bads) + _variance(good_sum, good_squares, goods))
    return Comparison(difference, error, difference - QUANTILE * error, difference + QUANTILE * error)


def _variance(total: float, squares: float, rows: int) -> float:
    """Return the variance of a mean of so many values from their sum and sum of squares."""
    return max(0.0, squares - total * total / rows) / (rows - 1) / rows
