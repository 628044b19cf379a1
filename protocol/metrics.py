"""Figures of a score over histograms, since nobody may pool rows.

Each bank sorts its hold-out rows into agreed cells of the PD and sends, masked, the cells' counts of good and
bad rows, the sum of PDs per cell and its sum of squared errors. The figures follow from the totals.

Sources: AUC with half a point for ties (Hanley & McNeil 1982; exact when every score has a cell of its own);
KS, the largest distance of the two cumulative shares; Brier 1950; calibration slope and intercept (Cox 1958);
population stability index Σ (a − e)·ln(a / e).

Invariants: a histogram's ring vector adds up exactly; counts are integers. Cells below 50 rows are merged
before a table is shown (`merge_small_cells`). What each party learns: the totals over all banks. Not
protected: without noise, totals of two nearly equal cohorts differ by the rows that differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from protocol import ring
from protocol.errors import DataError, ProtocolError

FRACTION_BITS = 24
"""Fixed point of sums of PDs and squared errors in an opening."""

MAXIMUM_ROWS = 1 << 28
"""Rows of one bank up to which the fixed point is exact in float64."""

_SMALLEST_PD = 1e-9


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Counts and sums of scored rows by cell of PD.

    Attributes:
        edges: float64, shape (n + 1,), increasing; cell i is [edges[i], edges[i + 1]), and the outer cells
            take what lies beyond.
        good: int64, shape (n,), rows without default.
        bad: int64, shape (n,), rows with default.
        pd_sum: float64, shape (n,), sum of the PDs.
        squared_error: Σ (PD − y)² over all rows.
    """

    edges: NDArray[np.float64]
    good: NDArray[np.int64]
    bad: NDArray[np.int64]
    pd_sum: NDArray[np.float64]
    squared_error: float

    def __post_init__(self) -> None:
        cells = len(self.edges) - 1
        if cells < 1 or not (np.isfinite(self.edges).all() and (np.diff(self.edges) > 0).all()):
            raise ProtocolError("HISTOGRAM_EDGES", "Edges of a histogram must be finite and increasing.")
        if any(len(part) != cells for part in (self.good, self.bad, self.pd_sum)):
            raise ProtocolError("HISTOGRAM_SHAPE", "A histogram must have one entry per cell.")
        if (self.good < 0).any() or (self.bad < 0).any():
            raise ProtocolError("HISTOGRAM_NEGATIVE", "A histogram has a negative count.")

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows per cell, shape (n,)."""
        return self.good + self.bad

    @property
    def total(self) -> int:
        """Rows in all."""
        return int(self.rows.sum())


@dataclass(frozen=True)
class Cell:
    """One line of a calibration table."""

    lower: float
    upper: float
    rows: int
    mean_pd: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed default rates.

    Attributes:
        cells: lines with at least one row, by PD.
        slope: of the observed log-odds on the predicted ones, 1 if calibrated; None if the cells don't
            determine it (fewer than two, or all good or bad).
        intercept: of the same fit, 0 if calibrated; None likewise.
    """

    cells: tuple[Cell, ...]
    slope: float | None
    intercept: float | None


def histogram(
    edges: NDArray[np.float64], pd: NDArray[np.float64], y: NDArray[np.integer | np.bool_]
) -> ScoreHistogram:
    """Sort scored rows into cells.

    Args:
        edges: shape (n + 1,), increasing.
        pd: probabilities of default, shape (m,), within [0, 1].
        y: outcomes, shape (m,), 1 = default.

    Raises:
        DataError: ``SCORE_RANGE`` for a PD outside [0, 1], ``SCORE_LABEL`` for an outcome other than 0 and 1,
            ``SCORE_LENGTH`` if lengths differ.
    """
    score = np.asarray(pd, dtype=np.float64)
    outcome = np.asarray(y)
    if score.shape != outcome.shape or score.ndim != 1:
        raise DataError("SCORE_LENGTH", "Scores and outcomes must have the same number of rows.")
    if not ((score >= 0) & (score <= 1)).all():
        raise DataError("SCORE_RANGE", "A score lies outside 0 to 1.")
    if not np.isin(outcome, (0, 1)).all():
        raise DataError("SCORE_LABEL", "An outcome is neither 0 nor 1.")
    bad_row = outcome.astype(bool)
    bounds = np.asarray(edges, dtype=np.float64)
    cells = len(bounds) - 1
    place = places(bounds, score)
    return ScoreHistogram(
        edges=bounds,
        good=np.bincount(place[~bad_row], minlength=cells).astype(np.int64),
        bad=np.bincount(place[bad_row], minlength=cells).astype(np.int64),
        pd_sum=np.bincount(place, weights=score, minlength=cells).astype(np.float64),
        squared_error=float(((score - bad_row) ** 2).sum()),
    )


def places(edges: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the cell of each score; shape (m,)."""
    return np.searchsorted(edges[1:-1], scores, side="right")


def vector_length(cells: int) -> int:
    """Return the number of ring elements of a histogram with so many cells."""
    return 3 * cells + 1


def to_vector(counted: ScoreHistogram) -> NDArray[np.uint64]:
    """Return a histogram as ring elements: good, bad, PD sums, squared error; shape (3n + 1,).

    Raises:
        ProtocolError: ``HISTOGRAM_TOO_LARGE`` beyond 2^28 rows.
    """
    if counted.total > MAXIMUM_ROWS:
        raise ProtocolError("HISTOGRAM_TOO_LARGE", "A histogram of one bank has more than 2^28 rows.")
    sums = np.append(counted.pd_sum, counted.squared_error)
    return np.concatenate(
        [
            counted.good.astype(np.uint64),
            counted.bad.astype(np.uint64),
            ring.encode(sums, FRACTION_BITS, float(MAXIMUM_ROWS)),
        ]
    )


def from_vector(
    edges: NDArray[np.float64], vector: NDArray[np.uint64], noised: bool = False
) -> ScoreHistogram:
    """Return the histogram of a total.

    Args:
        edges: shape (n + 1,), as all banks used them.
        vector: the opened total without masks, shape (3n + 1,).
        noised: whether noise was added; negative counts are then set to zero instead of refused.

    Raises:
        ProtocolError: ``HISTOGRAM_SHAPE`` or ``HISTOGRAM_NEGATIVE``.
    """
    cells = len(edges) - 1
    if vector.shape != (vector_length(cells),):
        raise ProtocolError("HISTOGRAM_SHAPE", "A histogram's vector has the wrong length.")
    counts = ring.signed(vector[: 2 * cells])
    sums = ring.decode(vector[2 * cells :], FRACTION_BITS)
    if noised:
        counts, sums = np.maximum(counts, 0), np.maximum(sums, 0.0)
    return ScoreHistogram(
        np.asarray(edges, dtype=np.float64), counts[:cells], counts[cells:], sums[:cells], float(sums[cells])
    )


def merge_small_cells(counted: ScoreHistogram, minimum: int = 50) -> ScoreHistogram:
    """Merge neighbouring cells until each has enough rows.

    Args:
        counted: a histogram.
        minimum: fewest rows of a cell.

    Raises:
        DataError: ``HISTOGRAM_TOO_FEW_ROWS`` if all cells together have fewer.
    """
    if counted.total < minimum:
        raise DataError(
            "HISTOGRAM_TOO_FEW_ROWS",
            f"A table of figures needs at least {minimum} rows.",
            "Evaluate on more rows, or on none.",
        )
    starts = [0]
    within = 0
    for cell, rows in enumerate(counted.rows.tolist()):
        if within >= minimum:
            starts.append(cell)
            within = 0
        within += rows
    if within < minimum and len(starts) > 1:
        starts.pop()  # what remains at the end joins the last cell that is full
    return ScoreHistogram(
        edges=counted.edges[[*starts, len(counted.rows)]],
        good=np.add.reduceat(counted.good, starts),
        bad=np.add.reduceat(counted.bad, starts),
        pd_sum=np.add.reduceat(counted.pd_sum, starts),
        squared_error=counted.squared_error,
    )


def _both_classes(counted: ScoreHistogram) -> tuple[list[int], list[int]]:
    """Return good and bad rows per cell as Python integers, whose products never overflow."""
    good, bad = counted.good.tolist(), counted.bad.tolist()
    if sum(good) == 0 or sum(bad) == 0:
        raise DataError(
            "SCORE_ONE_CLASS",
            "Separation can't be measured: the rows have one kind of outcome only.",
            "Evaluate on rows with and without default.",
        )
    return good, bad


def auc(counted: ScoreHistogram) -> float:
    """Return the area under the ROC curve; rows of one cell count as ties.

    Raises:
        DataError: ``SCORE_ONE_CLASS``.
    """
    good, bad = _both_classes(counted)
    below = accumulate(good, initial=0)
    twice = sum(b * (2 * lower + g) for g, b, lower in zip(good, bad, below, strict=False))
    return twice / (2 * sum(good) * sum(bad))


def ks(counted: ScoreHistogram) -> float:
    """Return the Kolmogorov-Smirnov distance of good and bad rows, between 0 and 1.

    Raises:
        DataError: ``SCORE_ONE_CLASS``.
    """
    good, bad = _both_classes(counted)
    goods, bads = sum(good), sum(bad)
    pairs = zip(accumulate(good), accumulate(bad), strict=True)
    return max(abs(b * goods - g * bads) for g, b in pairs) / (goods * bads)


def brier(counted: ScoreHistogram) -> float:
    """Return the mean squared error of the PD (exact, not by cell).

    Raises:
        DataError: ``HISTOGRAM_TOO_FEW_ROWS`` without rows.
    """
    if counted.total == 0:
        raise DataError("HISTOGRAM_TOO_FEW_ROWS", "There are no rows to evaluate.")
    return counted.squared_error / counted.total


def roc_points(counted: ScoreHistogram) -> NDArray[np.float64]:
    """Return the ROC curve from (0, 0) to (1, 1), shape (n + 1, 2): false and true positive rate.

    Raises:
        DataError: ``SCORE_ONE_CLASS``.
    """
    good, bad = _both_classes(counted)
    curve = np.zeros((len(good) + 1, 2))
    curve[1:, 0] = np.cumsum(good[::-1]) / sum(good)
    curve[1:, 1] = np.cumsum(bad[::-1]) / sum(bad)
    return curve


def stability_index(expected: NDArray[np.integer], actual: NDArray[np.integer]) -> float:
    """Return the population stability index of two counts over the same cells.

    An empty cell counts as half a row, since the logarithm has no other finite answer.

    Args:
        expected: rows per cell at development, shape (n,).
        actual: rows per cell now, shape (n,).

    Raises:
        DataError: ``HISTOGRAM_TOO_FEW_ROWS`` if either has no rows.
        ProtocolError: ``HISTOGRAM_SHAPE`` or ``HISTOGRAM_NEGATIVE``.
    """
    first, second = np.asarray(expected), np.asarray(actual)
    if first.shape != second.shape or first.ndim != 1:
        raise ProtocolError("HISTOGRAM_SHAPE", "Both counts must be over the same cells.")
    if (first < 0).any() or (second < 0).any():
        raise ProtocolError("HISTOGRAM_NEGATIVE", "A histogram has a negative count.")
    if first.sum() == 0 or second.sum() == 0:
        raise DataError("HISTOGRAM_TOO_FEW_ROWS", "Stability needs rows at both times.")
    e = np.maximum(first, 0.5) / first.sum()
    a = np.maximum(second, 0.5) / second.sum()
    return float(np.sum((a - e) * np.log(a / e)))


def calibration(counted: ScoreHistogram) -> Calibration:
    """Return predicted against observed default rates, and the line between their log-odds."""
    rows = counted.rows
    filled = rows > 0
    n, bad = rows[filled].astype(np.float64), counted.bad[filled].astype(np.float64)
    # A noised or rounded sum may leave [0, 1] by a hair.
    mean = np.clip(counted.pd_sum[filled] / n, 0.0, 1.0)
    lower, upper = counted.edges[:-1][filled], counted.edges[1:][filled]
    cells = tuple(
        Cell(float(lo), float(up), int(k), float(m), float(b / k))
        for lo, up, k, m, b in zip(lower, upper, n, mean, bad, strict=True)
    )
    line = logistic_line(mean, n, bad)
    return Calibration(cells, *(line if line is not None else (None, None)))


def logistic_line(
    mean: NDArray[np.float64], rows: NDArray[np.float64], bad: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Fit logit P(bad) = intercept + slope·logit(mean PD) by Newton's method; return slope, intercept."""
    if len(mean) < 2 or bad.sum() == 0 or bad.sum() == rows.sum():
        return None
    p = np.clip(mean, _SMALLEST_PD, 1 - _SMALLEST_PD)
    x = np.log(p / (1 - p))
    if np.ptp(x) == 0:
        return None
    design = np.column_stack([np.ones_like(x), x])
    beta = np.array([0.0, 1.0])
    for _ in range(100):
        fitted = 1 / (1 + np.exp(-np.clip(design @ beta, -40, 40)))
        weight = rows * fitted * (1 - fitted)
        hessian = design.T @ (design * weight[:, None])
        try:
            step = np.linalg.solve(hessian, design.T @ (bad - rows * fitted))
        except np.linalg.LinAlgError:
            return None
        beta = beta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            return float(beta[1]), float(beta[0])
    return None
