"""A bank's local pass over its rows: four small networks trained side by side.

Specification. Each round every bank starts from the same four networks, takes ``recipe.steps`` steps of AdamW
on batches of its own rows (steps, not epochs: a small bank would undertrain), and returns the weights and the
rows they were trained on. The optimiser starts fresh each round; the learning rate follows one cosine over
all rounds. The banks' average, weighted by rows (``update_vector``, ``weights_from``), starts the next round:
McMahan and others, "Communication-efficient learning of deep networks from decentralized data", 2017.

Invariants:

- Equal ``Seeds``, rows and recipe give equal weights to the last bit on one machine, in whatever thread or
  process: one thread of arithmetic, own generators seeded from derived keys, never the global ones.
- The generators drive initialisation, batch order and dropout only, none of which is secret; noise for a
  private release is made in ``privacy`` from a cryptographic stream.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bank_node.network import (
    HALVES,
    INITIALISATIONS,
    NETWORKS,
    ScoreNetwork,
    flatten,
    initialise,
    parameter_count,
    parameter_shapes,
)
from protocol.errors import ConfigurationError, DataError, ProtocolError
from protocol.labels import Label, derive

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FRACTION_BITS = 23
"""Fractional bits of a weighted update in the ring."""
WEIGHT_LIMIT = 64.0
"""Largest absolute weight; a pass that ends beyond it has diverged."""
MOST_ROWS = 1 << 24
UPDATE_LIMIT = MOST_ROWS * WEIGHT_LIMIT
"""Largest absolute value in ``update_vector`` at one bank: 2^30, so that 2^23 of it are exact in float64."""
LEAST_ROWS = 32
"""A half with fewer rows trains nothing."""


class Recipe(Protocol):
    """What training reads of the job's recipe."""

    @property
    def hidden(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dropout(self) -> float: ...  # noqa: D102
    @property
    def rounds(self) -> int: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Seeds:
    """Keys of a training's generators.

    Attributes:
        common: 32 bytes that all banks of the job share: initialisations.
        own: 32 bytes of this bank: batch order, dropout, noise.
    """

    common: bytes
    own: bytes

    def __post_init__(self) -> None:
        if len(self.common) != 32 or len(self.own) != 32:
            raise ConfigurationError("TRAINING_SEEDS", "a seed has 32 bytes")

    def __repr__(self) -> str:
        return "Seeds(…)"


def _digests(ids: Sequence[str], salt: bytes, purpose: bytes) -> NDArray[np.uint64]:
    if len(salt) < 16:
        raise ConfigurationError("TRAINING_SALT", "the salt has fewer than 16 bytes")
    key = hmac.digest(salt, b"concordat/v1 split " + purpose, "sha256")
    return np.array(
        [int.from_bytes(hmac.digest(key, name.encode(), "sha256")[:8], "big") for name in ids],
        dtype=np.uint64,
    )


def half_of(ids: Sequence[str], salt: bytes) -> NDArray[np.int8]:
    """Return 0 or 1 for each enterprise, the same at every bank; shape [n].

    Args:
        ids: canonical identifiers.
        salt: what the banks of the job share, at least 16 bytes.
    """
    return (_digests(ids, salt, b"half") & np.uint64(1)).astype(np.int8)


def is_holdout(ids: Sequence[str], salt: bytes, fraction: float) -> NDArray[np.bool_]:
    """Return whether each enterprise is kept from training, the same at every bank; shape [n].

    Args:
        ids: canonical identifiers.
        salt: what the banks of the job share, at least 16 bytes.
        fraction: share of enterprises to keep, in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ConfigurationError("TRAINING_HOLDOUT", "the hold-out's share must lie in [0, 1)")
    chosen: NDArray[np.bool_] = _digests(ids, salt, b"holdout") < np.uint64(int(fraction * 2.0**64))
    return chosen


def training_key(key: bytes, use: str, round_: int = 0, vector: str = "") -> bytes:
    """Return a key below one of the seeds, which are the job's and the attempt's already."""
    return derive(key, Label(label=f"bank/{use}", job="below the seed", round=round_, vector=vector))


def generator_for(key: bytes, use: str, round_: int = 0, vector: str = "") -> torch.Generator:
    """Return a torch generator seeded from a derived key; for what is not secret."""
    return torch.Generator().manual_seed(
        int.from_bytes(training_key(key, use, round_, vector)[:8], "big") >> 1
    )


def initial_weights(recipe: Recipe, width: int, common: bytes, prior_log_odds: float) -> Float32:
    """Return the four networks that every bank starts from; shape [4, p]."""
    model = ScoreNetwork(width, tuple(recipe.hidden), recipe.dropout)
    starts = []
    for i in range(NETWORKS):
        # One start per initialisation, shared by both halves: their scores then differ by rows alone.
        initialise(
            model, generator_for(common, "initialisation", vector=str(i % INITIALISATIONS)), prior_log_odds
        )
        starts.append(flatten(model))
    return np.stack(starts)


def check_rows(x: Float32, y: NDArray[np.int8], halves: NDArray[np.int8]) -> None:
    """Refuse what can't be trained on.

    Raises:
        DataError: shapes differ, labels are not 0 or 1, or a half has too few rows or one class only.
    """
    if x.ndim != 2 or y.shape != (len(x),) or halves.shape != (len(x),) or len(x) > MOST_ROWS:
        raise DataError("TRAINING_SHAPE", "columns, labels and halves differ in length")
    if not np.isin(y, (0, 1)).all():
        raise DataError("DATA_LABEL", "a label is neither 0 nor 1", "correct the label column")
    if not np.isfinite(x).all():
        raise DataError("TRAINING_NOT_FINITE", "an encoded column is not finite")
    for half in range(HALVES):
        labels = y[halves == half]
        if len(labels) < LEAST_ROWS:
            raise DataError(
                "DATA_TOO_FEW_ROWS",
                f"a half of the rows has {len(labels)}",
                f"at least {LEAST_ROWS} are needed",
            )
        if labels.min() == labels.max():
            raise DataError("DATA_ONE_CLASS", "a half of the rows holds one outcome only", "add rows")


def batch_size(rows: int, recipe: Recipe) -> int:
    """Return the rows of a batch: a fiftieth of the half's rows, at least 32."""
    return min(rows, max(32, rows // 50))


class LocalTrainer:
    """Trains four networks on one bank's rows.

    Args:
        recipe: the job's recipe.
        x: encoded columns, shape [n, width].
        y: outcomes, 1 = default, shape [n].
        halves: ``half_of`` the rows, shape [n].
        seeds: keys of the generators.
        prior_log_odds: log-odds of the consortium's base rate, from the job.

    Raises:
        DataError: see ``check_rows``.
    """

    def __init__(
        self,
        recipe: Recipe,
        x: Float32,
        y: NDArray[np.int8],
        halves: NDArray[np.int8],
        seeds: Seeds,
        prior_log_odds: float,
    ) -> None:
        check_rows(x, y, halves)
        self.recipe = recipe
        self.width = x.shape[1]
        self.parameters = parameter_count(self.width, tuple(recipe.hidden))
        self._seeds = seeds
        self._prior = prior_log_odds
        # Copies, so that torch's own alignment holds: vector code may sum in another order at another one.
        self._x = torch.tensor(x, dtype=torch.float32)
        self._y = torch.tensor(y, dtype=torch.float32)
        self._members = [torch.tensor(np.flatnonzero(halves == half)) for half in range(HALVES)]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that each network trains on; shape [4]."""
        return np.array([len(self._members[i // INITIALISATIONS]) for i in range(NETWORKS)], dtype=np.int64)

    def initial(self) -> Float32:
        """Return the four networks that every bank starts from; shape [4, p]."""
        return initial_weights(self.recipe, self.width, self._seeds.common, self._prior)

    def local_pass(self, weights: Float32, round_: int) -> Float32:
        """Train all four networks for the recipe's steps.

        Args:
            weights: where to start, shape [4, p].
            round_: the round, counted from 1.

        Returns:
            The trained weights, shape [4, p].

        Raises:
            ProtocolError: weights of another shape, not finite, or beyond ``WEIGHT_LIMIT`` after training.
        """
        recipe = self.recipe
        check_weights(weights, self.parameters)
        if not 1 <= round_ <= recipe.rounds:
            raise ProtocolError(
                "TRAINING_ROUND", f"round {round_} is not one of the recipe's {recipe.rounds}"
            )
        torch.set_num_threads(1)
        stacked = self._unstack(weights)
        matrices = [value for name, value in stacked.items() if name.endswith("weight")]
        biases = [value for name, value in stacked.items() if name.endswith("bias")]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": biases, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(
            groups,
            lr=recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
        batches = self._batches(round_)
        noise = generator_for(self._seeds.own, "dropout", round_)
        for step in range(recipe.steps):
            done = ((round_ - 1) * recipe.steps + step) / (recipe.rounds * recipe.steps)
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
            # All batches have the shape of the larger half's; the smaller half is passed over more often.
            chosen = batches[step]
            x = self._x.index_select(0, chosen.reshape(-1)).reshape(*chosen.shape, self.width)
            logits = self._forward(stacked, x, noise)
            target = self._y[chosen]
            loss = (
                functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / chosen.shape[1]
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            trained: Float32 = torch.cat(
                [value.reshape(NETWORKS, -1) for value in stacked.values()], 1
            ).numpy()
        check_weights(trained, self.parameters)
        return trained

    def _unstack(self, weights: Float32) -> dict[str, Tensor]:
        """Return one leaf per parameter, shape [4, *shape], in the vector's order."""
        leaves, at = {}, 0
        for name, shape in parameter_shapes(self.width, tuple(self.recipe.hidden)):
            piece = torch.tensor(weights[:, at : at + shape.numel()], dtype=torch.float32)
            leaves[name] = piece.reshape(NETWORKS, *shape).requires_grad_()
            at += shape.numel()
        return leaves

    def _batches(self, round_: int) -> Tensor:
        """Return row numbers, shape [steps, 4, batch]: pieces of fresh permutations per network."""
        size = max(batch_size(len(members), self.recipe) for members in self._members)
        needed = self.recipe.steps * size
        chosen = []
        for i in range(NETWORKS):
            members = self._members[i // INITIALISATIONS]
            order = generator_for(self._seeds.own, "order", round_, str(i))
            passes = -(-needed // len(members))
            flat = torch.cat([members[torch.randperm(len(members), generator=order)] for _ in range(passes)])
            chosen.append(flat[:needed].reshape(self.recipe.steps, size))
        return torch.stack(chosen, 1)

    def _forward(self, stacked: dict[str, Tensor], x: Tensor, noise: torch.Generator) -> Tensor:
        """Return log-odds [4, batch] of rows x [4, batch, width], each network its own, with dropout."""
        keep = 1.0 - self.recipe.dropout
        hidden = x
        for layer in range(len(self.recipe.hidden)):
            weight, bias = stacked[f"layers.{layer}.weight"], stacked[f"layers.{layer}.bias"]
            hidden = torch.relu(torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2)))
            if keep < 1.0:
                hidden = hidden * torch.empty_like(hidden).bernoulli_(keep, generator=noise).div_(keep)
        output = torch.baddbmm(
            stacked["output.bias"].unsqueeze(1), hidden, stacked["output.weight"].transpose(1, 2)
        )
        skip = torch.bmm(x, stacked["skip.weight"].transpose(1, 2))
        return (output + skip).squeeze(2)


def check_weights(weights: Float32, parameters: int) -> None:
    """Refuse weights of another shape, not finite, or beyond ``WEIGHT_LIMIT``.

    Raises:
        ProtocolError: as said.
    """
    if weights.shape != (NETWORKS, parameters):
        raise ProtocolError("NETWORK_SHAPE", "the weights have another shape than the recipe's networks")
    if not np.isfinite(weights).all():
        raise ProtocolError("NETWORK_NOT_FINITE", "the weights hold what is not a finite number")
    if np.abs(weights).max() > WEIGHT_LIMIT:
        raise ProtocolError(
            "NETWORK_DIVERGED", f"a weight is beyond {WEIGHT_LIMIT:g}", "lower the learning rate"
        )


def update_vector(weights: Float32, rows: NDArray[np.int64]) -> Float64:
    """Return what one bank adds to a round's masked sum: rows, then rows times weights; shape [4 + 4p].

    Raises:
        ProtocolError: see ``check_weights``; or rows out of range.
    """
    check_weights(weights, weights.shape[1])
    if rows.shape != (NETWORKS,) or (rows < 0).any() or (rows > MOST_ROWS).any():
        raise ProtocolError("TRAINING_ROWS", "the row counts are out of range")
    counts = rows.astype(np.float64)
    return np.concatenate([counts, (counts[:, None] * weights.astype(np.float64)).reshape(-1)])


def weights_from(total: Float64) -> Float32:
    """Return the row-weighted average of all banks' weights from their sum; shape [4, p].

    Raises:
        ProtocolError: the total can't be a sum of such vectors.
    """
    parameters = (len(total) - NETWORKS) // NETWORKS
    if total.shape != (NETWORKS * (1 + parameters),) or parameters < 1 or not np.isfinite(total).all():
        raise ProtocolError("TRAINING_TOTAL", "the sum of the updates has a wrong shape")
    counts = total[:NETWORKS]
    if (counts < LEAST_ROWS).any():
        raise ProtocolError("TRAINING_TOTAL", "the sum of the updates counts too few rows")
    weights = (total[NETWORKS:].reshape(NETWORKS, parameters) / counts[:, None]).astype(np.float32)
    check_weights(weights, parameters)
    return weights
