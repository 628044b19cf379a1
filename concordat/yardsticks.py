"""What a bank reaches alone, and what nobody may compute in real life: boosted trees on one bank's rows, and on all.

Only a demo can fit the ceilings, because only a demo holds everybody's rows. All are fitted and measured on the job's
own split. With data partners the ceiling is fitted on their columns too, joined by id whatever the consents say: it is
what data in one place would give, not what the enterprises have agreed to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.data import columns_of, split_salt
from bank_node.training import is_holdout
from node.ingest import Table
from protocol.contract import DataContract, Dataset
from protocol.job import Proposal

SETTINGS: dict[str, Any] = {
    "n_estimators": 200,
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_child_samples": 50,
    "reg_lambda": 5.0,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
    "random_state": 0,
    "deterministic": True,
    "force_row_wise": True,
    "n_jobs": 1,
    "verbosity": -1,
}
CURVE_POINTS = 64


@dataclass(frozen=True)
class Yardstick:
    """A score's figures over all banks' held-out rows."""

    auc: float
    ks: float
    roc: list[list[float]]


@dataclass(frozen=True)
class Ceilings:
    """Boosted trees on the banks' rows with partners' columns joined to them.

    Attributes:
        everything: with all partners' columns.
        within_banks: AUC of ``everything`` within each bank's hold-out, averaged by rows; what is left when no credit
            is given for telling one bank's clients from another's.
        one_partner: with one partner's columns, by partner.
    """

    everything: Yardstick
    within_banks: float
    one_partner: dict[str, Yardstick]


@dataclass(frozen=True)
class _Rows:
    """Inputs by enterprise and outcomes of one bank's part of a split."""

    inputs: pd.DataFrame
    outcome: NDArray[np.int8]


def compared(
    figures: Mapping[str, Any],
    contract: DataContract,
    tables: Mapping[str, Table],
    partners: Mapping[str, tuple[str, Table]],
    proposal: Proposal,
    job: str,
) -> dict[str, Any]:
    """Return ``auc`` and ``ks`` of a job's models beside the yardsticks, and the yardsticks' ``curves``.

    Args:
        figures: of the job, as the banks signed them.
        contract: the data contract of all tables.
        tables: the banks' tables, by bank.
        partners: role and table, by partner; empty for a job without them.
        proposal: the job's proposal.
        job: J.
    """
    alone, pooled = yardsticks(contract.dataset_for("bank"), tables, proposal, job)
    tops = ceilings(contract, tables, partners, proposal, job) if partners else None
    out: dict[str, Any] = {
        "curves": {
            "bank_only": {bank: yardstick.roc for bank, yardstick in alone.items()},
            "pooled": pooled.roc,
        }
    }
    for figure in ("auc", "ks"):
        found = {bank: getattr(yardstick, figure) for bank, yardstick in alone.items()}
        out[figure] = {
            "bank_only": found,
            "bank_only_mean": sum(found.values()) / len(found),
            "federated": figures[figure],
            "pooled": getattr(pooled, figure),
            **{name: model[figure] for name, model in figures.get("models", {}).items()},
        }
        if tops is not None:
            out[figure]["pooled_all"] = getattr(tops.everything, figure)
            out[figure]["pooled_with"] = {n: getattr(y, figure) for n, y in tops.one_partner.items()}
    if tops is not None:
        out["auc"]["pooled_all_within_banks"] = tops.within_banks
        out["curves"]["pooled_all"] = tops.everything.roc
    return out


def yardsticks(
    dataset: Dataset, tables: Mapping[str, Table], proposal: Proposal, job: str
) -> tuple[dict[str, Yardstick], Yardstick]:
    """Fit boosted trees per bank and on all rows, on the job's own split.

    Returns:
        Each bank alone by name, and the pooled ceiling; all measured on the union of the hold-outs.
    """
    train, held = _split(dataset, tables, proposal, job)
    test = _pooled(held)

    def fitted(rows: _Rows) -> Yardstick:
        return measure(_scores(rows, test.inputs), test.outcome)

    return {bank: fitted(rows) for bank, rows in train.items()}, fitted(_pooled(train))


def ceilings(
    contract: DataContract,
    tables: Mapping[str, Table],
    partners: Mapping[str, tuple[str, Table]],
    proposal: Proposal,
    job: str,
) -> Ceilings:
    """Fit boosted trees on all banks' rows with partners' columns beside them, on the job's own split.

    Args:
        contract: the data contract of all tables.
        tables: the banks' tables, by bank.
        partners: role and table, by partner; at least one.
        proposal: the job's proposal.
        job: J.
    """
    train, held = _split(contract.dataset_for("bank"), tables, proposal, job)
    beside = {
        name: _inputs(contract.dataset_for(role), table.frame).add_prefix(f"{name}.")
        for name, (role, table) in partners.items()
    }
    fit, test = _pooled(train), _pooled(held)

    def scored(names: list[str]) -> NDArray[np.float64]:
        columns = [beside[name] for name in names]
        return _scores(_Rows(_joined(fit.inputs, columns), fit.outcome), _joined(test.inputs, columns))

    whole = scored(sorted(beside))
    everything = measure(whole, test.outcome)
    one = {
        name: everything if len(beside) == 1 else measure(scored([name]), test.outcome)
        for name in sorted(beside)
    }
    return Ceilings(everything, _within(whole, held), one)


def _split(
    dataset: Dataset, tables: Mapping[str, Table], proposal: Proposal, job: str
) -> tuple[dict[str, _Rows], dict[str, _Rows]]:
    """Return what each bank trains on and what it holds out, as the banks themselves split."""
    salt = split_salt(proposal, job)
    train, held = dict[str, _Rows](), dict[str, _Rows]()
    for bank, table in tables.items():
        x, y = _inputs(dataset, table.frame), table.label
        assert y is not None
        out = is_holdout(list(table.frame.index), salt, proposal.holdout)
        train[bank], held[bank] = _Rows(x[~out], y[~out]), _Rows(x[out], y[out])
    return train, held


def _pooled(parts: Mapping[str, _Rows]) -> _Rows:
    return _Rows(
        pd.concat([part.inputs for part in parts.values()]),
        np.concatenate([part.outcome for part in parts.values()]),
    )


def _joined(inputs: pd.DataFrame, columns: list[pd.DataFrame]) -> pd.DataFrame:
    """Return rows with other tables' columns of the same enterprise; missing where a table doesn't list it."""
    return pd.concat([inputs, *[table.reindex(inputs.index) for table in columns]], axis=1)


def _scores(rows: _Rows, test: pd.DataFrame) -> NDArray[np.float64]:
    import lightgbm

    model = lightgbm.LGBMClassifier(**SETTINGS)
    model.fit(rows.inputs, rows.outcome)
    return np.asarray(model.predict_proba(test), dtype=np.float64)[:, 1]


def _within(score: NDArray[np.float64], held: Mapping[str, _Rows]) -> float:
    """Return the AUC within each bank, averaged by rows; a bank with one outcome only has none and doesn't count."""
    from sklearn.metrics import roc_auc_score

    total, rows, at = 0.0, 0, 0
    for part in held.values():
        own = score[at : at + len(part.outcome)]
        at += len(part.outcome)
        if len(np.unique(part.outcome)) == 2:
            total += float(roc_auc_score(part.outcome, own)) * len(own)
            rows += len(own)
    return total / rows


def measure(score: NDArray[np.float64], outcome: NDArray[np.int8]) -> Yardstick:
    """Return exact figures of a score."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false, true, _ = roc_curve(outcome, score)
    at = np.linspace(0.0, 1.0, CURVE_POINTS)
    curve = np.column_stack([at, np.interp(at, false, true)])
    return Yardstick(
        auc=float(roc_auc_score(outcome, score)), ks=float(np.max(true - false)), roc=curve.round(6).tolist()
    )


def _inputs(dataset: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    columns = columns_of(dataset)
    table = frame[list(columns.numbers)].astype("float64")
    for name, levels in columns.categories:
        table[name] = pd.Categorical(frame[name], categories=list(levels))
    return table
