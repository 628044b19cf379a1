"""A local pass under differential privacy: DP-SGD with noise from a cryptographic stream.

Specification (Abadi and others, "Deep learning with differential privacy", CCS 2016). In *every* local step
each bank, for itself, draws a Poisson batch of a half's rows, clips each row's gradient to an L2 norm of
``recipe.clip``, adds up, adds a Gaussian of ``noise multiplier * sensitivity``, divides by the expected
batch and takes a step of SGD with momentum, whose rate follows one cosine over all rounds. Per-sample
gradients, clipping and accounting are Opacus'; batches and noise are not: its ``secure_mode`` needs
torchcsprng, which exists for no current torch, and its other mode draws from torch's Mersenne Twister, whose
state can be recovered. Both come from AES-CTR here (``protocol.labels``).

Invariants:

- Sums of clipped gradients are rounded to multiples of a public grid *before* the noise, and the noise to the
  same grid. Since rint(k + g) = k + rint(g) for whole k, what leaves the step is a function of a Gaussian
  mechanism's output, and its low-order bits, which betray a floating-point sum (Mironov, CCS 2012), do not
  exist. The sensitivity is clip + grid * sqrt(p), and the noise is scaled to that.
- A round is trained once: the same round from other weights would add the same noise to another sum, and the
  difference would be open. A repeat from the same weights gives the same bytes and costs nothing.
- ``Seeds.own`` must be secret and fresh per job and attempt: whoever knows it subtracts the noise.

What epsilon covers: one enterprise's row in the released weights of all rounds, both halves' networks and
all initialisations, at every bank that may hold the enterprise (``memberships``), to everybody who sees
every round, the other banks included. Adjacency: one row's gradients zeroed; the number of rows is public.
A half's networks see no row of the other half, so that halves compose in parallel. Over unlike banks the
composition takes each bank's own mechanism ``memberships`` times, which is exact in the Gaussian limit.

Not covered: knots, means, base rate and row counts (exact totals over all banks, ``encoding``); a further
stage trained on the same rows, whose epsilon adds up. Hold-out figures have noise of their own
(``noise_histogram``), on rows that train nothing. No constant-time arithmetic.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import opendp.prelude as dp
import torch
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch.nn import functional

from bank_node.network import HALVES, flatten, load, shape_of
from bank_node.training import (
    Float32,
    Float64,
    Seeds,
    check_round,
    check_rows,
    check_weights,
    initial_weights,
    training_key,
)
from protocol import metrics
from protocol.errors import ConfigurationError, ProtocolError
from protocol.job import DpRecipe, Release
from protocol.labels import words

GRID = 2.0**-30
"""Grid of a noisy sum, as a share of the clip."""
_PIECE_ROWS = 128


def uniform_choice(key: bytes, rows: int, rate: float) -> NDArray[np.intp]:
    """Return the rows of a Poisson batch: each is in it with probability ``rate``, independently.

    Args:
        key: a derived key, used for this batch only.
        rows: number of rows.
        rate: in (0, 1); held to a multiple of 2^-64.
    """
    return np.flatnonzero(words(key, rows) < np.uint64(int(rate * 2.0**64)))


def gaussians(key: bytes, n: int) -> Float64:
    """Return n independent standard Gaussians (Box and Muller, 1958) of a key's stream; shape [n].

    The radius takes all 64 bits of its word, so that the tail reaches 9.4; beyond lies a mass of 1e-20.

    Args:
        key: a derived key, used for these draws only.
        n: how many.
    """
    half = -(-n // 2)
    stream = words(key, 2 * half)
    radius = np.sqrt(-2.0 * np.log((stream[:half].astype(np.float64) + 1.0) * 2.0**-64))
    angle = (2.0 * np.pi * 2.0**-53) * (stream[half:] >> np.uint64(11)).astype(np.float64)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]


def add_noise(sums: Float64, deviation: float, grid: float, key: bytes) -> Float64:
    """Return sums rounded to a grid, plus a Gaussian rounded to the same grid; shape as ``sums``.

    Args:
        sums: what to hide, shape [p].
        deviation: standard deviation of the Gaussian.
        grid: distance of neighbouring results.
        key: a derived key, used for this vector only.

    Raises:
        ProtocolError: the sums are not finite, or the parameters leave no noise.
    """
    if not (np.isfinite(sums).all() and np.isfinite(deviation) and deviation > 64 * grid > 0):
        raise ProtocolError("DP_PARAMETERS", "A sum can't be hidden under such noise.")
    # Whole numbers below 2^53 are exact in float64, so that this addition is one of integers.
    return (np.rint(sums / grid) + np.rint(gaussians(key, len(sums)) * (deviation / grid))) * grid


@dataclass(frozen=True)
class Plan:
    """What the networks go through at this bank.

    Attributes:
        rate: probability of a row to be in a batch.
        steps: local steps a round.
        multiplier: standard deviation of the noise over the sensitivity.
    """

    rate: float
    steps: int
    multiplier: float


@lru_cache(maxsize=64)
def plan_for(rows: int, recipe: DpRecipe, compositions: int, epsilon: float, delta: float) -> Plan:
    """Return the least noise that keeps all rounds within (epsilon, delta).

    Args:
        rows: rows of the smaller half at this bank.
        recipe: the job's private recipe.
        compositions: how many networks, over all banks, may train on one enterprise.
        epsilon: the total to keep.
        delta: the total to keep; less than one in the number of rows.

    Raises:
        ConfigurationError: no noise keeps the budget, or it is no budget.
    """
    if not (0 < epsilon <= 100 and 0 < delta < 1 / rows):
        raise ConfigurationError(
            "DP_BUDGET",
            f"Epsilon must lie in (0, 100], delta in (0, 1/{rows}).",
            "A delta of one in the rows or more would allow to publish one of them.",
        )
    # At most half the rows a batch: at a rate of one nothing of the sampling is left to account for.
    rate = min(recipe.batch / rows, 0.5)
    steps = max(1, round(recipe.local_epochs / rate))
    return Plan(rate, steps, _least_noise(rate, steps * recipe.rounds * compositions, epsilon, delta))


def _least_noise(rate: float, steps: int, epsilon: float, delta: float) -> float:
    """Return the least noise multiplier, within a percent, whose accounted epsilon keeps the budget."""
    with warnings.catch_warnings():
        # Both accountants warn where their grid of Renyi orders ends; the bound stays one, a looser one.
        warnings.simplefilter("ignore")
        try:
            high = float(
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant="rdp",
                    epsilon_tolerance=epsilon / 100,
                )
            )
            if accounted_epsilon(high, rate, steps, delta) > epsilon:
                raise ValueError("the accountants disagree")
        except (ValueError, RuntimeError) as error:
            raise ConfigurationError(
                "DP_BUDGET", "No noise keeps so small a budget.", "Ask for a larger epsilon or fewer rounds."
            ) from error
        # Renyi accounting holds but wastes a tenth; the finer accountant is asked only near the answer.
        low = 0.75 * high
        while high - low > 0.01 * high:
            middle = (low + high) / 2
            if accounted_epsilon(middle, rate, steps, delta) <= epsilon:
                high = middle
            else:
                low = middle
    return high


def accounted_epsilon(multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Return epsilon of Poisson-sampled Gaussian steps by Opacus' accountant (PRV: Gopi and others, 2021)."""
    accountant = PRVAccountant()
    accountant.history = [(multiplier, rate, steps)]
    with warnings.catch_warnings():
        # It sizes its own grid by Renyi orders and warns where they end; the bound stays one.
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def _budget(release: Release, memberships: int) -> tuple[float, float]:
    """Return epsilon and delta of a private release."""
    if release.epsilon is None or release.delta is None:
        raise ConfigurationError("DP_BUDGET", "This release states no epsilon and delta.")
    if memberships < 1:
        raise ConfigurationError("DP_MEMBERSHIPS", "An enterprise stands at one bank at least.")
    return release.epsilon, release.delta


def noise_histogram(
    vector: NDArray[np.uint64], release: Release, banks: int, fraction_bits: int = metrics.FRACTION_BITS
) -> NDArray[np.uint64]:
    """Return a hold-out histogram's ring elements with this bank's discrete Gaussian on each.

    One row changes a count by one, a PD sum and the squared error by at most one: an L2 sensitivity of sqrt(3).
    Each bank's noise suffices against all others together. With an enterprise held out at every bank, rho =
    3 * banks / (2 sigma^2) (Canonne, Kamath and Steinke, 2020, theorem 4) and epsilon = rho + 2 sqrt(rho
    ln(1 / delta)). Held-out rows train nothing, so that this composes in parallel with the training.

    Args:
        vector: ``protocol.metrics.to_vector`` of this bank's histogram, shape (3n + 1,).
        release: epsilon and delta.
        banks: banks of the job, each of which may hold the enterprise.
        fraction_bits: fractional bits of the sums in the vector.

    Raises:
        ConfigurationError: the release states no budget.
    """
    epsilon, delta = _budget(release, banks)
    logarithm = -math.log(delta)
    rho = (math.sqrt(logarithm + epsilon) - math.sqrt(logarithm)) ** 2
    sigma = math.sqrt(3.0 * banks / (2.0 * rho))
    counts = 2 * (len(vector) // 3)
    noise = np.concatenate(
        [
            _discrete_gaussians(sigma, counts),
            _discrete_gaussians(sigma * 2.0**fraction_bits, len(vector) - counts),
        ]
    )
    return vector + noise.view(np.uint64)


def _discrete_gaussians(sigma: float, n: int) -> NDArray[np.int64]:
    """Return n draws of OpenDP's discrete Gaussian, which takes the operating system's randomness."""
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    return np.array(dp.m.make_gaussian(*space, scale=sigma)([0] * n), dtype=np.int64)


class _StreamOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer with the noise of ``add_noise`` instead of torch's."""

    key: bytes

    def add_noise(self) -> None:
        grid = GRID * self.max_grad_norm
        sums = torch.cat([value.summed_grad.reshape(-1) for value in self.params]).numpy()
        sensitivity = self.max_grad_norm + grid * math.sqrt(len(sums))
        noisy = torch.from_numpy(add_noise(sums, self.noise_multiplier * sensitivity, grid, self.key))
        at = 0
        for value in self.params:
            value.grad = noisy[at : at + value.numel()].reshape(value.shape).clone()
            at += value.numel()


class DpTrainer:
    """Trains the networks on one bank's rows under differential privacy; else as ``training.LocalTrainer``.

    Args:
        recipe: the job's private recipe.
        x: encoded columns, shape [n, width].
        y: outcomes, 1 = default, shape [n].
        halves: ``training.half_of`` the rows, shape [n].
        seeds: keys of the generators; ``own`` is secret and fresh.
        prior_log_odds: log-odds of the consortium's base rate.
        release: epsilon and delta, totals of the whole training per enterprise.
        memberships: banks of the job that may hold one enterprise.

    Raises:
        DataError: see ``training.check_rows``.
        ConfigurationError: the budget or ``memberships`` can't be.
    """

    def __init__(
        self,
        recipe: DpRecipe,
        x: Float32,
        y: NDArray[np.int8],
        halves: NDArray[np.int8],
        seeds: Seeds,
        prior_log_odds: float,
        release: Release,
        *,
        memberships: int,
    ) -> None:
        check_rows(x, y, halves)
        epsilon, self._delta = _budget(release, memberships)
        self._memberships = memberships
        self.recipe = recipe
        self.shape = shape_of(recipe, x.shape[1])
        self._seeds = seeds
        self._prior = prior_log_odds
        # In float64, so that rounding in a sum of clipped gradients stays far below the grid.
        self._x = torch.tensor(x, dtype=torch.float64)
        self._y = torch.tensor(y, dtype=torch.float64)
        self._members = [torch.tensor(np.flatnonzero(halves == half)) for half in range(HALVES)]
        self._compositions = self.shape.initialisations * memberships
        # One plan for both halves, of the smaller one, where a row is in a batch the more often.
        fewest = min(len(members) for members in self._members)
        self.plan = plan_for(fewest, recipe, self._compositions, epsilon, self._delta)
        self._trained: dict[int, tuple[bytes, Float32]] = {}

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that each network trains on; shape [m]. Public under this accounting."""
        counts = [len(self._members[self.shape.half(i)]) for i in range(self.shape.networks)]
        return np.array(counts, dtype=np.int64)

    def initial(self) -> Float32:
        """Return the networks that every bank starts from; shape [m, p]."""
        return initial_weights(self.shape, self._seeds.common, self._prior)

    def epsilon(self, delta: float) -> float:
        """Return what the rounds so far have spent, by Opacus' accountant (PRV: Gopi and others, 2021).

        Args:
            delta: the delta to state it at.
        """
        # Rounds follow one another, so that the last one counts those before it, trained by this object or not.
        return self._spent(max(self._trained, default=0), delta)

    def planned_epsilon(self, delta: float) -> float:
        """Return what all rounds of the recipe will have spent."""
        return self._spent(self.recipe.rounds, delta)

    def report(self) -> dict[str, Any]:
        """Return what a model's card states of its privacy."""
        return {
            "accountant": "PRV, Opacus",
            "unit": "one enterprise's row at each bank that holds it; gradients zeroed, row counts public",
            "memberships": self._memberships,
            "epsilon": self.epsilon(self._delta),
            "planned_epsilon": self.planned_epsilon(self._delta),
            "noise_multiplier": self.plan.multiplier,
            "sampling_rate": self.plan.rate,
            "steps": self.plan.steps * self.recipe.rounds * self.shape.initialisations,
            "not_covered": "knots, means, base rate and row counts, exact over all banks",
        }

    def _spent(self, rounds: int, delta: float) -> float:
        if rounds == 0:
            return 0.0
        steps = self.plan.steps * rounds * self._compositions
        return accounted_epsilon(self.plan.multiplier, self.plan.rate, steps, delta)

    def local_pass(self, weights: Float32, round_: int) -> Float32:
        """Train all networks for the recipe's local epochs.

        Args:
            weights: where to start, shape [m, p].
            round_: the round, counted from 1.

        Returns:
            The trained weights, shape [m, p]; noised, so that they may be released.

        Raises:
            ProtocolError: weights of another shape, not finite, or beyond the limit after training; or the
            round
                was trained from other weights before.
        """
        check_weights(weights, self.shape.networks, self.shape.parameters)
        check_round(round_, self.recipe.rounds)
        start = hashlib.sha256(np.ascontiguousarray(weights, dtype="<f4").tobytes()).digest()
        if round_ in self._trained:
            known, trained = self._trained[round_]
            if known != start:
                raise ProtocolError(
                    "DP_ROUND_REPEATED",
                    f"Round {round_} was trained from other weights; its noise hides one vector only.",
                    "Start a new attempt, with fresh keys.",
                )
            return trained.copy()
        torch.set_num_threads(1)
        trained = np.stack([self._train(weights[i], i, round_) for i in range(self.shape.networks)])
        self._trained[round_] = (start, trained)
        check_weights(trained, self.shape.networks, self.shape.parameters)
        return trained.copy()

    def _train(self, start: Float32, network: int, round_: int) -> Float32:
        plan, members = self.plan, self._members[self.shape.half(network)]
        model = self.shape.model().double()
        load(model, start)
        wrapped = GradSampleModule(model, loss_reduction="sum")
        descent = torch.optim.SGD(
            model.parameters(), lr=self.recipe.learning_rate, momentum=self.recipe.momentum
        )
        optimiser = _StreamOptimizer(
            descent,
            noise_multiplier=plan.multiplier,
            max_grad_norm=self.recipe.clip,
            expected_batch_size=max(1, round(plan.rate * len(members))),
        )
        for step in range(plan.steps):
            done = ((round_ - 1) * plan.steps + step) / (self.recipe.rounds * plan.steps)
            descent.param_groups[0]["lr"] = self.recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
            place = f"{network}/{step}"
            draw = training_key(self._seeds.own, "dp-batch", round_, place)
            chosen = members[torch.from_numpy(uniform_choice(draw, len(members), plan.rate))]
            optimiser.key = training_key(self._seeds.own, "dp-noise", round_, place)
            # Per-sample gradients stand in memory for a piece of the batch at a time; the last piece ends the step.
            pieces = torch.split(chosen, _PIECE_ROWS)
            for piece in pieces:
                optimiser.zero_grad(set_to_none=True)
                # Inputs ask for a gradient so that torch's hooks, on which Opacus stands, fire without a warning.
                logits = wrapped(self._x[piece].requires_grad_())
                loss = functional.binary_cross_entropy_with_logits(logits, self._y[piece], reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.signal_skip_step(piece is not pieces[-1])
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return flatten(model).astype(np.float32)
