"""A bank's local pass over its rows: a few small networks trained side by side.

Specification. Each round every bank starts from the same m networks, takes ``recipe.local_steps`` steps of
AdamW (Loshchilov and Hutter, 2019) on batches of its own rows (steps, not epochs: a small bank would
undertrain), and returns the weights and the rows they were trained on. The optimiser starts fresh each
round; the learning rate follows one cosine over all rounds. The banks' average, weighted by rows
(``update_vector``, ``weights_from``), starts the next round: McMahan and others, "Communication-efficient
learning of deep networks from decentralized data", 2017.

Invariants:

- Equal ``Seeds``, rows and recipe give equal weights to the last bit on one machine, in whatever thread or
  process: one thread of arithmetic, own generators seeded from derived keys, never the global ones.
- The generators drive initialisation, batch order and dropout only, none of which is secret; noise for a
  private release is made in ``privacy`` from a cryptographic stream.

Not protected: what a network tells of the rows that it was trained on; ``privacy`` bounds that.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bank_node.network import HALVES, Shape, flatten, initialise, shape_of
from bank_node.schedule import Beside, Schedule
from protocol.errors import ConfigurationError, DataError, ProtocolError
from protocol.job import Recipe
from protocol.labels import Label, derive

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FRACTION_BITS = 23
"""Fractional bits of a weighted update in the ring."""
WEIGHT_LIMIT = 64.0
"""Largest absolute weight; a pass that ends beyond it has diverged."""
MOST_ROWS = 1 << 24
UPDATE_LIMIT = MOST_ROWS * WEIGHT_LIMIT
"""Largest absolute value in ``update_vector`` at one bank: 2^30, so that it has 53 bits in the ring."""
LEAST_ROWS = 32
"""A half with fewer rows trains nothing."""


@dataclass(frozen=True)
class Seeds:
    """Keys of a training's generators, the job's and the attempt's already: no label below them repeats.

    Attributes:
        common: 32 bytes that all banks of the job share: initialisations.
        own: 32 bytes of this bank: batch order, dropout, noise.
    """

    common: bytes
    own: bytes

    def __post_init__(self) -> None:
        if len(self.common) != 32 or len(self.own) != 32:
            raise ConfigurationError("TRAINING_SEEDS", "A seed has 32 bytes.")

    def __repr__(self) -> str:
        return "Seeds(…)"


def half_of(ids: Sequence[str], salt: bytes) -> NDArray[np.int8]:
    """Return 0 or 1 for each enterprise, the same at every bank; shape [n].

    Args:
        ids: canonical identifiers.
        salt: what the banks of the job share, at least 16 bytes.
    """
    return (keyed_digests(ids, salt, b"half") & np.uint64(1)).astype(np.int8)


def is_holdout(ids: Sequence[str], salt: bytes, fraction: float) -> NDArray[np.bool_]:
    """Return whether each enterprise is kept from training, the same at every bank; shape [n].

    Args:
        ids: canonical identifiers.
        salt: what the banks of the job share, at least 16 bytes.
        fraction: share of enterprises to keep, in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ConfigurationError("TRAINING_HOLDOUT", "The hold-out's share must lie in [0, 1).")
    chosen: NDArray[np.bool_] = keyed_digests(ids, salt, b"holdout") < np.uint64(int(fraction * 2.0**64))
    return chosen


def keyed_digests(ids: Sequence[str], salt: bytes, purpose: bytes) -> NDArray[np.uint64]:
    """Return 64 bits for each enterprise, the same at every bank for the salt and purpose; shape [n]."""
    if len(salt) < 16:
        raise ConfigurationError("TRAINING_SALT", "The salt has fewer than 16 bytes.")
    key = hmac.digest(salt, b"concordat/v1 split " + purpose, "sha256")
    return np.array(
        [int.from_bytes(hmac.digest(key, name.encode(), "sha256")[:8], "big") for name in ids],
        dtype=np.uint64,
    )


def training_key(seed: bytes, use: str, round_: int = 0, vector: str = "") -> bytes:
    """Return a key below one of the seeds."""
    return derive(seed, Label(label=f"bank/{use}", job="below the seed", round=round_, vector=vector))


def generator_for(seed: bytes, use: str, round_: int = 0, vector: str = "") -> torch.Generator:
    """Return a torch generator seeded from a derived key; for what is not secret."""
    key = training_key(seed, use, round_, vector)
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


def initial_weights(shape: Shape, common: bytes, prior_log_odds: float) -> Float32:
    """Return the networks that every bank starts from; shape [m, p]."""
    model = shape.model()
    starts = []
    for i in range(shape.networks):
        # One start per initialisation, shared by both halves: their scores then differ by rows alone.
        start = generator_for(common, "initialisation", vector=str(i % shape.initialisations))
        initialise(model, start, prior_log_odds)
        starts.append(flatten(model))
    return np.stack(starts)


def check_rows(x: Float32, y: NDArray[np.int8], halves: NDArray[np.int8]) -> None:
    """Refuse what can't be trained on.

    Raises:
        DataError: shapes differ, labels are not 0 or 1, or a half has too few rows or one outcome only.
    """
    if x.ndim != 2 or y.shape != (len(x),) or halves.shape != (len(x),) or len(x) > MOST_ROWS:
        raise DataError("TRAINING_SHAPE", "Columns, labels and halves differ in length.")
    if not np.isin(y, (0, 1)).all() or not np.isin(halves, (0, 1)).all():
        raise DataError(
            "TRAINING_LABEL", "A label or a half is neither 0 nor 1.", "Correct the label column."
        )
    if not np.isfinite(x).all():
        raise DataError("TRAINING_NOT_FINITE", "An encoded column is not finite.")
    for half in range(HALVES):
        labels = y[halves == half]
        if len(labels) < LEAST_ROWS:
            raise DataError(
                "TRAINING_TOO_FEW_ROWS",
                f"A half of the rows has {len(labels)}, fewer than {LEAST_ROWS}.",
                "Bring more enterprises into the job.",
            )
        if labels.min() == labels.max():
            raise DataError(
                "TRAINING_ONE_OUTCOME",
                "A half of the rows holds one outcome only.",
                "Bring more enterprises into the job.",
            )


class LocalTrainer:
    """Trains the networks on one bank's rows.

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
        self.schedule = Schedule.of(recipe)
        self.shape = shape_of(recipe, x.shape[1])
        self._beside: Beside | None = None
        self._seeds = seeds
        self._prior = prior_log_odds
        # Copies, in torch's own alignment: vector code may add up in another order at another one.
        self._x = torch.tensor(x, dtype=torch.float32) * self.shape.gain
        self._y = torch.tensor(y, dtype=torch.float32)
        self._members = [torch.tensor(np.flatnonzero(halves == half)) for half in range(HALVES)]

    def continued(self, schedule: Schedule, beside: Beside | None = None) -> LocalTrainer:
        """Return a trainer of a later stage on the same rows in memory, which draws the same batches and dropout.

        Args:
            schedule: of that stage.
            beside: further inputs of the rows, scaled as they are to be used; their weights stand last.
        """
        later = copy(self)
        later.schedule, later._beside = schedule, beside
        later.shape = self.shape.beside(beside.width if beside else 0)
        return later

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that each network trains on; shape [m]."""
        counts = [len(self._members[self.shape.half(i)]) for i in range(self.shape.networks)]
        return np.array(counts, dtype=np.int64)

    def initial(self) -> Float32:
        """Return the networks that every bank starts from; shape [m, p]."""
        return initial_weights(self.shape, self._seeds.common, self._prior)

    def local_pass(self, weights: Float32, round_: int) -> Float32:
        """Train all networks for the steps of a round.

        Args:
            weights: where to start, shape [m, p].
            round_: the round, counted from 1 at the job's first.

        Returns:
            The trained weights, shape [m, p].

        Raises:
            ProtocolError: weights of another shape, not finite, or beyond ``WEIGHT_LIMIT`` after training.
        """
        schedule, of_stage = self.schedule, round_ - self.schedule.before
        check_weights(weights, self.shape.networks, self.shape.parameters)
        check_round(of_stage, schedule.rounds)
        torch.set_num_threads(1)
        leaves = self._unstack(weights)
        groups: list[dict[str, Any]] = [
            {"params": [value for name, value in leaves.items() if name.endswith("weight")]},
            {
                "params": [value for name, value in leaves.items() if name.endswith("bias")],
                "weight_decay": 0.0,
            },
        ]
        optimiser = torch.optim.AdamW(
            groups,
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
            foreach=True,
        )
        batches = self._batches(round_)
        dropout = generator_for(self._seeds.own, "dropout", round_)
        # A generator of its own, so that dropout is the same with and without further inputs.
        absence = generator_for(self._seeds.own, "absence", round_)
        steps = schedule.local_steps
        for step in range(steps):
            done = ((of_stage - 1) * steps + step) / (schedule.rounds * steps)
            for group in optimiser.param_groups:
                group["lr"] = schedule.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
            chosen = batches[step]
            x = self._x.index_select(0, chosen.reshape(-1)).reshape(*chosen.shape, self.shape.width)
            beside = self._beside.batch(chosen, absence) if self._beside else None
            logits = self._forward(leaves, x, dropout, beside)
            # A sum over networks of means over rows: each network's gradient is its own.
            loss = functional.binary_cross_entropy_with_logits(logits, self._y[chosen], reduction="sum")
            optimiser.zero_grad(set_to_none=True)
            (loss / chosen.shape[1]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            rows = [value.reshape(self.shape.networks, -1) for value in leaves.values()]
            trained: Float32 = torch.cat(rows, 1).numpy()
        check_weights(trained, self.shape.networks, self.shape.parameters)
        return trained

    def _unstack(self, weights: Float32) -> dict[str, Tensor]:
        """Return one leaf per parameter, shape [m, *shape], in the vector's order."""
        leaves, at = {}, 0
        for name, value in self.shape.model().named_parameters():
            piece = torch.tensor(weights[:, at : at + value.numel()], dtype=torch.float32)
            leaves[name] = piece.reshape(self.shape.networks, *value.shape).requires_grad_()
            at += value.numel()
        return leaves

    def _batches(self, round_: int) -> Tensor:
        """Return row numbers, shape [steps, m, batch]: pieces of fresh permutations per network."""
        # All batches have the shape of the larger half's; the smaller half is passed over more often.
        size = max(self._batch(len(members)) for members in self._members)
        needed = self.schedule.local_steps * size
        chosen = []
        for i in range(self.shape.networks):
            members = self._members[self.shape.half(i)]
            order = generator_for(self._seeds.own, "order", round_, str(i))
            passes = -(-needed // len(members))
            flat = torch.cat([members[torch.randperm(len(members), generator=order)] for _ in range(passes)])
            chosen.append(flat[:needed].reshape(self.schedule.local_steps, size))
        return torch.stack(chosen, 1)

    def _batch(self, rows: int) -> int:
        return min(rows, max(self.recipe.min_batch, rows // self.recipe.batch_divisor))

    def _forward(
        self, leaves: dict[str, Tensor], x: Tensor, dropout: torch.Generator, beside: Tensor | None = None
    ) -> Tensor:
        """Return log-odds [m, batch] of scaled rows x [m, batch, width], with each network's own dropout."""
        keep = 1.0 - self.schedule.dropout
        hidden = x
        for layer in range(len(self.recipe.hidden)):
            hidden = _affine(hidden, leaves[f"layers.{layer}.weight"], leaves[f"layers.{layer}.bias"])
            if layer == 0 and beside is not None:
                hidden = hidden + torch.bmm(beside, leaves["side.weight"].transpose(1, 2))
            hidden = torch.relu(hidden)
            if keep < 1.0:
                hidden = hidden * torch.empty_like(hidden).bernoulli_(keep, generator=dropout).div_(keep)
        output = _affine(hidden, leaves["output.weight"], leaves["output.bias"])
        total = output + torch.bmm(x, leaves["skip.weight"].transpose(1, 2))
        if beside is not None:
            total = total + torch.bmm(beside, leaves["side_skip.weight"].transpose(1, 2))
        return total.squeeze(2)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def check_round(round_: int, rounds: int) -> None:
    """Refuse a round that the recipe doesn't have.

    Raises:
        ProtocolError: as said.
    """
    if not 1 <= round_ <= rounds:
        raise ProtocolError("TRAINING_ROUND", f"Round {round_} is not one of the recipe's {rounds}.")


def check_weights(weights: Float32, networks: int, parameters: int) -> None:
    """Refuse weights of another shape, not finite, or beyond ``WEIGHT_LIMIT``.

    Raises:
        ProtocolError: as said.
    """
    if weights.shape != (networks, parameters):
        raise ProtocolError("NETWORK_SHAPE", "The weights have another shape than the recipe's networks.")
    if not np.isfinite(weights).all():
        raise ProtocolError("NETWORK_NOT_FINITE", "The weights hold what is not a finite number.")
    if np.abs(weights).max() > WEIGHT_LIMIT:
        raise ProtocolError(
            "NETWORK_DIVERGED", f"A weight is beyond {WEIGHT_LIMIT:g}.", "Lower the recipe's learning rate."
        )


def update_vector(weights: Float32, rows: NDArray[np.int64]) -> Float64:
    """Return what one bank adds to a round's masked sum: rows, then rows times weights; shape [m + m * p].

    Args:
        weights: the trained networks, shape [m, p].
        rows: the rows that each was trained on, shape [m].

    Raises:
        ProtocolError: see ``check_weights``; or rows out of range.
    """
    check_weights(weights, len(rows), weights.shape[-1])
    if (rows < 0).any() or (rows > MOST_ROWS).any():
        raise ProtocolError("TRAINING_ROWS", "The row counts are out of range.")
    counts = rows.astype(np.float64)
    return np.concatenate([counts, (counts[:, None] * weights.astype(np.float64)).reshape(-1)])


def weights_from(total: Float64, networks: int) -> Float32:
    """Return the row-weighted average of all banks' weights from the sum of their vectors; shape [m, p].

    Raises:
        ProtocolError: the total can't be a sum of such vectors.
    """
    parameters = len(total) // networks - 1
    if total.shape != (networks * (1 + parameters),) or parameters < 1 or not np.isfinite(total).all():
        raise ProtocolError("TRAINING_TOTAL", "The sum of the updates has a wrong shape.")
    counts = total[:networks]
    if (counts < LEAST_ROWS).any():
        raise ProtocolError("TRAINING_TOTAL", "The sum of the updates counts too few rows.")
    weights = (total[networks:].reshape(networks, parameters) / counts[:, None]).astype(np.float32)
    check_weights(weights, networks, parameters)
    return weights
