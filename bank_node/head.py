"""A bank's own head: boosted trees on its columns, the bank score and the partners' bins; it never leaves the bank.

Specification: training protocol, "A job", point 3. Inputs of a row: the bank's own columns (numbers as they are,
categories by the contract's levels), H's log-odds by the networks that never saw the row, and the partners' bins. Four
forests, each grown on three quarters of the training rows; each row's out-of-fold score comes from the forest that
never saw it, and one line of log-odds (Platt, 1999) is fitted to those. A new row takes the mean of the four forests
through that line. The bank averages the head with S in log-odds. Trees: Ke and others, "LightGBM", 2017.

Invariants:
    - Equal rows, bins, folds and seed give an equal head on one machine: one thread, LightGBM's deterministic mode.
    - No row is calibrated by trees that saw it.
    - A row that lacks a partner's bin is answered only if the head was grown on rows that lack it too: trees that
      never saw a gap would read it as a number.

What each party learns: nothing, this never leaves. Not protected: who holds the file holds thresholds of own columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.encoding import Columns
from bank_node.subscores import MISSING
from bank_node.training import keyed_digests
from protocol.errors import ConfigurationError, DataError
from protocol.metrics import logistic_line

Float64 = NDArray[np.float64]

FOLDS = 4
TREES = 200
LEAST_ROWS = 50
"""Fewest rows with either outcome in a fold, and of rows without a partner's bin that teach the head of the gap."""
SETTINGS: Mapping[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "lambda_l2": 5.0,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Head:
    """A bank's head.

    Attributes:
        columns: the bank's own inputs.
        forests: LightGBM's text, one a fold.
        slope: of the line through out-of-fold log-odds.
        intercept: of the same line.
        gaps: by partner, whether rows without its bin are answered.
    """

    columns: Columns
    forests: tuple[str, ...]
    slope: float
    intercept: float
    gaps: tuple[bool, ...]

    def log_odds(self, frame: pd.DataFrame, h: Float64, bins: NDArray[np.int8]) -> Float64:
        """Return the head's log-odds, nan where it doesn't answer; shape [n].

        Args:
            frame: rows with the contract's columns.
            h: log-odds of the bank score, shape [n].
            bins: of the partners that the head was grown with, shape [n, partners].

        Raises:
            DataError: ``HEAD_ROWS`` if lengths differ.
        """
        x = _inputs(self.columns, frame, h, bins)
        if bins.shape[1] != len(self.gaps):
            raise DataError("HEAD_ROWS", "The bins are of another number of partners than the head's.")
        if len(x) == 0:
            return np.zeros(0)
        raw = np.mean([_raw(lightgbm.Booster(model_str=text), x) for text in self.forests], axis=0)
        line: Float64 = self.slope * raw + self.intercept
        unknown = ((bins == MISSING) & ~np.array(self.gaps)).any(axis=1)
        line[unknown] = np.nan
        return line

    def to_dict(self) -> dict[str, Any]:
        """Return the head as a JSON value, for the bank's own disk."""
        return {
            "version": 1,
            "numbers": list(self.columns.numbers),
            "categories": [[name, list(levels)] for name, levels in self.columns.categories],
            "forests": list(self.forests),
            "slope": self.slope,
            "intercept": self.intercept,
            "gaps": list(self.gaps),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Head:
        """Read what `to_dict` made.

        Raises:
            ConfigurationError: ``HEAD_MALFORMED``.
        """
        try:
            if state["version"] != 1:
                raise ValueError("version")
            columns = Columns(
                tuple(state["numbers"]), tuple((name, tuple(levels)) for name, levels in state["categories"])
            )
            return cls(
                columns,
                tuple(state["forests"]),
                float(state["slope"]),
                float(state["intercept"]),
                tuple(bool(gap) for gap in state["gaps"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError("HEAD_MALFORMED", "This is not a head of version 1.") from error


def folds_of(ids: Sequence[str], salt: bytes) -> NDArray[np.intp]:
    """Return the fold of each enterprise, the same at every bank; shape [n].

    Args:
        ids: canonical identifiers.
        salt: what the banks of the job share, at least 16 bytes.
    """
    return (keyed_digests(ids, salt, b"fold") % np.uint64(FOLDS)).astype(np.intp)


def fit(
    columns: Columns,
    frame: pd.DataFrame,
    y: NDArray[np.int8],
    h: Float64,
    bins: NDArray[np.int8],
    folds: NDArray[np.intp],
    seed: int,
) -> Head | None:
    """Grow a head; None where the bank has too few rows of either outcome for it.

    Args:
        columns: the bank's own inputs.
        frame: training rows with the contract's columns.
        y: outcomes, 1 = default, shape [n].
        h: log-odds of the bank score by networks that never saw the row, shape [n].
        bins: shape [n, partners].
        folds: 0 to ``FOLDS`` - 1 by row, shape [n].
        seed: of LightGBM's sampling; not secret.

    Raises:
        DataError: ``HEAD_ROWS`` if lengths differ.
    """
    x = _inputs(columns, frame, h, bins)
    if y.shape != (len(x),) or folds.shape != (len(x),):
        raise DataError("HEAD_ROWS", "Columns, outcomes and folds differ in length.")
    for fold in range(FOLDS):
        bad = int(y[folds == fold].sum())
        if min(bad, int((folds == fold).sum()) - bad) < LEAST_ROWS:
            return None
    settings = {**SETTINGS, "seed": seed}
    categorical = list(range(len(columns.numbers), len(columns.numbers) + len(columns.categories)))
    raw, forests = np.empty(len(x)), []
    for fold in range(FOLDS):
        inside = folds != fold
        data = lightgbm.Dataset(x[inside], label=y[inside], categorical_feature=categorical, params=settings)
        text = lightgbm.train(settings, data, num_boost_round=TREES).model_to_string()
        forests.append(text)
        # Read back, so that what is calibrated is what is kept.
        raw[~inside] = _raw(lightgbm.Booster(model_str=text), x[~inside])
    line = logistic_line(1.0 / (1.0 + np.exp(-np.clip(raw, -30, 30))), np.ones(len(x)), y.astype(np.float64))
    if line is None:
        return None
    gaps = tuple(bool(missing >= LEAST_ROWS) for missing in (bins == MISSING).sum(axis=0))
    return Head(columns, tuple(forests), line[0], line[1], gaps)


def averaged(s: Float64, head: Float64) -> Float64:
    """Return the mean of S and the head in log-odds, S alone where the head doesn't answer; shape [n]."""
    both: Float64 = np.where(np.isnan(head), s, (s + np.nan_to_num(head)) / 2.0)
    return both


def _raw(forest: lightgbm.Booster, x: Float64) -> Float64:
    found: Float64 = np.asarray(forest.predict(x, raw_score=True, num_threads=1), dtype=np.float64)
    return found


def _inputs(columns: Columns, frame: pd.DataFrame, h: Float64, bins: NDArray[np.int8]) -> Float64:
    """Return the head's inputs: numbers, categories by level (nan for others), H, bins (nan where missing)."""
    if h.shape != (len(frame),) or len(bins) != len(frame):
        raise DataError("HEAD_ROWS", "Columns, scores and bins differ in length.")
    parts = [frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in columns.numbers]
    for name, levels in columns.categories:
        codes = pd.Index(levels, dtype="str").get_indexer(pd.Index(frame[name].astype("str")))
        parts.append(np.where(codes < 0, np.nan, codes))
    partners = np.where(bins == MISSING, np.nan, bins.astype(np.float64))
    return np.column_stack([*parts, h, partners])
