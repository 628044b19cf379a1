"""What distinguishes the stages of a training: the optimiser's settings, and inputs beside the encoded columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from protocol.job import Recipe


@dataclass(frozen=True)
class Schedule:
    """How the networks of one stage are trained: the optimiser's settings, and how long.

    Attributes:
        dropout: of hidden units.
        learning_rate: at the stage's start; it falls to zero along one cosine over the stage's rounds.
        weight_decay: of weights, not of biases.
        betas: of AdamW.
        rounds: of the stage.
        local_steps: a round.
        before: rounds of the stages before this one.
    """

    dropout: float
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    rounds: int
    local_steps: int
    before: int = 0

    @classmethod
    def of(cls, recipe: Recipe) -> Schedule:
        """Return the schedule of the bank score."""
        return cls(
            recipe.dropout,
            recipe.learning_rate,
            recipe.weight_decay,
            recipe.betas,
            recipe.rounds,
            recipe.local_steps,
        )


@dataclass(frozen=True)
class Beside:
    """Inputs of the rows beside their encoded columns, in groups that may be absent together.

    Attributes:
        values: shape [n, groups, inputs of a group].
        absent: what stands for a group that is absent, shape [inputs of a group].
        drop: probability with which a group of a row is taken as absent, drawn for every batch.
    """

    values: Tensor
    absent: Tensor
    drop: float = 0.0

    @property
    def width(self) -> int:
        """Inputs in all."""
        return int(self.values.shape[1] * self.values.shape[2])

    def batch(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Return the inputs of rows chosen [m, batch], shape [m, batch, width]."""
        taken = self.values.index_select(0, chosen.reshape(-1))
        if self.drop > 0.0:
            gone = torch.empty(taken.shape[:2]).bernoulli_(self.drop, generator=generator).bool()
            taken = torch.where(gone[:, :, None], self.absent, taken)
        return taken.reshape(*chosen.shape, self.width)
