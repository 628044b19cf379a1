"""Scores: averages in log-odds, out-of-fold by the other half's networks, in blocks; and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from bank_node import scoring
from bank_node.encoding import Columns, Encoding, Knots
from bank_node.network import load, shape_of
from bank_node.scoring import network_logits, out_of_fold_logits, predict, probability
from bank_node.training import initial_weights
from protocol.errors import DataError, ProtocolError
from protocol.job import DpRecipe, Recipe

RECIPE = Recipe(hidden=(4, 3))
ENCODING = Encoding(
    Knots(Columns(("a", "b")), ((0.0, 1.0, 2.0), (0.0, 1.0)), ((0.0, 0.5, 1.0), (0.0, 1.0))), (0.5,) * 7
)
FRAME = pd.DataFrame(
    {"a": np.linspace(-1, 9, 50), "b": np.where(np.arange(50) % 5, np.linspace(0, 2, 50), np.nan)}
)
HALVES = (np.arange(50) % 2).astype(np.int8)


def networks(recipe: Recipe | DpRecipe = RECIPE) -> np.ndarray:
    shape = shape_of(recipe, ENCODING.width)
    rng = np.random.Generator(np.random.PCG64(0))
    start = initial_weights(shape, b"k" * 32, -1.0)
    return (start + 0.1 * rng.normal(size=start.shape)).astype(np.float32)


def test_each_network_scores_for_itself() -> None:
    weights = networks()
    logits = network_logits(ENCODING, weights, FRAME, RECIPE)
    assert logits.shape == (50, 4)
    x = torch.tensor(ENCODING.transform(FRAME))
    for i in range(4):
        model = shape_of(RECIPE, ENCODING.width).model()
        load(model, weights[i])
        with torch.no_grad():
            np.testing.assert_allclose(logits[:, i], model(x).numpy(), atol=1e-5)


def test_serving_averages_all_networks_in_log_odds() -> None:
    weights = networks()
    pd_ = predict(ENCODING, weights, FRAME, RECIPE)
    logits = network_logits(ENCODING, weights, FRAME, RECIPE)
    np.testing.assert_allclose(np.log(pd_ / (1 - pd_)), logits.mean(axis=1), atol=1e-9)
    assert pd_.dtype == np.float64
    assert ((pd_ > 0) & (pd_ < 1)).all()


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(hidden=(3,), initialisations=3), DpRecipe(hidden=(3,))])
def test_out_of_fold_is_by_networks_of_the_other_half(recipe: Recipe | DpRecipe) -> None:
    weights = networks(recipe)
    shape = shape_of(recipe, ENCODING.width)
    found = out_of_fold_logits(ENCODING, weights, FRAME, recipe, HALVES)
    logits = network_logits(ENCODING, weights, FRAME, recipe)
    for row in range(50):
        others = [i for i in range(shape.networks) if shape.half(i) != HALVES[row]]
        assert found[row] == pytest.approx(logits[row, others].mean())


def test_blocks_don_t_change_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = networks()
    whole = predict(ENCODING, weights, FRAME, RECIPE)
    monkeypatch.setattr(scoring, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(predict(ENCODING, weights, FRAME, RECIPE), whole, atol=1e-7)


def test_no_log_odds_overflow() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert probability(np.array([0.0]))[0] == 0.5
        assert probability(np.array([800.0]))[0] == 1.0
        assert 0 <= probability(np.array([-700.0]))[0] < 1e-300


def test_what_doesn_t_fit_is_refused() -> None:
    weights = networks()
    for wrong in (weights[:3], weights[:, 1:], weights * np.nan):
        with pytest.raises(ProtocolError):
            predict(ENCODING, wrong, FRAME, RECIPE)
    for halves in (HALVES[1:], np.full(50, 2, np.int8)):
        with pytest.raises(DataError):
            out_of_fold_logits(ENCODING, weights, FRAME, RECIPE, halves)
    with pytest.raises(DataError):
        predict(ENCODING, weights, FRAME[["a"]], RECIPE)
