"""Boosted trees as the yardstick: on one bank's rows, and on all banks' rows pooled (the ceiling).

Settings of LightGBM, the same for a single bank and for the pool: learning rate .03, 15 leaves, at least 50 rows
a leaf, L2 5, 80 % of rows and of columns per tree, deterministic with seed 0; 200 trees on default-credit, 400
on SBA (more don't help a pool there, fewer don't help a single bank). Numbers go in as they are, categories as
LightGBM's own with the contract's levels, anything else as missing.
"""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.encoding import Columns

TREES = {"default-credit": 200, "sba-wide": 400, "sba-lean": 400}
SETTINGS = {
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


def inputs(columns: Columns, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns as LightGBM takes them."""
    table = frame[list(columns.numbers)].astype("float64")
    for name, levels in columns.categories:
        known = frame[name].where(frame[name].isin(levels))
        table[name] = pd.Categorical(known, categories=list(levels))
    return table


def boosted_trees(
    dataset: str, columns: Columns, train: pd.DataFrame, test: pd.DataFrame
) -> NDArray[np.float64]:
    """Fit on one table and return the PD of another's rows; shape [n]."""
    model = lightgbm.LGBMClassifier(n_estimators=TREES[dataset], **SETTINGS)
    model.fit(inputs(columns, train), train["outcome"])
    return np.asarray(model.predict_proba(inputs(columns, test))[:, 1], dtype=np.float64)
