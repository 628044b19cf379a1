"""The encoding of a bank's columns, agreed by the banks through two masked sums.

Specification. Every number x is read as its signed logarithm s(x) = arsinh(x), which is linear near zero, so
that amounts of many magnitudes stand beside ratios. Two sums over all banks fix the encoding:

1. *Knots*: the average, weighted by rows, of the banks' own quantiles of s(x). The outermost are inner
   quantiles (``TAIL`` from either end), never a minimum or a maximum, which would be one enterprise's value.
2. *Centring*: sums of the encoded columns and counts of what is present.

A number becomes one ramp per interval between knots (piecewise-linear encoding: Gorishniy, Rubachev and
Babenko, "On embeddings for numerical features in tabular deep learning", 2022, section 3.2), its quantile
rank, and a flag where it is missing; a category becomes one flag per level that the data contract declares
and one for everything else. All are centred; a missing number stands at the mean of its ramps.

Invariants:

- Both statistics are plain vectors that add up over banks; their bounds are constants (``KNOT_BOUND``,
  ``CENTRING_BOUND``), so that they fit the fixed-point ring.
- Whoever adds them up in exact fixed point gets the same encoding to the last bit.
- Fewer than ``LEAST_PRESENT`` values of a number at one bank contribute nothing to its knots.

What a bank learns: the totals, that is: knots, means and counts over all banks. Not protected: the totals are
exact, not noised. Where only one bank holds a column at all, its quantiles are that bank's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protocol.errors import DataError, ProtocolError

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

FRACTION_BITS = 23
"""Fractional bits of both statistics in the ring."""
MOST_ROWS = 1 << 24
"""Rows of one bank that the bounds allow for."""
LARGEST_NUMBER = 1e18
"""Largest absolute value of a number, in its own unit."""
LARGEST_LOGARITHM = 43.0
"""An upper bound of arsinh(``LARGEST_NUMBER``) = 42.14."""
LEAST_PRESENT = 20
TAIL = 0.005
_BLOCK_ROWS = 1 << 16
_LEAST_GAP = 1e-6


@dataclass(frozen=True)
class Columns:
    """The inputs as the data contract names them.

    Attributes:
        numbers: names of numeric fields.
        categories: names of categorical fields, each with its declared levels.
    """

    numbers: tuple[str, ...]
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        names = [*self.numbers, *(name for name, _ in self.categories)]
        if not names or len(set(names)) != len(names):
            raise DataError(
                "ENCODING_COLUMNS", "The columns are none, or one is named twice.", "Check the data contract."
            )
        for name, levels in self.categories:
            if len(set(levels)) != len(levels):
                raise DataError(
                    "ENCODING_COLUMNS", f"A level of {name} is declared twice.", "Check the data contract."
                )


@dataclass(frozen=True)
class Bound:
    """What a statistic may hold, as ``protocol.ring.encode`` wants it.

    Attributes:
        fraction_bits: fractional bits.
        limit: largest absolute value of an element at one bank; limit * 2^fraction_bits <= 2^53.
    """

    fraction_bits: int
    limit: float


@dataclass(frozen=True)
class Knots:
    """Where the ramps of each number begin and end, the same at every bank.

    Attributes:
        columns: the inputs.
        positions: per number, its increasing knots in signed logarithms (fewer than two: a constant).
        ranks: per number, the quantile rank of each knot, in [0, 1].
    """

    columns: Columns
    positions: tuple[tuple[float, ...], ...]
    ranks: tuple[tuple[float, ...], ...]

    @property
    def width(self) -> int:
        """Number of encoded columns."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoded columns, in their order."""
        found: list[str] = []
        for name, positions in zip(self.columns.numbers, self.positions, strict=True):
            found += [f"{name} ramp {i + 1}" for i in range(len(positions) - 1)]
            found += [f"{name} rank"] * (len(positions) > 1) + [f"{name} missing"]
        for name, levels in self.columns.categories:
            found += [f"{name} = {level}" for level in levels] + [f"{name} other"]
        return tuple(found)


@dataclass(frozen=True)
class Encoding:
    """A finished encoding: knots and the means to subtract.

    Attributes:
        knots: where ramps begin and end.
        means: mean of each encoded column over all banks, where present; shape [width].
    """

    knots: Knots
    means: tuple[float, ...]
    _shift: Float32 = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.means) != self.knots.width:
            raise ProtocolError("ENCODING_WIDTH", "The means do not fit the knots.")
        object.__setattr__(self, "_shift", np.asarray(self.means, dtype=np.float32))

    @property
    def width(self) -> int:
        """Number of encoded columns."""
        return len(self.means)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoded columns, in their order."""
        return self.knots.names

    def transform(self, frame: pd.DataFrame) -> Float32:
        """Encode and centre rows.

        Args:
            frame: a table with the contract's columns, n rows.

        Returns:
            Shape [n, width].

        Raises:
            DataError: a column is missing or holds what is not a finite number.
        """
        encoded = np.empty((len(frame), self.width), dtype=np.float32)
        for start, block in _blocks(frame):
            values, absent = _encode(self.knots, block, start)
            values -= self._shift
            values[absent] = 0.0
            encoded[start : start + len(block)] = values
        return encoded

    def to_dict(self) -> dict[str, Any]:
        """Return the encoding as JSON values; floats survive a JSON round trip to the last bit."""
        return {
            "version": 1,
            "numbers": list(self.knots.columns.numbers),
            "categories": [[name, list(levels)] for name, levels in self.knots.columns.categories],
            "positions": [list(row) for row in self.knots.positions],
            "ranks": [list(row) for row in self.knots.ranks],
            "means": list(self.means),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Encoding:
        """Read what ``to_dict`` wrote.

        Raises:
            ProtocolError: the document is not such an encoding.
        """
        try:
            if document["version"] != 1:
                raise ValueError("version")
            columns = Columns(
                tuple(str(name) for name in document["numbers"]),
                tuple(
                    (str(name), tuple(str(level) for level in levels))
                    for name, levels in document["categories"]
                ),
            )
            knots = Knots(
                columns,
                tuple(tuple(float(value) for value in row) for row in document["positions"]),
                tuple(tuple(float(value) for value in row) for row in document["ranks"]),
            )
            _check(knots)
            means = tuple(float(value) for value in document["means"])
            if not np.isfinite(means).all():
                raise ValueError("means")
            return cls(knots, means)
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError("ENCODING_MALFORMED", "This is not an encoding of version 1.") from error


def _check(knots: Knots) -> None:
    if not len(knots.positions) == len(knots.ranks) == len(knots.columns.numbers):
        raise ValueError("numbers and knots differ in count")
    for positions, ranks in zip(knots.positions, knots.ranks, strict=True):
        both = np.asarray([positions, ranks], dtype=np.float64)
        if not np.isfinite(both).all() or (np.diff(both, axis=1) <= 0).any():
            raise ValueError("knots do not increase")


def quantile_levels(bins: int) -> Float64:
    """Return the levels of the knots: ``bins + 1`` of them, the outermost ``TAIL`` from the ends."""
    if not 2 <= bins <= 64:
        raise ProtocolError("ENCODING_BINS", "The number of bins must lie between 2 and 64.")
    levels = np.linspace(0.0, 1.0, bins + 1)
    levels[0], levels[-1] = TAIL, 1.0 - TAIL
    return levels


def knot_statistics(columns: Columns, frame: pd.DataFrame, bins: int) -> Float64:
    """Return what one bank adds to the first masked sum.

    Returns:
        Per number: rows that are present, then those rows times each of the ``bins + 1`` quantiles of their
        signed logarithms; shape [len(numbers) * (bins + 2)].

    Raises:
        DataError: a column is missing or holds what is not a finite number, or there are too many rows.
    """
    _check_rows(frame)
    levels = quantile_levels(bins)
    statistic = np.zeros((len(columns.numbers), bins + 2))
    for row, name in zip(statistic, columns.numbers, strict=True):
        values = _number(frame, name, 0)
        values = values[~np.isnan(values)]
        if len(values) >= LEAST_PRESENT:
            row[0] = len(values)
            row[1:] = len(values) * np.quantile(values, levels)
    return statistic.ravel()


KNOT_BOUND = Bound(FRACTION_BITS, MOST_ROWS * LARGEST_LOGARITHM)
"""The bound of ``knot_statistics``."""


def knots_from(total: Float64, columns: Columns, bins: int) -> Knots:
    """Turn the sum over all banks into knots; knots that ties have brought together become one.

    Raises:
        ProtocolError: the total can't be a sum of such statistics.
    """
    levels = quantile_levels(bins)
    if total.shape != (len(columns.numbers) * (bins + 2),) or not np.isfinite(total).all():
        raise ProtocolError("ENCODING_TOTAL", "The sum of the banks' quantiles has a wrong shape.")
    positions: list[tuple[float, ...]] = []
    ranks: list[tuple[float, ...]] = []
    for row in total.reshape(len(columns.numbers), bins + 2):
        if row[0] < 0:
            raise ProtocolError("ENCODING_TOTAL", "The banks' quantiles weigh less than nothing.")
        if row[0] < LEAST_PRESENT:
            positions.append(())
            ranks.append(())
            continue
        averages = row[1:] / row[0]
        span = averages[-1] - averages[0]
        if (np.diff(averages) < -_LEAST_GAP).any():
            raise ProtocolError("ENCODING_TOTAL", "The sum of the banks' quantiles does not increase.")
        groups: list[list[int]] = [[0]]
        for i in range(1, bins + 1):
            if averages[i] - averages[groups[-1][0]] > _LEAST_GAP * span and span > 0:
                groups.append([i])
            else:
                groups[-1].append(i)
        positions.append(tuple(float(averages[group].mean()) for group in groups))
        ranks.append(tuple(float((levels[group[0]] + levels[group[-1]]) / 2) for group in groups))
    return Knots(columns, tuple(positions), tuple(ranks))


def centring_statistics(knots: Knots, frame: pd.DataFrame) -> Float64:
    """Return what one bank adds to the second masked sum.

    Returns:
        Per encoded column the rows where it is present, then per encoded column its sum over those rows;
        shape [2 * width].

    Raises:
        DataError: as ``knot_statistics``.
    """
    _check_rows(frame)
    present = np.zeros(knots.width)
    sums = np.zeros(knots.width)
    for start, block in _blocks(frame):
        values, absent = _encode(knots, block, start)
        values[absent] = 0.0
        present += len(block) - absent.sum(axis=0)
        sums += values.sum(axis=0, dtype=np.float64)
    return np.concatenate([present, sums])


CENTRING_BOUND = Bound(FRACTION_BITS, float(MOST_ROWS))
"""The bound of ``centring_statistics``: encoded columns lie in [0, 1]."""


def encoding_from(knots: Knots, total: Float64) -> Encoding:
    """Turn the second sum over all banks into the encoding.

    Raises:
        ProtocolError: the total can't be a sum of such statistics.
    """
    if total.shape != (2 * knots.width,) or not np.isfinite(total).all():
        raise ProtocolError("ENCODING_TOTAL", "The sum of the banks' encoded columns has a wrong shape.")
    present, sums = total[: knots.width], total[knots.width :]
    if (present < 0).any() or (sums < -1.0).any() or (sums > present + 1.0).any():
        raise ProtocolError("ENCODING_TOTAL", "The sum of the banks' encoded columns is out of range.")
    return Encoding(knots, tuple(float(value) for value in sums / np.maximum(present, 1.0)))


def _check_rows(frame: pd.DataFrame) -> None:
    if not 0 < len(frame) <= MOST_ROWS:
        raise DataError(
            "ENCODING_ROWS",
            f"{len(frame)} rows can't be encoded.",
            f"A bank trains on 1 to {MOST_ROWS} rows.",
        )


def _blocks(frame: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for start in range(0, len(frame), _BLOCK_ROWS):
        yield start, frame.iloc[start : start + _BLOCK_ROWS]


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in frame.columns:
        raise DataError(
            "DATA_MISSING_FIELD", f"The field {name} is missing.", "Map it in the node's configuration."
        )
    return frame[name]


def _number(frame: pd.DataFrame, name: str, first_row: int) -> Float64:
    """Return the signed logarithms of a column, NaN where missing."""
    try:
        values = _column(frame, name).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(
            "DATA_WRONG_TYPE",
            f"The field {name} holds what is not a number.",
            "Correct it or leave it empty.",
        ) from error
    wrong = np.flatnonzero(np.abs(values) > LARGEST_NUMBER)
    if len(wrong):
        raise DataError(
            "DATA_OUT_OF_RANGE",
            f"Row {first_row + int(wrong[0])}, field {name}: beyond {LARGEST_NUMBER:g}.",
            "Correct the value or leave it empty.",
        )
    logarithms: Float64 = np.arcsinh(values)
    return logarithms


def _encode(knots: Knots, frame: pd.DataFrame, first_row: int) -> tuple[Float32, NDArray[np.bool_]]:
    """Return uncentred columns [n, width] in [0, 1] and where they are absent (a missing number's ramps)."""
    encoded = np.zeros((len(frame), knots.width), dtype=np.float32)
    absent = np.zeros((len(frame), knots.width), dtype=np.bool_)
    at = 0
    for name, positions, ranks in zip(knots.columns.numbers, knots.positions, knots.ranks, strict=True):
        values = _number(frame, name, first_row)
        missing = np.isnan(values)
        if len(positions) > 1:
            low, high = np.asarray(positions[:-1]), np.asarray(positions[1:])
            end = at + len(low)
            encoded[:, at:end] = np.clip((values[:, None] - low) / (high - low), 0.0, 1.0)
            encoded[:, end] = np.interp(values, positions, ranks)
            absent[missing, at : end + 1] = True
            at = end + 1
        encoded[:, at] = missing
        at += 1
    for name, levels in knots.columns.categories:
        codes = pd.Index(levels, dtype="str").get_indexer(pd.Index(_column(frame, name).astype("str")))
        encoded[np.arange(len(frame)), at + np.where(codes < 0, len(levels), codes)] = 1.0
        at += len(levels) + 1
    return encoded, absent
