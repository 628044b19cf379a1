"""Test 13: how much of a partner's columns the bins of both partners tell, over four versions.

The attacker is a bank with bins and the columns themselves of two thirds of the enterprises, a forest, and four
yearly versions. The protocol's bound is R² ≤ .5 per column (step B8), which needs bins merged before publication;
nothing merges them yet. So the columns that exceed it are named here, and the bound itself is a test that is
expected to fail until they are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from concordat import dataset
from concordat.economy import write_economy
from data_partner_node.tables import PartnerTable
from node.keep import MemoryKeep
from protocol import product, subscore
from protocol.subscore import Basis, SubScore, sign_bits

BASE_RATE, VERSIONS, ROWS, LIMIT = 0.095, 4, 4_000, 0.5
YOUNG = {f"{name} is missing" for name in ("shop_rating", "sales_trend_6m", "sales_volatility")}
"""One fact, that a shop is younger than half a year, in three columns."""
EXCEEDING = {"e-commerce": YOUNG, "government": set[str]()}
"""Columns of the synthetic economy that bins tell better than the bound allows.

Versions here carry no noise, so that figures are the same in every run. A private release points each version
elsewhere, and more of the columns show: at ε = 4 and 9,000 enterprises, court and tax counts passed the bound too.
"""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """R² of a column, cross-validated, and the upper end of its one-sided 95 % interval."""

    found: float
    upper: float


@dataclass
class Partner:
    """Columns of a partner, and its bins by version, over the enterprises that both partners list."""

    targets: dict[str, tuple[Matrix, NDArray[np.bool_]]]
    bins: list[NDArray[np.uint8]]
    informative: list[bool]


def ranked(values: Matrix) -> Matrix:
    """Mid-ranks in (0, 1): a skewed column's R² would hide in its tail."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(count) - count / 2) / len(values))[inverse]


def targets_of(
    columns: Mapping[str, NDArray[np.generic]], rows: NDArray[np.intp]
) -> dict[str, tuple[Matrix, NDArray[np.bool_]]]:
    """What is attacked: ranks, missing flags, levels; with the rows on which each counts."""
    found = {}
    for name, whole in columns.items():
        values = whole[rows]
        everywhere = np.ones(len(rows), dtype=np.bool_)
        if values.dtype.kind != "f":
            for level in np.unique(values):
                found[f"{name} is {level}"] = ((values == level).astype(np.float64), everywhere)
            continue
        present = ~np.isnan(values)
        target = np.full(len(rows), 0.5)
        target[present] = ranked(values[present])
        found[name] = (target, present)
        if not present.all():
            found[f"{name} is missing"] = (present.astype(np.float64), everywhere)
    return found


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Partner]:
    """Both partners; each version is trained on another seven tenths of the banks' clients, without noise."""
    home = tmp_path_factory.mktemp("economy")
    write_economy(home, count=7_000, banks=3, seed=11, kind="parquet", replace=True)
    data = dataset.load(home)
    banks = [data.table(f"bank-{at}") for at in (1, 2, 3)]
    tables = {name: data.table(name) for name in EXCEEDING}
    common = sorted(set.intersection(*(set(table.frame.index) for table in tables.values())))[:ROWS]
    good, bad = product.label_weights(BASE_RATE)
    found = {}
    for name, table in tables.items():
        own = PartnerTable(table, data.contract().dataset_for(name), MemoryKeep(), {})
        basis = Basis.fit(own.columns)
        signs = 2 * np.concatenate([sign_bits(z) for z in basis.blocks(own.columns)]).astype(np.int64) - 1
        row = {one: at for at, one in enumerate(table.frame.index)}
        clients = [
            (row[o], y)
            for bank in banks
            for o, y in zip(bank.frame.index, bank.label, strict=True)
            if o in row
        ]
        at, outcome = (np.array(part) for part in zip(*clients, strict=True))
        weights = np.where(outcome == 1, bad, good)
        rows = np.array([row[one] for one in common])
        partner = Partner(targets_of(own.columns, rows), [], [])
        for version in range(VERSIONS):
            chosen = np.random.Generator(np.random.PCG64(version)).random(len(at)) < 0.7
            v = np.ldexp((weights[chosen] @ signs[at[chosen]]).astype(np.float64), -product.FRACTION_BITS)
            direction = subscore.direction(basis, v, rows=6_144, noise_sd=0.0, base_rate=BASE_RATE)
            score = SubScore.fit(basis, direction, own.columns)
            partner.bins.append(score.bins(own.columns)[rows])
            partner.informative.append(direction.informative)
        found[name] = partner
    return found


def attack(seen: Matrix, targets: Mapping[str, tuple[Matrix, NDArray[np.bool_]]]) -> dict[str, Told]:
    """Predict every column from what is seen, three-fold."""
    wanted = np.stack([target for target, _ in targets.values()], axis=1)
    fold = np.random.Generator(np.random.PCG64(0)).permutation(len(seen)) % 3
    guess = np.zeros_like(wanted)
    for part in range(3):
        forest = RandomForestRegressor(30, min_samples_leaf=8, random_state=0)
        guess[fold == part] = forest.fit(seen[fold != part], wanted[fold != part]).predict(seen[fold == part])
    told = {}
    for at, (name, (target, counts)) in enumerate(targets.items()):
        error = (target - guess[:, at])[counts] ** 2
        spread = (target[counts] - target[counts].mean()) ** 2
        found = 1 - error.sum() / spread.sum()
        # The ratio's standard error, to first order.
        step = float(np.std(error - (1 - found) * spread)) * np.sqrt(len(error)) / spread.sum()
        told[name] = Told(float(found), float(found + 1.645 * step))
    return told


@pytest.fixture(scope="module")
def told(partners: dict[str, Partner]) -> dict[str, dict[str, Told]]:
    """The attack on each partner from the bins of both, over all versions."""
    seen = np.stack([bins for one in partners.values() for bins in one.bins], axis=1).astype(np.float64)
    return {name: attack(seen, partner.targets) for name, partner in partners.items()}


def over(found: Mapping[str, Told]) -> set[str]:
    return {name for name, one in found.items() if one.upper > LIMIT}


def test_all_versions_are_ones_that_would_be_published(partners: dict[str, Partner]) -> None:
    assert all(all(partner.informative) for partner in partners.values())


@pytest.mark.parametrize("name", EXCEEDING)
def test_no_other_column_exceeds_the_bound(name: str, told: dict[str, dict[str, Told]]) -> None:
    assert over(told[name]) <= EXCEEDING[name]


@pytest.mark.xfail(strict=True, reason="bins are published as they are: no gate merges them yet")
def test_every_column_keeps_the_protocols_bound(told: dict[str, dict[str, Told]]) -> None:
    assert not any(over(found) for found in told.values())


def test_red_a_raw_columns_bins(partners: dict[str, Partner]) -> None:
    """Sixteen quantile bins of one column, as somebody might publish instead of a sub-score."""
    for partner, column in (("e-commerce", "monthly_sales"), ("government", "vat_paid_12m")):
        targets = partners[partner].targets
        found = attack(np.floor(16 * targets[column][0])[:, None], targets)
        assert found[column].found > 0.95
        assert column in over(found)
