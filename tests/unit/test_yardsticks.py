"""Ceilings of a demonstration: fitted on the job's own split, joined by id, measured on the banks' hold-outs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from bank_node.data import split_salt
from bank_node.training import is_holdout
from concordat import yardsticks
from concordat.simulate import proposal_for
from node.ingest import Table
from protocol.contract import DataContract, Dataset, Field
from protocol.job import Proposal

BANKS = ("bank-1", "bank-2", "bank-3")
JOB = "0" * 64
FIELD = (Field(name="x", type="number"),)
CONTRACT = DataContract(
    consortium="Test",
    name="Contract",
    datasets=(
        Dataset(role="bank", name="Clients", id_type="opaque", label="bad", fields=FIELD),
        Dataset(role="e-commerce", name="Shops", id_type="opaque", fields=FIELD),
        Dataset(role="government", name="Taxes", id_type="opaque", fields=FIELD),
    ),
)
PROPOSAL: Proposal = proposal_for(BANKS, CONTRACT, "Test", seed=3)


def table(ids: list[str], x: np.ndarray, label: np.ndarray | None = None) -> Table:
    frame = pd.DataFrame({"x": x.astype(float)}, index=pd.Index(ids))
    return cast("Table", SimpleNamespace(frame=frame, label=label, rows=len(ids)))


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Banks know noise, the shop half of the truth, the government nothing."""
    rng = np.random.Generator(np.random.PCG64(5))
    tables, ids_of_all, truth = {}, [], []
    for number, bank in enumerate(BANKS):
        ids = [f"{bank}/{place:04}" for place in range(600)]
        signal = rng.normal(size=600)
        bad = (signal + rng.normal(size=600) > 1.2 - 0.4 * number).astype(np.int8)
        tables[bank] = table(ids, rng.normal(size=600), bad)
        ids_of_all += ids
        truth.append(signal)
    signal = np.concatenate(truth)
    order = rng.permutation(len(ids_of_all))[:1500]
    shop = table([ids_of_all[at] for at in order], signal[order])
    office = table(list(reversed(ids_of_all)), rng.normal(size=len(ids_of_all)))
    return {"tables": tables, "partners": {"shop": ("e-commerce", shop), "office": ("government", office)}}


@pytest.fixture(scope="module")
def tops(made: dict[str, Any]) -> yardsticks.Ceilings:
    return yardsticks.ceilings(CONTRACT, made["tables"], made["partners"], PROPOSAL, JOB)


def test_a_partner_s_columns_are_joined_by_id_not_by_place(tops: yardsticks.Ceilings) -> None:
    assert tops.one_partner["shop"].auc > 0.68
    assert abs(tops.one_partner["office"].auc - 0.5) < 0.1
    assert tops.everything.auc > 0.68


def test_split_is_that_of_the_banks(made: dict[str, Any]) -> None:
    train, held = yardsticks._split(CONTRACT.dataset_for("bank"), made["tables"], PROPOSAL, JOB)
    salt = split_salt(PROPOSAL, JOB)
    for bank, part in made["tables"].items():
        out = is_holdout(list(part.frame.index), salt, PROPOSAL.holdout)
        assert list(held[bank].inputs.index) == list(part.frame.index[out])
        assert list(train[bank].inputs.index) == list(part.frame.index[~out])
        assert (held[bank].outcome == part.label[out]).all()


def test_no_held_out_row_is_fitted_on(made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def scores(rows: Any, test: pd.DataFrame) -> Any:
        seen.append(set(rows.inputs.index) & set(test.index))
        return np.linspace(0, 1, len(test))

    monkeypatch.setattr(yardsticks, "_scores", scores)
    yardsticks.ceilings(CONTRACT, made["tables"], made["partners"], PROPOSAL, JOB)
    assert seen == [set()] * 3


def test_within_banks_is_the_mean_by_rows() -> None:
    part = yardsticks._Rows
    held = {
        "a": part(pd.DataFrame(index=range(4)), np.array([0, 0, 1, 1], dtype=np.int8)),
        "b": part(pd.DataFrame(index=range(2)), np.array([1, 0], dtype=np.int8)),
        "c": part(pd.DataFrame(index=range(3)), np.array([0, 0, 0], dtype=np.int8)),
    }
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.1, 0.9, 0.5, 0.5, 0.5])
    assert yardsticks._within(score, held) == pytest.approx((1.0 * 4 + 0.0 * 2) / 6)


def test_differences_of_banks_count_in_all_and_not_within() -> None:
    held = {
        bank: yardsticks._Rows(pd.DataFrame(index=range(4)), np.array(y, dtype=np.int8))
        for bank, y in (("a", [0, 0, 0, 1]), ("b", [1, 1, 1, 0]))
    }
    score = np.array([0.1] * 4 + [0.9] * 4)
    outcome = np.concatenate([part.outcome for part in held.values()])
    assert yardsticks.measure(score, outcome).auc == 0.75
    assert yardsticks._within(score, held) == 0.5


def test_one_partner_is_the_ceiling_itself(made: dict[str, Any]) -> None:
    alone = {"shop": made["partners"]["shop"]}
    tops = yardsticks.ceilings(CONTRACT, made["tables"], alone, PROPOSAL, JOB)
    assert tops.one_partner == {"shop": tops.everything}


def test_result_has_every_model_and_ceiling(made: dict[str, Any]) -> None:
    figures = {"auc": 0.7, "ks": 0.3, "models": {"h": {"auc": 0.66, "ks": 0.2}, "s": {"auc": 0.7, "ks": 0.3}}}
    out = yardsticks.compared(figures, CONTRACT, made["tables"], made["partners"], PROPOSAL, JOB)
    assert out["auc"]["federated"] == out["auc"]["s"] == 0.7
    assert out["auc"]["h"] == 0.66
    assert set(out["auc"]["pooled_with"]) == {"shop", "office"}
    assert out["auc"]["pooled_all"] > out["auc"]["pooled"] + 0.1
    assert 0.6 < out["auc"]["pooled_all_within_banks"] <= 1.0
    assert len(out["curves"]["pooled_all"]) == yardsticks.CURVE_POINTS


def test_without_partners_the_result_is_as_before(made: dict[str, Any]) -> None:
    out = yardsticks.compared({"auc": 0.7, "ks": 0.3}, CONTRACT, made["tables"], {}, PROPOSAL, JOB)
    assert set(out["auc"]) == set(out["ks"]) == {"bank_only", "bank_only_mean", "federated", "pooled"}
    assert set(out["curves"]) == {"bank_only", "pooled"}
