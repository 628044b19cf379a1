"""The sub-score: encoding, whitening, shrinkage, the gate, bins."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from protocol import product, release, subscore
from protocol.errors import DataError, ProtocolError
from protocol.release import Release
from protocol.subscore import Basis, Columns, Source, SubScore, chi_square_tail, direction, sign_bits


def _draw(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _table(n: int = 4_000, seed: int = 1) -> dict[str, NDArray[Any]]:
    """A partner's table: two related numbers, one with gaps, one constant, one category."""
    draw = _draw(seed)
    base = draw.normal(size=n)
    gaps = np.where(draw.random(n) < 0.1, np.nan, np.exp(draw.normal(size=n)))
    return {
        "turnover": base,
        "orders": base + draw.normal(size=n),
        "age": gaps,
        "flat": np.full(n, 3.0),
        "sector": draw.choice(np.array(["a", "b", "c", ""]), n, p=[0.5, 0.3, 0.15, 0.05]),
    }


def _z(basis: Basis, columns: Columns) -> NDArray[np.float64]:
    return np.concatenate(list(basis.blocks(columns)))


class TestEncoding:
    def test_hats_are_a_partition_of_one_and_meet_at_knots(self) -> None:
        values = _draw(2).normal(size=500)
        source = Source.fit("x", values)
        assert len(source.knots) == subscore.KNOTS
        hats = source.encode(values)
        assert np.allclose(hats.sum(axis=1), 1.0)
        assert (hats >= 0).all()
        at_knots = source.encode(np.array(source.knots))[:, :-1]
        assert np.array_equal(at_knots, np.eye(subscore.KNOTS))

    def test_values_beyond_the_range_count_as_its_ends(self) -> None:
        source = Source.fit("x", np.array([0.0, 1.0, 2.0, 3.0]))
        assert np.array_equal(source.encode(np.array([-9.0, 99.0])), source.encode(np.array([0.0, 3.0])))

    def test_missing_numbers_have_a_flag_and_no_hat(self) -> None:
        row = Source.fit("x", np.array([0.0, 1.0, np.nan])).encode(np.array([np.nan]))[0]
        assert row[-1] == 1.0
        assert not row[:-1].any()

    def test_ties_leave_fewer_knots_and_constants_none(self) -> None:
        assert Source.fit("x", np.array([1.0] * 9 + [2.0])).knots == (1.0, 2.0)
        assert Source.fit("x", np.full(9, 1.0)).width == 1
        assert Source.fit("x", np.full(9, np.nan)).width == 1

    def test_the_twelve_most_frequent_levels_get_columns(self) -> None:
        values = np.array([f"level {i:02d}" for i in range(20) for _ in range(20 - i)])
        source = Source.fit("x", values)
        assert source.levels == tuple(f"level {i:02d}" for i in range(12))
        rows = source.encode(np.array(["level 03", "level 19", "", "unheard"]))
        assert rows.argmax(axis=1).tolist() == [3, 0, 12, 0]
        assert rows.sum(axis=1).tolist() == [1.0, 0.0, 1.0, 0.0]

    @pytest.mark.parametrize(
        "values",
        [np.arange(3), np.array([1.0, np.inf]), np.zeros((2, 2)), np.array([None, "x"], dtype=object)],
    )
    def test_other_types_and_infinities_are_refused_by_name(self, values: NDArray[Any]) -> None:
        with pytest.raises(DataError, match="Column turnover") as refusal:
            Source.fit("turnover", values)
        assert refusal.value.code == "SUBSCORE_COLUMN"

    def test_a_column_keeps_its_type(self) -> None:
        with pytest.raises(DataError, match="SUBSCORE_COLUMN"):
            Source.fit("x", np.array([0.0, 1.0])).encode(np.array(["a"]))


class TestBasis:
    def test_components_are_white_over_the_whole_table(self) -> None:
        columns = _table()
        basis = Basis.fit(columns)
        z = _z(basis, columns)
        assert z.shape == (4_000, basis.components)
        assert np.abs(z.mean(axis=0)).max() < 1e-9
        assert np.abs(z.T @ z / len(z) - np.eye(basis.components)).max() < 1e-6

    def test_red_an_unwhitened_basis_is_seen(self) -> None:
        columns = _table()
        basis = Basis.fit(columns)
        z = _z(basis, columns) * np.linspace(1, 2, basis.components)
        assert np.abs(z.T @ z / len(z) - np.eye(basis.components)).max() > 0.1

    def test_blocks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        columns = _table()
        whole = Basis.fit(columns)
        monkeypatch.setattr(subscore, "_ROWS", 333)
        assert np.allclose(_z(Basis.fit(columns), columns), _z(whole, columns), atol=1e-6)

    def test_k_is_a_bound(self) -> None:
        assert Basis.fit(_table(), 3).components == 3
        one = Basis.fit({"x": np.array(["a", "b"] * 50)}, 20)
        assert one.components == 1

    def test_mixing_is_the_mean_of_sign_times_z(self) -> None:
        columns = _table()
        basis = Basis.fit(columns, 5)
        z = _z(basis, columns)
        expected = (2.0 * sign_bits(z) - 1).T @ z / len(z) + 0.01 * np.eye(5)
        assert np.allclose(basis.mixing, expected)

    def test_a_basis_survives_json(self) -> None:
        columns = _table()
        basis = Basis.fit(columns)
        again = Basis.from_dict(json.loads(json.dumps(basis.to_dict())))
        assert np.array_equal(_z(again, columns), _z(basis, columns))
        assert np.array_equal(again.mixing, basis.mixing)

    @pytest.mark.parametrize(
        ("columns", "code"),
        [
            ({}, "SUBSCORE_ROWS"),
            ({"x": np.array([1.0])}, "SUBSCORE_ROWS"),
            ({"x": np.zeros(3), "y": np.zeros(4)}, "SUBSCORE_ROWS"),
            ({"x": np.zeros(30)}, "SUBSCORE_EMPTY"),
        ],
    )
    def test_tables_that_give_no_basis_are_refused(self, columns: Columns, code: str) -> None:
        with pytest.raises(DataError, match=code):
            Basis.fit(columns)

    def test_other_columns_are_refused(self) -> None:
        columns = _table()
        basis = Basis.fit(columns)
        del columns["age"]
        with pytest.raises(DataError, match="SUBSCORE_COLUMN"):
            list(basis.blocks(columns))

    def test_the_sign_of_zero_is_positive_in_bits_and_mixing(self) -> None:
        assert sign_bits(np.array([0.0, -0.0, -1e-300, 1.0])).tolist() == [1, 1, 0, 1]


def _released(
    basis: Basis, columns: Columns, outcomes: NDArray[np.bool_], one: Release | None, base_rate: float = 0.22
) -> NDArray[np.float64]:
    """v over the whole table, in fixed point, with the noise of T and the banks."""
    values = product.weights(outcomes, base_rate)
    v = (2 * sign_bits(_z(basis, columns)).astype(np.int64) - 1).T @ values
    if one is not None:
        v = v + sum(release.noise(one.ring_sigma, basis.components).view(np.int64) for _ in range(2))
    return v / 4096.0


class TestDirection:
    def _world(self, strength: float, seed: int = 3) -> tuple[dict[str, Any], Basis, NDArray[np.bool_]]:
        columns = _table(seed=seed)
        odds = -1.4 + strength * columns["turnover"]
        outcomes = _draw(seed + 1).random(len(odds)) < 1 / (1 + np.exp(-odds))
        return columns, Basis.fit(columns), outcomes

    def test_an_association_is_found_and_its_score_ranks_outcomes(self) -> None:
        columns, basis, outcomes = self._world(1.0)
        base_rate = float(outcomes.mean())
        found = direction(
            basis,
            _released(basis, columns, outcomes, None, base_rate),
            rows=4_000,
            noise_sd=0.0,
            base_rate=base_rate,
        )
        assert found.informative
        scores = SubScore.fit(basis, found, columns).score(columns)
        assert np.corrcoef(scores, columns["turnover"])[0, 1] > 0.85

    def test_permuted_outcomes_are_not_published(self) -> None:
        """The gate at p = .001: none of 60 null partners passes, with probability .94; seeds are stated."""
        columns, basis, outcomes = self._world(1.0)
        passed = 0
        for seed in range(60):
            shuffled = _draw(seed).permutation(outcomes)
            rate = float(outcomes.mean())
            v = _released(basis, columns, shuffled, None, rate)
            passed += direction(basis, v, rows=4_000, noise_sd=0.0, base_rate=rate).informative
        assert passed == 0

    def test_the_gate_takes_equal_bits_as_one(self) -> None:
        """A table of four distinct rows: null partners pass at the gate's level; red: Σu²/s² lets many pass."""
        n = 2_000
        levels = _draw(8).choice(np.array(["a", "b", "c", "d"]), n, p=[0.85, 0.05, 0.05, 0.05])
        columns: Columns = {"x": levels, "y": levels, "w": (levels != "a").astype(np.float64)}
        basis = Basis.fit(columns)
        signs = 2.0 * sign_bits(_z(basis, columns)) - 1
        honest = naive = 0
        for seed in range(300):
            outcomes = _draw(seed).random(n) < 0.22
            v = signs.T @ (outcomes - 0.22)
            honest += direction(basis, v, rows=n, noise_sd=0.0, base_rate=0.22).informative
            naive += chi_square_tail(float((v**2).sum() / (n * 0.22 * 0.78)), basis.components) <= 1e-3
        assert honest <= 3
        assert naive >= 6

    def test_the_gate_counts_the_noise(self) -> None:
        """Noise alone, of the stated size, passes at about its level; red: understated noise passes."""
        basis = Basis.fit(_table(), 8)
        noise = _draw(5).normal(size=(400, 8)) * 1_000.0
        honest = [direction(basis, v, rows=4_000, noise_sd=1_000.0, base_rate=0.22) for v in noise]
        assert sum(found.informative for found in honest) <= 3
        red = [direction(basis, v, rows=4_000, noise_sd=300.0, base_rate=0.22) for v in noise]
        assert sum(found.informative for found in red) > 200

    def test_shrinkage_lies_between_zero_and_the_plain_estimate(self) -> None:
        columns, basis, outcomes = self._world(1.0)
        v = _released(basis, columns, outcomes, None)
        clear = direction(basis, v, rows=4_000, noise_sd=0.0, base_rate=0.22)
        noisy = direction(basis, v, rows=4_000, noise_sd=300.0, base_rate=0.22)
        plain = np.linalg.norm(v / 4_000)
        sizes = [float(np.linalg.norm(basis.mixing @ found.weights)) for found in (noisy, clear)]
        assert 0.0 <= sizes[0] < sizes[1] < plain
        silent = direction(basis, np.zeros(basis.components), rows=4_000, noise_sd=1.0, base_rate=0.22)
        assert silent.alpha == 0.0
        assert not silent.weights.any()
        assert silent.p_value == 1.0

    def test_the_prior_finds_decaying_components(self) -> None:
        basis = Basis.fit(_table(), 12)
        u = 0.2 * np.arange(1, basis.components + 1) ** -1.5
        found = direction(basis, u * 1e6, rows=10**6, noise_sd=0.0, base_rate=0.22)
        assert found.beta >= 2.0

    @pytest.mark.parametrize(
        "change",
        [{"rows": 0}, {"noise_sd": -1.0}, {"noise_sd": math.nan}, {"base_rate": 0.0}, {"base_rate": 1.0}],
    )
    def test_parameters_out_of_range_are_refused(self, change: dict[str, Any]) -> None:
        basis = Basis.fit(_table(), 3)
        right: dict[str, Any] = {"rows": 4_000, "noise_sd": 1.0, "base_rate": 0.22}
        with pytest.raises(ProtocolError, match="SUBSCORE_RELEASE"):
            direction(basis, np.zeros(3), **(right | change))

    @pytest.mark.parametrize("released", [np.zeros(2), np.zeros((3, 1)), np.array([0.0, np.nan, 0.0])])
    def test_releases_of_another_shape_are_refused(self, released: NDArray[np.float64]) -> None:
        with pytest.raises(ProtocolError, match="SUBSCORE_RELEASE"):
            direction(Basis.fit(_table(), 3), released, rows=9, noise_sd=1.0, base_rate=0.2)


@pytest.mark.parametrize("degrees", [1, 2, 3, 19, 20, 30, 31])
def test_the_chi_square_tail_is_scipy_s(degrees: int) -> None:
    for statistic in (0.0, 0.5, 1.0, 10.0, 45.3, 200.0, 2_000.0):
        assert chi_square_tail(statistic, degrees) == pytest.approx(chi2.sf(statistic, degrees), rel=1e-9)


class TestBins:
    def test_bins_are_equally_filled_and_ordered(self) -> None:
        columns = _table()
        basis = Basis.fit(columns, 6)
        v = np.arange(6.0, 0.0, -1.0) * 300
        scored = SubScore.fit(basis, direction(basis, v, rows=4_000, noise_sd=1.0, base_rate=0.22), columns)
        bins, scores = scored.bins(columns), scored.score(columns)
        assert np.bincount(bins, minlength=16).tolist() == [250] * 16
        assert all(scores[bins == b].max() <= scores[bins == b + 1].min() for b in range(15))

    def test_bins_do_not_depend_on_the_scale_of_v(self) -> None:
        columns = _table()
        basis = Basis.fit(columns, 6)
        found = direction(basis, np.full(6, 500.0), rows=4_000, noise_sd=1.0, base_rate=0.22)
        bigger = subscore.Direction(
            7 * found.weights, found.statistic, found.p_value, found.alpha, found.beta
        )
        bins = [SubScore.fit(basis, one, columns).bins(columns) for one in (found, bigger)]
        assert np.array_equal(*bins)


@pytest.mark.data
@pytest.mark.parametrize("names", [("x0", "x1", "x2", "x3", "x4"), ("x5", "x6", "x7", "x8", "x9")])
def test_a_real_partner_s_score_at_epsilon_one(names: tuple[str, ...]) -> None:
    """default-credit: at ε = 1 and m = 3 a partner's score ranks unseen rows nearly as well as without noise."""
    place = os.environ.get("CONCORDAT_DATA") or None
    if place is None:
        pytest.skip("CONCORDAT_DATA is not set")
    pandas = pytest.importorskip("pandas")
    bank = pandas.read_parquet(Path(place) / "default_credit_bank.parquet")[["id", "y"]]
    both = bank.merge(pandas.read_parquet(Path(place) / "default_credit_partner.parquet"), on="id")
    columns: Columns = {
        name: both[name].to_numpy(np.float64) if both[name].dtype.kind in "if" else both[name].to_numpy("U")
        for name in names
    }
    outcomes = both["y"].to_numpy().astype(bool)
    train = _draw(6).random(len(both)) < 0.7
    basis = Basis.fit(columns)
    part = {name: values[train] for name, values in columns.items()}
    rows, one = int(train.sum()), Release(basis.components, 0.22, 3, 1.0, 1e-5)
    found = []
    for used, sd in ((None, 0.0), (one, math.sqrt(2) * one.sigma)):
        v = _released(basis, part, outcomes[train], used)
        made = direction(basis, v, rows=rows, noise_sd=sd, base_rate=0.22)
        bins = SubScore.fit(basis, made, columns).bins(columns)[~train]
        order = np.argsort(np.argsort(bins + _draw(7).random(len(bins)) * 1e-6)) + 1.0
        bad = outcomes[~train]
        auc = (order[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / (bad.sum() * (~bad).sum())
        found.append((made, auc))
    assert all(made.informative for made, _ in found)
    assert found[1][1] > found[0][1] - 0.02
    null = _released(basis, part, _draw(8).permutation(outcomes[train]), one)
    assert not direction(
        basis, null, rows=rows, noise_sd=math.sqrt(2) * one.sigma, base_rate=0.22
    ).informative
