"""Figures over histograms: rules, edge cases, and golden comparisons with scikit-learn on rows."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from protocol import metrics, ring
from protocol.errors import ConcordatError, DataError, ProtocolError
from protocol.metrics import ScoreHistogram

Floats = NDArray[np.float64]


def _refused(code: str, error: type[ConcordatError] = DataError) -> Any:
    return pytest.raises(error, match=rf"\[{code}\]")


def _economy(seed: int, rows: int, separation: float) -> tuple[Floats, NDArray[np.int64]]:
    """Scores and outcomes as a bank sees them: skewed PDs, a fifth of defaults, not quite calibrated."""
    rng = np.random.Generator(np.random.PCG64(seed))
    health = rng.normal(size=rows) * separation
    y = (rng.random(rows) < 1 / (1 + np.exp(1.6 - health))).astype(np.int64)
    pd = 1 / (1 + np.exp(1.5 - 0.9 * (health + rng.normal(size=rows) * 0.5)))
    return pd, y


def _quantile_edges(pd: Floats, cells: int = 64) -> Floats:
    inner = np.unique(np.quantile(pd, np.arange(1, cells) / cells))
    return np.concatenate([[0.0], inner, [1.0]])


def _own_cells(pd: Floats) -> Floats:
    distinct = np.unique(pd)
    return np.concatenate([[-1.0], (distinct[1:] + distinct[:-1]) / 2, [2.0]])


def _small(good: list[int], bad: list[int]) -> ScoreHistogram:
    cells = len(good)
    edges = np.linspace(0.0, 1.0, cells + 1)
    rows = np.array(good) + np.array(bad)
    return ScoreHistogram(edges, np.array(good), np.array(bad), rows * (edges[1:] + edges[:-1]) / 2, 1.0)


CASES = [(seed, rows, s) for seed in range(3) for rows, s in ((3_000, 0.6), (9_000, 1.0), (30_000, 1.8))]


class TestGolden:
    @pytest.mark.parametrize(("seed", "rows", "separation"), CASES)
    def test_exact_when_every_score_has_its_own_cell(self, seed: int, rows: int, separation: float) -> None:
        pd, y = _economy(seed, min(rows, 5_000), separation)
        pd = np.round(pd, 3)  # with ties, as rounded scores have them
        counted = metrics.histogram(_own_cells(pd), pd, y)
        assert metrics.auc(counted) == pytest.approx(roc_auc_score(y, pd), abs=1e-12)
        assert metrics.ks(counted) == pytest.approx(ks_2samp(pd[y == 1], pd[y == 0]).statistic, abs=1e-12)
        assert metrics.brier(counted) == pytest.approx(brier_score_loss(y, pd), abs=1e-12)
        fpr, tpr, _ = roc_curve(y, pd, drop_intermediate=False)
        assert np.allclose(metrics.roc_points(counted), np.column_stack([fpr, tpr]), atol=1e-12)

    @pytest.mark.parametrize(("seed", "rows", "separation"), CASES)
    def test_64_quantile_cells_agree_within_003(self, seed: int, rows: int, separation: float) -> None:
        pd, y = _economy(seed, rows, separation)
        counted = metrics.histogram(_quantile_edges(pd), pd, y)
        assert metrics.auc(counted) == pytest.approx(roc_auc_score(y, pd), abs=0.003)
        # KS over cells can only lose: it looks at fewer thresholds. A cell holds 1/64 of the rows.
        exact = float(ks_2samp(pd[y == 1], pd[y == 0]).statistic)
        assert exact - 0.012 <= metrics.ks(counted) <= exact + 1e-12
        assert metrics.brier(counted) == pytest.approx(brier_score_loss(y, pd), abs=1e-12)

    @pytest.mark.parametrize(("seed", "rows", "separation"), CASES)
    def test_calibration_line_agrees_with_a_fit_on_rows(
        self, seed: int, rows: int, separation: float
    ) -> None:
        pd, y = _economy(seed, rows, separation)
        logit = np.log(pd / (1 - pd))[:, None]
        fit = LogisticRegression(C=1e12, tol=1e-10, max_iter=1_000).fit(logit, y)
        line = metrics.calibration(metrics.histogram(_quantile_edges(pd), pd, y))
        assert line.slope == pytest.approx(fit.coef_[0, 0], abs=0.02)
        assert line.intercept == pytest.approx(fit.intercept_[0], abs=0.03)

    def test_calibrated_score_has_slope_one(self) -> None:
        rng = np.random.Generator(np.random.PCG64(4))
        pd = rng.beta(2, 8, size=200_000)
        y = rng.random(pd.size) < pd
        line = metrics.calibration(metrics.histogram(_quantile_edges(pd), pd, y))
        assert line.slope == pytest.approx(1.0, abs=0.03)  # 0.03 is over three standard errors
        assert line.intercept == pytest.approx(0.0, abs=0.05)

    def test_stability_index_against_its_definition(self) -> None:
        expected, actual = np.array([100, 200, 300]), np.array([50, 30, 20])
        e, a = expected / 600, actual / 100
        direct = sum((a[i] - e[i]) * np.log(a[i] / e[i]) for i in range(3))
        assert metrics.stability_index(expected, actual) == pytest.approx(direct, rel=1e-12)
        assert metrics.stability_index(expected, expected * 7) == 0.0
        assert metrics.stability_index(expected, actual) > 0.25

    @pytest.mark.data
    @pytest.mark.skipif(not os.environ.get("CONCORDAT_DATA"), reason="CONCORDAT_DATA is not set")
    def test_real_scores(self) -> None:
        import pandas as pd

        table = pd.read_parquet(Path(os.environ["CONCORDAT_DATA"]) / "default_credit_bank.parquet")
        y = table["y"].to_numpy().astype(int)
        x = table.drop(columns=["y", *[name for name in table.columns if name == "id"]]).to_numpy(float)
        score = LogisticRegression(max_iter=500).fit(x[:20_000], y[:20_000]).predict_proba(x)[20_000:, 1]
        counted = metrics.histogram(_quantile_edges(score), score, y[20_000:])
        assert metrics.auc(counted) == pytest.approx(roc_auc_score(y[20_000:], score), abs=0.003)
        assert metrics.brier(counted) == pytest.approx(brier_score_loss(y[20_000:], score), abs=1e-12)


class TestHistogram:
    def test_cells_are_half_open_and_the_outer_ones_take_the_rest(self) -> None:
        edges = np.array([0.2, 0.4, 0.6])
        counted = metrics.histogram(
            edges, np.array([0.0, 0.2, 0.39, 0.4, 0.6, 1.0]), np.array([0, 1, 0, 0, 1, 1])
        )
        assert counted.good.tolist() == [2, 1]
        assert counted.bad.tolist() == [1, 2]
        assert counted.pd_sum.tolist() == pytest.approx([0.59, 2.0])
        assert counted.total == 6

    @pytest.mark.parametrize("y", [np.array([True, False]), np.array([1, 0]), np.array([1.0, 0.0])])
    def test_outcomes_of_any_type(self, y: Any) -> None:
        counted = metrics.histogram(np.array([0.0, 1.0]), np.array([0.5, 0.5]), y)
        assert (counted.good.tolist(), counted.bad.tolist()) == ([1], [1])
        assert counted.squared_error == 0.5

    def test_rows_that_are_refused(self) -> None:
        edges = np.array([0.0, 1.0])
        for pd in (-0.1, 1.1, np.nan, np.inf):
            with _refused("SCORE_RANGE"):
                metrics.histogram(edges, np.array([0.5, pd]), np.array([0, 1]))
        for y in ([0, 2], [0, -1], [0.5, 0.0], [np.nan, 0.0]):
            with _refused("SCORE_LABEL"):
                metrics.histogram(edges, np.array([0.5, 0.5]), np.array(y))
        with _refused("SCORE_LENGTH"):
            metrics.histogram(edges, np.array([0.5]), np.array([0, 1]))

    @pytest.mark.parametrize("edges", [[0.0], [0.0, 0.0], [0.0, 1.0, 0.5], [0.0, np.nan], [-np.inf, 1.0]])
    def test_edges_that_are_refused(self, edges: list[float]) -> None:
        with _refused("HISTOGRAM_EDGES", ProtocolError):
            metrics.histogram(np.array(edges), np.array([0.5]), np.array([1]))

    def test_shape_and_sign(self) -> None:
        with _refused("HISTOGRAM_SHAPE", ProtocolError):
            ScoreHistogram(np.array([0.0, 1.0]), np.zeros(2), np.zeros(1), np.zeros(1), 0.0)  # type: ignore[arg-type]
        with _refused("HISTOGRAM_NEGATIVE", ProtocolError):
            _small([-1], [2])


class TestVector:
    def test_sum_over_banks_equals_the_pooled_histogram(self) -> None:
        pd, y = _economy(7, 9_000, 1.2)
        edges = _quantile_edges(pd)
        total = np.zeros(metrics.vector_length(len(edges) - 1), dtype=np.uint64)
        for part in np.array_split(np.arange(9_000), 3):
            total += metrics.to_vector(metrics.histogram(edges, pd[part], y[part]))
        pooled, summed = metrics.histogram(edges, pd, y), metrics.from_vector(edges, total)
        assert summed.good.tolist() == pooled.good.tolist()
        assert summed.bad.tolist() == pooled.bad.tolist()
        assert np.allclose(summed.pd_sum, pooled.pd_sum, atol=3 * 2.0**-25)
        assert metrics.auc(summed) == metrics.auc(pooled)
        assert metrics.brier(summed) == pytest.approx(metrics.brier(pooled), abs=1e-9)

    def test_refusals(self) -> None:
        edges = np.array([0.0, 0.5, 1.0])
        with _refused("HISTOGRAM_SHAPE", ProtocolError):
            metrics.from_vector(edges, np.zeros(6, dtype=np.uint64))
        negative = ring.encode(np.array([-3.0, 5, 1, 2]), 0, 10)
        vector = np.concatenate([negative, ring.encode(np.array([-1.0, 1, 1]), 24, 10)])
        with _refused("HISTOGRAM_NEGATIVE", ProtocolError):
            metrics.from_vector(edges, vector)
        noised = metrics.from_vector(edges, vector, noised=True)
        assert noised.good.tolist() == [0, 5]
        assert noised.pd_sum.tolist() == [0.0, 1.0]
        with _refused("HISTOGRAM_TOO_LARGE", ProtocolError):
            metrics.to_vector(_small([2**28], [1]))


class TestSmallCells:
    def test_merged_cells_hold_enough_rows_and_lose_none(self) -> None:
        counted = _small([10, 0, 45, 60, 3, 0], [1, 2, 0, 5, 0, 1])
        merged = metrics.merge_small_cells(counted, 50)
        assert merged.rows.tolist() == [58, 69]
        assert merged.edges.tolist() == [0.0, 0.5, 1.0]
        assert merged.bad.tolist() == [3, 6]
        assert merged.pd_sum.sum() == pytest.approx(counted.pd_sum.sum())
        assert metrics.brier(merged) == metrics.brier(counted)

    def test_full_cells_stay(self) -> None:
        counted = _small([50, 60, 70], [0, 0, 0])
        assert metrics.merge_small_cells(counted, 50).rows.tolist() == [50, 60, 70]
        assert metrics.merge_small_cells(_small([30], [20])).rows.tolist() == [50]
        assert metrics.merge_small_cells(_small([0, 0, 50, 0], [0] * 4)).rows.tolist() == [50]

    def test_too_few_rows_in_all(self) -> None:
        with _refused("HISTOGRAM_TOO_FEW_ROWS"):
            metrics.merge_small_cells(_small([30, 10], [5, 4]), 50)


class TestFigures:
    def test_known_values(self) -> None:
        perfect, useless, inverse = _small([5, 0], [0, 5]), _small([3, 3], [2, 2]), _small([0, 5], [5, 0])
        assert [metrics.auc(h) for h in (perfect, useless, inverse)] == [1.0, 0.5, 0.0]
        assert [metrics.ks(h) for h in (perfect, useless, inverse)] == pytest.approx([1.0, 0.0, 1.0])
        assert metrics.roc_points(perfect).tolist() == [[0, 0], [0, 1], [1, 1]]

    @pytest.mark.parametrize("counted", [_small([5, 5], [0, 0]), _small([0, 0], [3, 3]), _small([0], [0])])
    def test_one_kind_of_outcome(self, counted: ScoreHistogram) -> None:
        for figure in (metrics.auc, metrics.ks, metrics.roc_points):
            with _refused("SCORE_ONE_CLASS"):
                figure(counted)

    def test_no_rows(self) -> None:
        with _refused("HISTOGRAM_TOO_FEW_ROWS"):
            metrics.brier(_small([0], [0]))
        assert metrics.calibration(_small([0, 0], [0, 0])).cells == ()

    @pytest.mark.parametrize(
        "counted", [_small([5], [5]), _small([5, 5], [0, 0]), _small([0, 0], [5, 5]), _small([9, 0], [0, 9])]
    )
    def test_no_line_where_the_cells_do_not_determine_one(self, counted: ScoreHistogram) -> None:
        line = metrics.calibration(counted)
        assert (line.slope, line.intercept) == (None, None)

    def test_calibration_table(self) -> None:
        table = metrics.calibration(_small([8, 0, 5], [2, 0, 5])).cells
        assert [(cell.rows, cell.observed) for cell in table] == [(10, 0.2), (10, 0.5)]
        assert table[1].lower == pytest.approx(2 / 3)
        assert table[1].mean_pd == pytest.approx(5 / 6)

    def test_stability_with_an_empty_cell_is_finite(self) -> None:
        value = metrics.stability_index(np.array([100, 0]), np.array([90, 10]))
        assert 0 < value < 1

    def test_stability_refusals(self) -> None:
        with _refused("HISTOGRAM_TOO_FEW_ROWS"):
            metrics.stability_index(np.array([0, 0]), np.array([1, 1]))
        with _refused("HISTOGRAM_SHAPE", ProtocolError):
            metrics.stability_index(np.array([1, 1]), np.array([1, 1, 1]))
        with _refused("HISTOGRAM_NEGATIVE", ProtocolError):
            metrics.stability_index(np.array([1, -1]), np.array([1, 1]))
