"""Boosted trees as the yardstick: on one bank's rows, and on all banks' rows pooled (the ceiling).

Two sets of figures, both with LightGBM at learning rate .03, 15 leaves, at least 50 rows a leaf, L2 5, 80 % of rows
and of columns per tree, deterministic with seed 0:

- ``boosted_trees``: 300 trees, the same for every data set, a single bank and the pool;
- ``tuned_trees``: as many trees (at most 800) as 5-fold cross-validation of the table's own training rows finds
  best by AUC; the strictest yardstick, since a bank with few rows then stops early.

Numbers go in as they are, categories as LightGBM's own with the contract's levels, anything else as missing. No
column but the banks' own.
"""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.encoding import Columns

TREES = 300
MOST_TREES = 800
FOLDS = 5
PATIENCE = 60
SETTINGS = {
    "objective": "binary",
    "metric": "auc",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "lambda_l2": 5.0,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
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
    columns: Columns, train: pd.DataFrame, test: pd.DataFrame, trees: int = TREES
) -> NDArray[np.float64]:
    """Fit on one table and return the PD of another's rows; shape [n]."""
    data = lightgbm.Dataset(inputs(columns, train), label=train["outcome"].to_numpy(), free_raw_data=False)
    model = lightgbm.train(SETTINGS, data, num_boost_round=trees)
    return np.asarray(model.predict(inputs(columns, test)), dtype=np.float64)


def tuned_trees(columns: Columns, train: pd.DataFrame, test: pd.DataFrame) -> NDArray[np.float64]:
    """As ``boosted_trees``, with the number of trees that cross-validation of the training rows finds."""
    data = lightgbm.Dataset(inputs(columns, train), label=train["outcome"].to_numpy(), free_raw_data=False)
    history = lightgbm.cv(
        SETTINGS,
        data,
        num_boost_round=MOST_TREES,
        nfold=FOLDS,
        stratified=True,
        seed=0,
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return boosted_trees(
        columns, train, test, trees=len(np.atleast_1d(np.asarray(history["valid auc-mean"])))
    )
