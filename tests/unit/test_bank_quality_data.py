"""The quality benchmark's data and one seed of its figures, on the real files."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

# A dependency installs a package of the same name; the checkout's comes first.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import datasets
from benchmarks.quality import shared_score

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not os.environ.get("CONCORDAT_DATA"), reason="CONCORDAT_DATA names no folder of real data"
    ),
]


def folder() -> Path:
    return Path(os.environ["CONCORDAT_DATA"])


@pytest.mark.parametrize("name", datasets.NAMES)
def test_splits_are_disjoint_whole_and_repeatable(name: str) -> None:
    dataset = datasets.load(name, folder())
    split = datasets.split(dataset, 0)
    held = [set(rows.index) for rows in (*split.banks, split.test)]
    assert sum(map(len, held)) == len(dataset.frame) == len(set().union(*held)) == 30_000
    assert [len(rows) for rows in split.banks] == [7000] * 3
    assert list(datasets.split(dataset, 0).test.index) == list(split.test.index)
    assert list(datasets.split(dataset, 1).test.index) != list(split.test.index)
    assert not dataset.frame["outcome"].isna().any()


def test_no_column_that_leaks_the_outcome_is_an_input() -> None:
    for name in datasets.NAMES:
        columns = datasets.load(name, folder()).columns
        inputs = {*columns.numbers, *(category for category, _ in columns.categories)}
        assert not inputs & {
            "term",
            "chg_off_date",
            "chg_off_prin_gr",
            "balance_gross",
            "mis_status",
            "outcome",
            "y",
        }
        assert not any("disbursement" in column for column in inputs)


def test_the_shared_score_of_one_seed_is_as_good_as_stated() -> None:
    dataset = datasets.load("default-credit", folder())
    split = datasets.split(dataset, 0)
    score, took = shared_score(dataset.columns, split)
    area = roc_auc_score(split.test["outcome"], score)
    assert area == pytest.approx(0.724, abs=0.003)
    assert abs(score.mean() - split.test["outcome"].mean()) < 0.02
    assert took["parameters"] < 20_000
    assert np.isfinite(score).all()
