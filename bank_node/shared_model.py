"""Stage S: the shared risk model on bank columns and the partners' bins, and H+ beside it.

Specification: training protocol, "A job", point 3. S is H's networks with further inputs for the partners' bins, H+
is H's networks without; both get the same further rounds: optimiser, schedule, rows, batches and dropout are equal,
so that what S is better than H+ by is what the partners bring, and not the rounds.

A bin b of a partner becomes ``WIDTH`` inputs, centred at what a bin at that partner's own quantiles is on average:
a step for each k = 1 … 15, [b ≥ k] − (16 − k)/16; b/15 − 1/2; and a flag that is 1 where there is no bin, all else
then being 0. An enterprise that a partner doesn't know therefore stands at that partner's average before anything is
learned of the flag. The flag is trained with: by the rows that lack a bin, and by rows from which a bin is taken at
random (``DROP``), so that S answers sensibly when a partner is down that was never missing in training.

Invariants:
    - The weights of the further inputs stand behind H's in a network's vector and begin at zero: S begins with H's
      log-odds to the last bit.
    - Both models of a round travel in one vector of fixed layout: H+ first, then S if there is any partner.
    - Nothing here is centred or scaled by a statistic of rows: no sum has to be opened for it.

What a bank learns: the totals of both models' networks. Not protected: what a network tells of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bank_node.network import Shape
from bank_node.schedule import Beside, Schedule
from bank_node.subscores import MISSING
from bank_node.training import Float32, Float64, LocalTrainer, update_vector, weights_from
from protocol.errors import ProtocolError
from protocol.job import Recipe, SharedRecipe
from protocol.subscore import BINS

STEPS = BINS - 1
WIDTH = STEPS + 2
"""Inputs of one partner's bin."""
DROP = 0.05
"""Probability with which a partner's bin is taken from a row of a batch."""


def encode_bins(bins: NDArray[np.int8]) -> Float32:
    """Return the inputs of bins, shape [n, partners, WIDTH]."""
    known = bins != MISSING
    steps = np.arange(1, BINS)
    encoded = np.zeros((*bins.shape, WIDTH), dtype=np.float32)
    encoded[..., :STEPS] = (bins[..., None] >= steps) - (BINS - steps) / BINS
    encoded[..., STEPS] = bins / STEPS - 0.5
    encoded[~known] = 0.0
    encoded[..., -1] = ~known
    return encoded


def beside(bins: NDArray[np.int8]) -> Float32:
    """Return the inputs of bins as the networks take them, shape [n, partners * WIDTH]."""
    return encode_bins(bins).reshape(len(bins), -1)


def schedule_of(recipe: Recipe, shared: SharedRecipe) -> Schedule:
    """Return the schedule of the further rounds."""
    return Schedule(
        dropout=shared.dropout,
        learning_rate=shared.learning_rate,
        weight_decay=shared.weight_decay,
        betas=recipe.betas,
        rounds=shared.rounds,
        local_steps=shared.local_steps,
        before=recipe.rounds,
    )


@dataclass(frozen=True)
class Pair:
    """What is trained in the further rounds.

    Attributes:
        h_plus: networks without partners, shape [m, p].
        s: networks with them, shape [m, p + partners * WIDTH * (hidden + 1)]; None without partners.
    """

    h_plus: Float32
    s: Float32 | None


def start_of(h: Float32, shape: Shape) -> Pair:
    """Return the pair that the further rounds begin with: H, and H with inputs at zero weight.

    Args:
        h: H's final networks, shape [m, p].
        shape: of S; without further inputs there is no S.
    """
    if shape.side == 0:
        return Pair(h, None)
    return Pair(h, np.hstack([h, np.zeros((len(h), shape.parameters - h.shape[1]), dtype=np.float32)]))


def pair_from(total: Float64, shape: Shape) -> Pair:
    """Return the row-weighted averages over all banks from the sum of their vectors.

    Args:
        total: the opened sum.
        shape: of S; without further inputs there is no S.

    Raises:
        ProtocolError: the total can't be a sum of such vectors.
    """
    first = shape.networks * (1 + shape.beside(0).parameters)
    second = shape.networks * (1 + shape.parameters) if shape.side else 0
    if total.shape != (first + second,):
        raise ProtocolError("TRAINING_TOTAL", "The sum of the updates has a wrong shape.")
    h_plus = weights_from(total[:first], shape.networks)
    return Pair(h_plus, weights_from(total[first:], shape.networks) if second else None)


class SharedTrainer:
    """Trains H+ and S on one bank's rows.

    Args:
        base: the bank score's trainer, whose rows, batches and dropout both share.
        recipe: of the bank score.
        shared: of the further rounds.
        bins: of the training rows in the trainer's order, shape [n, partners]; no partner is possible.
        drop: see ``DROP``.
    """

    def __init__(
        self,
        base: LocalTrainer,
        recipe: Recipe,
        shared: SharedRecipe,
        bins: NDArray[np.int8],
        drop: float = DROP,
    ) -> None:
        schedule = schedule_of(recipe, shared)
        self._h_plus = base.continued(schedule)
        self._s: LocalTrainer | None = None
        if bins.shape[1]:
            inputs = torch.tensor(encode_bins(bins)) * base.shape.gain
            absent = torch.tensor(encode_bins(np.full((1, 1), MISSING, np.int8))[0, 0]) * base.shape.gain
            self._s = base.continued(schedule, Beside(inputs, absent, drop))

    @property
    def shape(self) -> Shape:
        """The shape of S, or of H+ without partners."""
        return (self._s or self._h_plus).shape

    def local_pass(self, pair: Pair, round_: int) -> Pair:
        """Train both for one round.

        Args:
            pair: where to start.
            round_: counted from 1 at the job's first.

        Raises:
            ProtocolError: as ``LocalTrainer.local_pass``, or the pair has no S or one too many.
        """
        if (pair.s is None) != (self._s is None):
            raise ProtocolError("NETWORK_SHAPE", "The round has another number of models than this bank.")
        trained = self._h_plus.local_pass(pair.h_plus, round_)
        if self._s is None or pair.s is None:
            return Pair(trained, None)
        return Pair(trained, self._s.local_pass(pair.s, round_))

    def vector(self, pair: Pair) -> Float64:
        """Return what this bank adds to the round's masked sum.

        Raises:
            ProtocolError: as ``training.update_vector``.
        """
        parts = [update_vector(one, self._h_plus.rows) for one in (pair.h_plus, pair.s) if one is not None]
        return np.concatenate(parts)
