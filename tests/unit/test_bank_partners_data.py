"""What partners bring on the real files: sub-scores under ε = 1, a null partner, and one seed of S against H+."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

# A dependency installs a package of the same name; the checkout's comes first.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import datasets
from benchmarks import partners as bench

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not os.environ.get("CONCORDAT_DATA"), reason="CONCORDAT_DATA names no folder of real data"
    ),
]
PRIVATE = bench.Privacy(1.0, datasets.BANKS)


def made(name: str) -> tuple[datasets.Dataset, datasets.Split, dict[str, int], tuple[bench.Partner, ...]]:
    folder = Path(os.environ["CONCORDAT_DATA"])
    dataset = datasets.load(name, folder)
    ids = dataset.frame["id"].tolist()
    place = {one: at for at, one in enumerate(ids)}
    return dataset, datasets.split(dataset, 0), place, bench.partners(name, folder, ids)


def published(name: str, shuffled: bool = False) -> list[tuple[np.ndarray | None, float]]:
    dataset, split, place, partners = made(name)
    outcome = dataset.frame["outcome"].to_numpy()
    trained = np.array([place[one] for rows in split.banks for one in rows["id"]])
    order = np.arange(len(outcome))
    if shuffled:
        order = np.random.Generator(np.random.PCG64(5)).permutation(order)
    everyone = np.arange(len(outcome))
    return [
        bench.published(
            bench.Partner(one.name, one.rows(order), one.frame),
            everyone,
            trained,
            outcome,
            bench.BASE_RATES[name],
            PRIVATE,
        )
        for one in partners
    ]


@pytest.mark.parametrize("name", bench.NAMES)
def test_real_partners_publish_a_sub_score_that_separates(name: str) -> None:
    dataset, split, place, _ = made(name)
    held = [place[one] for one in split.test["id"]]
    y = dataset.frame["outcome"].to_numpy()[held]
    for bins, p_value in published(name):
        assert bins is not None
        assert p_value < 1e-4
        assert roc_auc_score(y, bins[held]) > 0.58


@pytest.mark.parametrize("name", bench.NAMES)
def test_partners_whose_rows_are_permuted_publish_nothing(name: str) -> None:
    assert all(bins is None for bins, _ in published(name, shuffled=True))


def test_s_beats_h_plus_by_what_is_stated() -> None:
    dataset, split, place, _ = made("default-credit")
    bins = np.column_stack([bins for bins, _ in published("default-credit") if bins is not None])
    at_banks = [bins[[place[one] for one in rows["id"]]] for rows in split.banks]
    consortium = bench.Consortium(dataset, split)
    found = consortium.scores(at_banks, bins[[place[one] for one in split.test["id"]]], heads=False)
    y = split.test["outcome"].to_numpy()
    area = {name: roc_auc_score(y, z) for name, z in found.items()}
    assert area["s"] > area["h_plus"] + 0.038
    assert area["s"] == pytest.approx(0.769, abs=0.004)
    assert area["h_plus"] == pytest.approx(area["h"], abs=0.004)
