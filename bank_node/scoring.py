"""Scores from the networks of the shared model.

A new enterprise is scored by all networks, averaged in log-odds. A row that took part in training is scored
out of fold: by the networks that trained on the other half. Only rows of the hold-out are unseen by all.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bank_node.encoding import Encoding
from bank_node.network import HALVES, load, shape_of
from bank_node.training import check_weights
from protocol.errors import DataError
from protocol.job import DpRecipe, Recipe

_BLOCK_ROWS = 1 << 14

Float64 = NDArray[np.float64]


def network_logits(
    encoding: Encoding,
    weights: NDArray[np.float32],
    frame: pd.DataFrame,
    recipe: Recipe | DpRecipe,
    beside: NDArray[np.float32] | None = None,
) -> Float64:
    """Return each network's log-odds; shape [n, m].

    Args:
        encoding: the encoding of the model's version.
        weights: its networks, shape [m, p].
        frame: a table with the contract's columns, n rows.
        recipe: the recipe that the networks were trained by.
        beside: inputs beside the encoded columns, for networks that take them, shape [n, side].

    Raises:
        ProtocolError: the weights don't fit the encoding and the recipe.
        DataError: the table doesn't fit the encoding.
    """
    torch.set_num_threads(1)
    shape = shape_of(recipe, encoding.width).beside(0 if beside is None else beside.shape[1])
    check_weights(weights, shape.networks, shape.parameters)
    model = shape.model()
    logits = np.empty((len(frame), shape.networks))
    for start in range(0, len(frame), _BLOCK_ROWS):
        x = torch.tensor(encoding.transform(frame.iloc[start : start + _BLOCK_ROWS]))
        more = None if beside is None else torch.tensor(beside[start : start + _BLOCK_ROWS])
        for i in range(shape.networks):
            load(model, weights[i])
            with torch.no_grad():
                logits[start : start + len(x), i] = model(x, more).numpy()
    return logits


def predict(
    encoding: Encoding, weights: NDArray[np.float32], frame: pd.DataFrame, recipe: Recipe | DpRecipe
) -> Float64:
    """Return the PD of each row, all networks averaged in log-odds; shape [n], in [0, 1].

    Args:
        encoding: the encoding of the model's version.
        weights: its networks, shape [m, p].
        frame: a table with the contract's columns.
        recipe: the recipe that the networks were trained by.

    Raises:
        ProtocolError: the weights don't fit the encoding and the recipe.
        DataError: the table doesn't fit the encoding.
    """
    return probability(network_logits(encoding, weights, frame, recipe).mean(axis=1))


def probability(log_odds: Float64) -> Float64:
    """Return 1 / (1 + exp(-log_odds)) without overflow."""
    result: Float64 = np.exp(-np.logaddexp(0.0, -log_odds))
    return result


def out_of_fold_logits(
    encoding: Encoding,
    weights: NDArray[np.float32],
    frame: pd.DataFrame,
    recipe: Recipe | DpRecipe,
    halves: NDArray[np.int8],
) -> Float64:
    """Return log-odds of each row by the networks that never saw its half; shape [n].

    Args:
        encoding: the encoding of the model's version.
        weights: its networks, shape [m, p].
        frame: a table with the contract's columns, n rows.
        recipe: the recipe that the networks were trained by.
        halves: ``training.half_of`` the rows, shape [n].

    Raises:
        DataError: the halves don't fit the table.
        ProtocolError: the weights don't fit the encoding and the recipe.
    """
    if halves.shape != (len(frame),) or not np.isin(halves, range(HALVES)).all():
        raise DataError("TRAINING_SHAPE", "Columns, labels and halves differ in length.")
    by_half = network_logits(encoding, weights, frame, recipe).reshape(len(frame), HALVES, -1)
    other: Float64 = by_half[np.arange(len(frame)), 1 - halves.astype(np.intp)].mean(axis=1)
    return other
