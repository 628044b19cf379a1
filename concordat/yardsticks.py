"""What a bank reaches alone, and what nobody may compute in real life: boosted trees on one bank's rows, and on all.

Only a demo can fit the second one, because only a demo holds everybody's rows.
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
from protocol.contract import Dataset
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


def yardsticks(
    dataset: Dataset, tables: Mapping[str, Table], proposal: Proposal, job: str
) -> tuple[dict[str, Yardstick], Yardstick]:
    """Fit boosted trees per bank and on all rows, on the job's own split.

    Returns:
        Each bank alone by name, and the pooled ceiling; all measured on the union of the hold-outs.
    """
    import lightgbm

    salt = split_salt(proposal, job)
    train: dict[str, tuple[pd.DataFrame, NDArray[np.int8]]] = {}
    held: list[tuple[pd.DataFrame, NDArray[np.int8]]] = []
    for bank, table in tables.items():
        x, y = _inputs(dataset, table.frame), table.label
        assert y is not None
        out = is_holdout(list(table.frame.index), salt, proposal.holdout)
        train[bank] = (x[~out], y[~out])
        held.append((x[out], y[out]))
    test_x, test_y = pd.concat([x for x, _ in held]), np.concatenate([y for _, y in held])

    def fit(x: pd.DataFrame, y: NDArray[np.int8]) -> Yardstick:
        model = lightgbm.LGBMClassifier(**SETTINGS)
        model.fit(x, y)
        return measure(np.asarray(model.predict_proba(test_x))[:, 1], test_y)

    alone = {bank: fit(x, y) for bank, (x, y) in train.items()}
    pooled = fit(pd.concat([x for x, _ in train.values()]), np.concatenate([y for _, y in train.values()]))
    return alone, pooled


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
