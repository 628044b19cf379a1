"""A partner's sub-score: from its own columns to sign bits, from the released v to 16 bins.

Specification: training protocol, step B7. Over the partner's own *whole* table: hat functions on 8 quantile knots
and a missing flag for a number, one-hot of the 12 most frequent levels and a missing flag for a category; columns
with a standard deviation of at most .01 are dropped, each other one divided by (sd + .005)^½; principal components
of their covariance with eigenvalues above 1e-6 of the first, at most k, each divided by its standard deviation: z.
Bits = (z ≥ 0), which enter the product. With the released v, the job's row bound n, noise σ and base rate b₀ ::

    u = v / n        s² = 2σ²/n² + b₀(1 − b₀)/n        w = M⁻¹·(τ/(τ + s²))·u        M = E[sign(z)·zᵀ] + .01·I

where τ_j = α·j^(−β) is a prior of Σ a·sign(z_j)/n whose α, β maximise the marginal likelihood of u ~ N(0, τ + s²)
over a grid (empirical Bayes; Efron, Morris, JASA 1973). The score is z·w on real z, cut into 16 bins at its own
quantiles over the table. Gate: under no association u has covariance S = 2σ²/n²·I + b₀(1 − b₀)/n·E[sign(z)·sign(z)ᵀ],
so uᵀS⁻¹u is χ² with k degrees of freedom; a partner whose v isn't significant at p = .001 publishes nothing. (The
sum Σu²/s², which the protocol names, equals it only where the bits are uncorrelated. Components of a table with
few distinct rows have nearly equal bits, and partners without information would pass that sum too often.)

Invariants:
    - The basis is a function of the partner's table alone; labels enter through v only, which is private, and
      all that follows is post-processing.
    - Tables are encoded in blocks of rows; memory is a block, and one number a row for the quantiles.
    - A row with values that the basis hasn't seen is encoded within its range; a non-finite number is refused.

What each party learns: nothing here; basis, weights and score stay with the partner, of which banks see bins of
consenting enterprises. Not protected: bins are exact functions of the row (step B8 limits them); the gate
assumes b₀ near the base rate, which v can't tell from an association with a partner's lopsided bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DataError, ProtocolError

Columns = Mapping[str, NDArray[Any]]
"""Numbers as float64 with nan where missing, levels as strings with "" where missing; all of one length."""

KNOTS = 8
LEVELS = 12
BINS = 16
COMPONENTS = 20
SIGNIFICANCE = 1e-3

_LEAST_SD = 0.01
_SD_OFFSET = 0.005
_LEAST_EIGENVALUE = 1e-6
_RIDGE = 0.01
_ROWS = 1 << 16
"""Rows of a block."""

_STEPS = 71
"""Steps of the grid of α, from a thousandth of s² to ten times the largest u², beside zero."""
_BETAS = np.linspace(0.0, 3.0, 25)


_ARRAYS: dict[str, type] = {
    "mean": np.float64,
    "kept": np.intp,
    "rotation": np.float64,
    "mixing": np.float64,
    "agreement": np.float64,
}


@dataclass(frozen=True)
class Source:
    """How one column of the table becomes columns of numbers.

    Attributes:
        name: the column.
        knots: ascending, at least two, or none where a number is constant or the column holds levels.
        levels: the levels with a column of their own.
        is_number: False for levels.
    """

    name: str
    knots: tuple[float, ...]
    levels: tuple[str, ...]
    is_number: bool

    @classmethod
    def fit(cls, name: str, values: NDArray[Any]) -> Source:
        """Place knots at quantiles, or find the frequent levels.

        Raises:
            DataError: ``SUBSCORE_COLUMN`` for another type or an infinite number, naming the column.
        """
        _check_column(name, values)
        if values.dtype.kind == "f":
            present = values[~np.isnan(values)]
            if len(present) == 0:
                return cls(name, (), (), True)
            knots = np.unique(np.quantile(present, np.linspace(0.0, 1.0, KNOTS)))
            return cls(name, tuple(knots.tolist()) if len(knots) > 1 else (), (), True)
        levels, counts = np.unique(values[values != ""], return_counts=True)
        frequent = np.lexsort((levels, -counts))[:LEVELS]
        return cls(name, (), tuple(levels[frequent].tolist()), False)

    @property
    def width(self) -> int:
        """Columns of numbers, the missing flag included."""
        return len(self.knots) + len(self.levels) + 1

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return hats or one-hot, then the missing flag, shape (n, width).

        Raises:
            DataError: ``SUBSCORE_COLUMN``.
        """
        _check_column(self.name, values)
        if (values.dtype.kind == "f") != self.is_number:
            raise DataError("SUBSCORE_COLUMN", f"Column {self.name} has another type than before.")
        out = np.zeros((len(values), self.width))
        missing = np.isnan(values) if self.is_number else values == ""
        out[:, -1] = missing
        if self.knots:
            rows, knots = np.flatnonzero(~missing), np.array(self.knots)
            inside = np.clip(values[rows], knots[0], knots[-1])
            left = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
            share = (inside - knots[left]) / (knots[left + 1] - knots[left])
            out[rows, left] = 1.0 - share
            out[rows, left + 1] = share
        for place, level in enumerate(self.levels):
            out[:, place] = values == level
        return out


def _check_column(name: str, values: NDArray[Any]) -> None:
    if values.ndim != 1 or not (values.dtype == np.float64 or values.dtype.kind == "U"):
        raise DataError("SUBSCORE_COLUMN", f"Column {name} holds neither numbers nor text.")
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise DataError("SUBSCORE_COLUMN", f"Column {name} holds an infinite number.")


def _length(columns: Columns) -> int:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise DataError("SUBSCORE_ROWS", "A table needs columns, all of one length.")
    return lengths.pop()


@dataclass(frozen=True)
class Basis:
    """Whitened components of a partner's table.

    Attributes:
        sources: its columns.
        mean: of the encoded columns that are kept, shape (p,).
        kept: which encoded columns those are, shape (p,).
        rotation: from centred columns to z, shape (p, k).
        mixing: M = E[sign(z)·zᵀ] + .01·I, shape (k, k).
        agreement: E[sign(z)·sign(z)ᵀ], shape (k, k).
    """

    sources: tuple[Source, ...]
    mean: NDArray[np.float64]
    kept: NDArray[np.intp]
    rotation: NDArray[np.float64]
    mixing: NDArray[np.float64]
    agreement: NDArray[np.float64]

    @classmethod
    def fit(cls, columns: Columns, components: int = COMPONENTS) -> Basis:
        """Find the components of a whole table.

        Args:
            columns: the partner's own columns.
            components: k, at most; 20, or 30 where ε ≥ 4.

        Raises:
            DataError: ``SUBSCORE_ROWS``, ``SUBSCORE_COLUMN``, or ``SUBSCORE_EMPTY`` if no column varies.
        """
        if components < 1 or _length(columns) < 2:
            raise DataError("SUBSCORE_ROWS", "A sub-score needs a component and at least two rows.")
        sources = tuple(Source.fit(name, values) for name, values in columns.items())
        width, n = sum(source.width for source in sources), _length(columns)
        first, second = np.zeros(width), np.zeros((width, width))
        for block in _encoded(sources, columns):
            first += block.sum(axis=0)
            second += block.T @ block
        mean = first / n
        covariance = second / n - np.outer(mean, mean)
        sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        kept = np.flatnonzero(sd > _LEAST_SD)
        if len(kept) == 0:
            raise DataError("SUBSCORE_EMPTY", "No column of the table varies.")
        scale = np.sqrt(sd[kept] + _SD_OFFSET)
        values, vectors = np.linalg.eigh(covariance[np.ix_(kept, kept)] / np.outer(scale, scale))
        order = np.argsort(values)[::-1][:components]
        order = order[values[order] > _LEAST_EIGENVALUE * values[order[0]]]
        chosen = vectors[:, order]
        # An eigenvector's sign is arbitrary: its largest entry is positive, so that machines agree.
        chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(len(order))])
        rotation = chosen / scale[:, None] / np.sqrt(values[order])
        unit = np.eye(len(order))
        bare = cls(sources, mean[kept], kept, rotation, unit, unit)
        mixing, agreement = np.zeros_like(unit), np.zeros_like(unit)
        for z in bare.blocks(columns):
            signs = _signs(z)
            mixing += signs.T @ z
            agreement += signs.T @ signs
        return cls(sources, mean[kept], kept, rotation, mixing / n + _RIDGE * unit, agreement / n)

    @property
    def components(self) -> int:
        """k, as found."""
        return int(self.rotation.shape[1])

    def blocks(self, columns: Columns) -> Iterator[NDArray[np.float64]]:
        """Give z of a table in blocks of rows, shape (n, k) each.

        Raises:
            DataError: ``SUBSCORE_ROWS`` or ``SUBSCORE_COLUMN`` if the columns are not those of the basis.
        """
        for block in _encoded(self.sources, columns):
            yield (block[:, self.kept] - self.mean) @ self.rotation

    def to_dict(self) -> dict[str, Any]:
        """Return the basis as a JSON value, for the partner's own store."""
        sources = [[s.name, list(s.knots), list(s.levels), s.is_number] for s in self.sources]
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"sources": sources, **arrays}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Basis:
        """Restore a basis."""
        sources = tuple(Source(name, tuple(k), tuple(v), number) for name, k, v, number in state["sources"])
        arrays: dict[str, Any] = {name: np.array(state[name], dtype=kind) for name, kind in _ARRAYS.items()}
        return cls(sources, **arrays)


def _encoded(sources: tuple[Source, ...], columns: Columns) -> Iterator[NDArray[np.float64]]:
    if set(columns) != {source.name for source in sources}:
        raise DataError("SUBSCORE_COLUMN", "The columns are not those of the basis.")
    for at in range(0, _length(columns), _ROWS):
        yield np.hstack([source.encode(columns[source.name][at : at + _ROWS]) for source in sources])


def _signs(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(z >= 0.0, 1.0, -1.0)


def sign_bits(z: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the bits that enter the product: 1 where z ≥ 0, shape as given."""
    return (z >= 0.0).astype(np.uint8)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return P(χ²_k ≥ statistic), in closed form (Abramowitz, Stegun, 26.4.4 and 26.4.5)."""
    half = statistic / 2.0
    if half <= 0.0:
        return 1.0
    odd = degrees % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    for term in range(degrees // 2):
        power = term + 0.5 if odd else float(term)
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1.0))
    return min(total, 1.0)


@dataclass(frozen=True)
class Direction:
    """What a partner makes of a released v.

    Attributes:
        weights: w, shape (k,).
        statistic: uᵀS⁻¹u.
        p_value: of the statistic under no association.
        alpha: the prior's scale, in units of u².
        beta: the prior's decay over components.
    """

    weights: NDArray[np.float64]
    statistic: float
    p_value: float
    alpha: float
    beta: float

    @property
    def informative(self) -> bool:
        """Whether the partner publishes."""
        return self.p_value <= SIGNIFICANCE


def _distance(u: NDArray[np.float64], covariance: NDArray[np.float64]) -> tuple[float, int]:
    """Return uᵀS⁻¹u over the directions in which S is not zero, and their number."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-9 * values[-1]
    along = (u @ vectors)[kept]
    return float((along * along / values[kept]).sum()), int(kept.sum())


def direction(
    basis: Basis, released: NDArray[np.float64], *, rows: int, noise_sd: float, base_rate: float
) -> Direction:
    """Turn a released v into weights.

    Args:
        basis: the components that v is about.
        released: v plus noise, in units of v (the opening's result over 2^f), shape (k,).
        rows: n, the job's rounded bound on training rows over all banks.
        noise_sd: standard deviation of all noise in a component: √2·σ, or less where banks have dropped.
        base_rate: b₀.

    Raises:
        ProtocolError: ``SUBSCORE_RELEASE`` for another length or parameters out of range.
    """
    k = basis.components
    if released.shape != (k,) or not np.isfinite(released).all():
        raise ProtocolError("SUBSCORE_RELEASE", "The release is not one finite number a component.")
    if rows < 1 or not (math.isfinite(noise_sd) and noise_sd >= 0.0) or not 0.0 < base_rate < 1.0:
        raise ProtocolError("SUBSCORE_RELEASE", "Rows, noise or base rate are out of range.")
    u = released / rows
    noise, sampling = (noise_sd / rows) ** 2, base_rate * (1.0 - base_rate) / rows
    variance = noise + sampling
    statistic, degrees = _distance(u, noise * np.eye(k) + sampling * basis.agreement)
    order = np.arange(1, k + 1, dtype=np.float64)
    largest = 10.0 * (1.0 + float((u * u).max()) / variance)
    alphas = variance * np.concatenate([np.zeros(1), np.geomspace(1e-3, largest, _STEPS)])
    tau = alphas[:, None, None] * order ** -_BETAS[:, None]
    likelihood = -0.5 * (np.log(tau + variance) + u * u / (tau + variance)).sum(axis=2)
    a, b = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    shrunk = tau[a, b] / (tau[a, b] + variance) * u
    return Direction(
        weights=np.linalg.solve(basis.mixing, shrunk),
        statistic=statistic,
        p_value=chi_square_tail(statistic, degrees),
        alpha=float(alphas[a]),
        beta=float(_BETAS[b]),
    )


@dataclass(frozen=True)
class SubScore:
    """A partner's sub-score in 16 bins; it never leaves the partner, its bins do.

    Attributes:
        basis: the components.
        weights: w, shape (k,).
        edges: 15 ascending cuts.
    """

    basis: Basis
    weights: NDArray[np.float64]
    edges: NDArray[np.float64]

    @classmethod
    def fit(cls, basis: Basis, found: Direction, columns: Columns) -> SubScore:
        """Cut the scores of a whole table at their own quantiles.

        Raises:
            DataError: as `Basis.blocks`.
        """
        scores = np.concatenate([z @ found.weights for z in basis.blocks(columns)])
        return cls(basis, found.weights, np.quantile(scores, np.arange(1, BINS) / BINS))

    def score(self, columns: Columns) -> NDArray[np.float64]:
        """Return z·w, shape (n,)."""
        return np.concatenate([z @ self.weights for z in self.basis.blocks(columns)])

    def bins(self, columns: Columns) -> NDArray[np.uint8]:
        """Return bins 0 to 15, shape (n,)."""
        return np.searchsorted(self.edges, self.score(columns), side="right").astype(np.uint8)
