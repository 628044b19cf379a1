"""The score network: a small multilayer perceptron beside a linear skip, and its form as one vector.

A message carries m of them, by default four: two halves of the rows times two initialisations. Network i
trains on the rows of half ``i // initialisations``, so that every row is scored by networks that never saw
it.

Whoever imports this module imports torch (about a second); nothing at a node's start does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import skip_init

from protocol.errors import ProtocolError
from protocol.job import DpRecipe, Recipe

HALVES = 2
INPUT_GAIN = 3.0
"""Brings encoded columns, which lie in [-1, 1], near a standard deviation of one; worth .001-.002 AUC."""


def _unset(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call]
    return layer


class ScoreNetwork(nn.Module):
    """Log-odds of a default: ``output(relu(… relu(layer(gain * x)))) + skip(gain * x)``.

    Parameters are left unset: ``initialise`` or ``load`` sets them, so the global generator is never used.

    Args:
        width: encoded columns.
        hidden: units of each hidden layer.
        gain: factor of the inputs.
        side: further inputs that a network may take in later, 0 without. Their weights stand behind all others
            in the vector and are applied on their own, so that at zero the log-odds are those without, to the bit.
    """

    def __init__(
        self, width: int, hidden: tuple[int, ...] = (64, 64), gain: float = 1.0, side: int = 0
    ) -> None:
        super().__init__()
        if width < 1 or not hidden or min(hidden) < 1 or side < 0:
            raise ProtocolError("NETWORK_SHAPE", "The recipe describes no network.", "See the job's recipe.")
        sizes = (width, *hidden)
        self.layers = nn.ModuleList(_unset(sizes[i], sizes[i + 1]) for i in range(len(hidden)))
        self.output = _unset(sizes[-1], 1)
        self.skip = _unset(width, 1, bias=False)
        self.gain = gain
        if side:
            self.side = _unset(side, hidden[0], bias=False)
            self.side_skip = _unset(side, 1, bias=False)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Return the log-odds, shape [n], of rows x, shape [n, width], and what stands beside them, [n, side]."""
        scaled = x * self.gain
        hidden = scaled
        for i, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if i == 0 and beside is not None:
                hidden = hidden + self.side(beside * self.gain)
            hidden = torch.relu(hidden)
        total: Tensor = self.output(hidden) + self.skip(scaled)
        if beside is not None:
            total = total + self.side_skip(beside * self.gain)
        return total.squeeze(1)


def initialise(model: ScoreNetwork, generator: torch.Generator, prior_log_odds: float) -> None:
    """Draw the layers (uniform, 1/sqrt(inputs), as torch does), zero the skip, set the output's bias."""
    with torch.no_grad():
        for layer in [*model.layers, model.output]:
            bound = 1.0 / math.sqrt(layer.weight.shape[1])
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        model.output.bias.fill_(prior_log_odds)
        model.skip.weight.zero_()


@dataclass(frozen=True)
class Shape:
    """The shape of what travels in a round.

    Attributes:
        width: encoded columns.
        hidden: units of each hidden layer.
        initialisations: networks per half.
        gain: factor of the inputs.
        side: further inputs beside the encoded columns.
    """

    width: int
    hidden: tuple[int, ...]
    initialisations: int
    gain: float = 1.0
    side: int = 0

    @property
    def networks(self) -> int:
        """m, the number of networks."""
        return HALVES * self.initialisations

    @property
    def parameters(self) -> int:
        """p, the length of one network's vector."""
        sizes = (self.width, *self.hidden, 1)
        layers = sum(sizes[i] * sizes[i + 1] + sizes[i + 1] for i in range(len(sizes) - 1))
        return layers + self.width + self.side * (self.hidden[0] + 1)

    def half(self, network: int) -> int:
        """Return the half of the rows that a network trains on."""
        return network // self.initialisations

    def model(self) -> ScoreNetwork:
        """Return a network of this shape, its parameters unset."""
        return ScoreNetwork(self.width, self.hidden, self.gain, self.side)

    def beside(self, side: int) -> Shape:
        """Return the same shape with further inputs."""
        return replace(self, side=side)


def shape_of(recipe: Recipe | DpRecipe, width: int) -> Shape:
    """Return the shape of a recipe's networks.

    A private recipe has one initialisation, since a second doubles what is to be accounted for and was measured to
    gain nothing, and a gain of one, so that its clip is stated in the encoding's own units.
    """
    if isinstance(recipe, Recipe):
        return Shape(width, recipe.hidden, recipe.initialisations, INPUT_GAIN)
    return Shape(width, recipe.hidden, 1)


def flatten(model: ScoreNetwork) -> NDArray[np.float32]:
    """Return the parameters as one vector, shape [p]."""
    with torch.no_grad():
        vector: NDArray[np.float32] = (
            torch.cat([value.reshape(-1) for value in model.parameters()]).numpy().copy()
        )
    return vector


def load(model: ScoreNetwork, vector: NDArray[np.float32]) -> None:
    """Set the parameters from one vector, shape [p].

    Raises:
        ProtocolError: the vector has another length or holds what is not finite.
    """
    parameters = list(model.parameters())
    if vector.shape != (sum(value.numel() for value in parameters),):
        raise ProtocolError("NETWORK_SHAPE", "The weights have another shape than the recipe's network.")
    if not np.isfinite(vector).all():
        raise ProtocolError("NETWORK_NOT_FINITE", "The weights hold what is not a finite number.")
    at = 0
    with torch.no_grad():
        for value in parameters:
            piece = torch.tensor(vector[at : at + value.numel()], dtype=value.dtype)
            value.copy_(piece.reshape(value.shape))
            at += value.numel()
