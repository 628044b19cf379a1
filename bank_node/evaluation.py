"""Evaluation on the hold-outs: figures of every model from masked histograms, and S against H+ by DeLong.

Specification: training protocol, B9. No bank shows a score. Three openings, each one vector for all models of the job
in a fixed order: ``edges`` (a model's quantiles, weighted by rows), ``histogram`` (a model's cells; then each
partner's covered rows), and with partners ``comparison`` (the sums of ``protocol.comparison``).

Invariants:
    - A vector's length follows from the proposal alone: a model that doesn't stand is zeros, so that lengths tell
      nobody which partner failed.
    - All banks read the same figures from the same totals; what is stated of cells has 50 rows at least.
    - A model is promotable only if the lower end of the 95 % interval of its AUC less H+'s is above zero. H+ has had
      the same rounds: comparing with H would let five more rounds pass for a partner's merit.

What a bank learns: the totals. Not protected: totals are exact without a private release of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bank_node.encoding import CENTRING_BOUND
from bank_node.openings import COMPARISON, EDGES, HISTOGRAM, Openings
from bank_node.risk_model import H_PLUS, MODELS, S_HEAD, H, Line, S
from protocol import comparison, metrics, ring
from protocol.comparison import Comparison
from protocol.metrics import ScoreHistogram

CELLS = 64
SMALLEST_CELL = 50
COMPARED = (S, S_HEAD)
"""The models that are compared with H+, in the order of the opening."""

Float64 = NDArray[np.float64]
Noise = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]


@dataclass(frozen=True)
class Scored:
    """One bank's hold-out under the models that stand.

    Attributes:
        label: outcomes, shape [n].
        pd: by model, shape [n] each.
        covered: by partner of the proposal, its rows with a bin; 0 for a partner that failed.
    """

    label: NDArray[np.int8]
    pd: Mapping[str, Float64]
    covered: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """What all banks read.

    Attributes:
        counted: histogram over all banks, by model.
        compared: with H+, by model.
        covered: rows with a bin over all banks, by partner of the proposal.
    """

    counted: Mapping[str, ScoreHistogram]
    compared: Mapping[str, Comparison] = field(default_factory=dict)
    covered: tuple[int, ...] = ()

    @property
    def promotable(self) -> bool:
        """Whether S is better than H+ beyond chance; a job without stage S has nothing to compare."""
        if H_PLUS not in self.counted:
            return True
        return S in self.compared and self.compared[S].lower > 0.0

    @property
    def serving(self) -> str:
        """The model whose figures stand first: S, or H where there is no S."""
        return S if S in self.counted else H

    def line(self, model: str) -> Line:
        """Return a model's recalibration by its hold-out; the identity where cells don't determine one."""
        fit = metrics.calibration(metrics.merge_small_cells(self.counted[model], SMALLEST_CELL))
        if fit.slope is None or fit.intercept is None or fit.slope <= 0.0:
            return Line()
        # Rounded, so that it is the same number wherever it is computed.
        return Line(round(fit.slope, 6), round(fit.intercept, 6))


def evaluate(openings: Openings, scored: Scored, *, joint: bool, private: bool, noised: Noise) -> Evaluated:
    """Open the figures of all models.

    Args:
        openings: of the attempt.
        scored: this bank's hold-out.
        joint: whether the job has stage S, whatever became of it.
        private: whether the model is released under differential privacy; never with stage S.
        noised: adds this bank's noise to a histogram under a private release.

    Raises:
        ProtocolError: an opening fails, or its content can't be right.
        DataError: the hold-outs have too few rows to be shown or compared.
    """
    names = MODELS if joint else (H,)
    edges = _edges(openings, scored, names, private)
    counted, covered = _histograms(openings, scored, names, edges, private, noised)
    if not joint:
        return Evaluated(counted)
    return Evaluated(counted, _comparisons(openings, scored, counted), covered)


def _edges(openings: Openings, scored: Scored, names: tuple[str, ...], private: bool) -> dict[str, Float64]:
    """Return the cells' edges: the banks' average quantiles, or a fixed grid under a private release."""
    if private:
        # A quantile is a function of the rows and would have to be charged; a grid in log-odds is not.
        grid = np.linspace(-6.0, 4.0, CELLS - 1)
        return {name: _increasing(1.0 / (1.0 + np.exp(-grid))) for name in names}

    def sums() -> Float64:
        return np.concatenate([_quantiles(scored.pd.get(name)) for name in names])

    total = openings.open_sum(EDGES, sums, CENTRING_BOUND).reshape(len(names), CELLS)
    # An earlier attempt may have opened the edges without a model that stands in this one.
    blocks = {name: row if row[0] > 0 else total[0] for name, row in zip(names, total, strict=True)}
    return {name: _increasing(row[1:] / max(row[0], 1.0)) for name, row in blocks.items()}


def _quantiles(pd: Float64 | None) -> Float64:
    """Return rows and rows times inner quantiles; shape [CELLS], zeros without rows."""
    if pd is None or len(pd) == 0:
        return np.zeros(CELLS)
    inner = np.quantile(pd, np.linspace(0, 1, CELLS + 1)[1:-1])
    return np.concatenate([[len(pd)], len(pd) * inner])


def _increasing(inner: Float64) -> Float64:
    steps = np.maximum.accumulate(np.clip(inner, 1e-9, 1 - 1e-9) + np.arange(CELLS - 1) * 1e-12)
    return np.concatenate([[0.0], steps, [1.0]])


def _histograms(
    openings: Openings,
    scored: Scored,
    names: tuple[str, ...],
    edges: Mapping[str, Float64],
    private: bool,
    noised: Noise,
) -> tuple[dict[str, ScoreHistogram], tuple[int, ...]]:
    length = metrics.vector_length(CELLS)

    def cells() -> NDArray[np.uint64]:
        blocks = []
        for name in names:
            pd = scored.pd.get(name)
            block = np.zeros(length, dtype=np.uint64)
            if pd is not None:
                block = metrics.to_vector(metrics.histogram(edges[name], pd, scored.label))
            blocks.append(noised(block))
        return np.concatenate([*blocks, np.array(scored.covered, dtype=np.uint64)])

    total = openings.open(HISTOGRAM, cells)
    counted = {
        name: metrics.from_vector(edges[name], total[i * length : (i + 1) * length], noised=private)
        for i, name in enumerate(names)
        if name in scored.pd
    }
    return counted, tuple(int(rows) for rows in ring.signed(total[len(names) * length :]))


def _comparisons(
    openings: Openings, scored: Scored, counted: Mapping[str, ScoreHistogram]
) -> dict[str, Comparison]:
    size = comparison.LENGTH

    def sums() -> NDArray[np.uint64]:
        blocks = []
        for name in COMPARED:
            block = np.zeros(size, dtype=np.uint64)
            if name in scored.pd:
                pair = scored.pd[name], scored.pd[H_PLUS]
                block = comparison.sums(counted[name], counted[H_PLUS], pair, scored.label)
            blocks.append(block)
        return np.concatenate(blocks)

    total = openings.open(COMPARISON, sums)
    return {
        name: comparison.compare(counted[name], counted[H_PLUS], total[i * size : (i + 1) * size])
        for i, name in enumerate(COMPARED)
        if name in counted
    }


def figures_of(counted: ScoreHistogram) -> dict[str, Any]:
    """Return the figures of a hold-out histogram as JSON values; cells with fewer than 50 rows are merged."""
    shown = metrics.merge_small_cells(counted, SMALLEST_CELL)
    fit = metrics.calibration(shown)
    return {
        "auc": metrics.auc(counted),
        "ks": metrics.ks(counted),
        "brier": metrics.brier(counted),
        "holdout_rows": counted.total,
        "holdout_defaults": int(counted.bad.sum()),
        "roc": metrics.roc_points(shown).tolist(),
        "calibration": {
            "slope": fit.slope,
            "intercept": fit.intercept,
            "cells": [
                {
                    "lower": cell.lower,
                    "upper": cell.upper,
                    "rows": cell.rows,
                    "mean_pd": cell.mean_pd,
                    "observed": cell.observed,
                }
                for cell in fit.cells
            ],
        },
        "histogram": {
            "edges": shown.edges.tolist(),
            "good": shown.good.tolist(),
            "bad": shown.bad.tolist(),
        },
    }


def all_figures(found: Evaluated, partners: Mapping[str, bool]) -> dict[str, Any]:
    """Return what a model's card states of the hold-outs, as JSON values.

    Args:
        found: what was opened.
        partners: of the proposal, in its order, with whether their bins stand; empty without stage S.
    """
    figures = {**figures_of(found.counted[found.serving]), "promotable": found.promotable}
    if H_PLUS not in found.counted:
        return figures
    models: dict[str, Any] = {}
    for name, counted in found.counted.items():
        line = found.line(name)
        models[name] = {
            **figures_of(counted),
            "recalibration": {"slope": line.slope, "intercept": line.intercept},
            "comparison": _stated(found.compared.get(name)),
        }
    rows = max(found.counted[H_PLUS].total, 1)
    return {
        **figures,
        "serving": found.serving,
        "models": models,
        "comparison": _stated(found.compared.get(S)),
        "partners": [name for name, stands in partners.items() if stands],
        # Rounded to a hundredth: how many of the held-out enterprises a partner lists is nobody's exact business.
        "coverage": {
            name: round(count / rows, 2)
            for (name, stands), count in zip(partners.items(), found.covered, strict=True)
            if stands
        },
    }


def _stated(compared: Comparison | None) -> dict[str, Any] | None:
    return None if compared is None else {"against": H_PLUS, **asdict(compared)}
