"""Figures that a report adds to the registered ones: intervals, and few bands out of many cells.

Sources: variance of the AUC, DeLong, DeLong and Clarke-Pearson (Biometrics 1988), over cells with half a point for
ties; interval of a rate, Wilson (1927). Both at 95 %. Not covered by either: noise of a private release, and change
over time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from concordat.report.result import Figures

Z95 = 1.959963984540054
BANDS = 10


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    lower: float
    upper: float

    def holds(self, value: float) -> bool:
        """Tell whether a value lies in it."""
        return self.lower <= value <= self.upper


@dataclass(frozen=True)
class Band:
    """Neighbouring cells of PD with about a tenth of the rows.

    Attributes:
        lower: least PD.
        upper: greatest PD.
        good: rows without default.
        bad: rows with default.
    """

    lower: float
    upper: float
    good: int
    bad: int

    @property
    def rows(self) -> int:
        """Rows in the band."""
        return self.good + self.bad


@dataclass(frozen=True)
class Bin:
    """Neighbouring calibration cells: mean PD, observed rate and its interval."""

    lower: float
    upper: float
    rows: int
    mean_pd: float
    observed: float
    interval: Interval

    @property
    def off(self) -> bool:
        """Whether the mean PD lies outside the observed rate's interval."""
        return not self.interval.holds(self.mean_pd)


@dataclass(frozen=True)
class Climb:
    """How far down a list of all borrowers, the riskiest first, which shares are passed.

    Attributes:
        share: of all borrowers.
        good: of those without default.
        bad: of those with default.
    """

    share: float
    good: float
    bad: float

    @property
    def gap(self) -> float:
        """Distance of the two curves."""
        return self.bad - self.good


def auc_error(good: Sequence[int], bad: Sequence[int]) -> float:
    """Return DeLong's standard error of the AUC of a histogram, cells in the order of rising PD.

    Args:
        good: rows without default per cell.
        bad: rows with default per cell.
    """
    goods, bads = sum(good), sum(bad)
    # Share of the other kind that each row of a cell is ranked right against, ties counting half.
    of_bad, of_good = [], []
    below_good, below_bad = 0, 0
    for g, b in zip(good, bad, strict=True):
        of_bad.append((below_good + g / 2) / goods)
        of_good.append((bads - below_bad - b / 2) / bads)
        below_good, below_bad = below_good + g, below_bad + b
    return math.sqrt(_variance(of_bad, bad) / bads + _variance(of_good, good) / goods)


def _variance(values: Sequence[float], weights: Sequence[int]) -> float:
    total = sum(weights)
    if total < 2:
        return 0.25  # one row says nothing of the spread: the largest that a share can have
    mean = sum(v * w for v, w in zip(values, weights, strict=True)) / total
    return sum(w * (v - mean) ** 2 for v, w in zip(values, weights, strict=True)) / (total - 1)


def auc_interval(figures: Figures) -> Interval:
    """Return the 95 % interval of the registered AUC."""
    counted = figures["histogram"]
    half = Z95 * auc_error(counted["good"], counted["bad"])
    return Interval(max(0.0, figures["auc"] - half), min(1.0, figures["auc"] + half))


def rate_interval(observed: float, rows: int) -> Interval:
    """Return Wilson's 95 % interval of a rate."""
    z2 = Z95 * Z95
    middle = (observed + z2 / (2 * rows)) / (1 + z2 / rows)
    half = Z95 / (1 + z2 / rows) * math.sqrt(observed * (1 - observed) / rows + z2 / (4 * rows * rows))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _groups(rows: Sequence[int]) -> list[range]:
    """Return runs of neighbouring cells, each cell in the tenth of all rows that its middle row lies in."""
    total, passed = sum(rows), 0
    groups: list[range] = []
    last = -1
    for cell, count in enumerate(rows):
        tenth = min(BANDS - 1, int((passed + count / 2) * BANDS / total))
        passed += count
        if groups and (count == 0 or tenth == last):
            groups[-1] = range(groups[-1].start, cell + 1)
        elif count:
            groups.append(range(groups[-1].stop if groups else 0, cell + 1))
            last = tenth
    return groups


def bands(figures: Figures) -> list[Band]:
    """Return the score histogram in at most ten bands, from the safest to the riskiest."""
    counted = figures["histogram"]
    good, bad, edges = counted["good"], counted["bad"], counted["edges"]
    return [
        Band(edges[g.start], edges[g.stop], sum(good[g.start : g.stop]), sum(bad[g.start : g.stop]))
        for g in _groups([a + b for a, b in zip(good, bad, strict=True)])
    ]


def calibration_bins(figures: Figures) -> list[Bin]:
    """Return the calibration table in at most ten bins, from the safest to the riskiest."""
    cells = figures["calibration"]["cells"]
    made = []
    for group in _groups([cell["rows"] for cell in cells]):
        part = [cells[i] for i in group]
        rows = sum(cell["rows"] for cell in part)
        mean = sum(cell["mean_pd"] * cell["rows"] for cell in part) / rows
        observed = min(1.0, sum(cell["observed"] * cell["rows"] for cell in part) / rows)
        interval = rate_interval(observed, rows)
        made.append(Bin(part[0]["lower"], part[-1]["upper"], rows, mean, observed, interval))
    return made


def climb(good: Sequence[int], bad: Sequence[int]) -> list[Climb]:
    """Return the cumulative shares from the riskiest end, from (0, 0, 0) to (1, 1, 1).

    Args:
        good: rows without default per cell, from the safest.
        bad: rows with default per cell.
    """
    goods, bads = sum(good), sum(bad)
    found, g, b = [Climb(0.0, 0.0, 0.0)], 0, 0
    for more_good, more_bad in zip(reversed(good), reversed(bad), strict=True):
        g, b = g + more_good, b + more_bad
        found.append(Climb((g + b) / (goods + bads), g / goods, b / bads))
    return found


def at(curve: Sequence[Sequence[float]], x: float) -> float:
    """Return a curve's height at x: the highest where it rises straight up, else along its line."""
    best = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 <= x <= x1:
            best = max(best, y1 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return best
