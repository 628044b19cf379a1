"""The banks' common steps with every sum in the open: what the quality benchmarks train from.

Sums go through the fixed-point ring and are added up here, since masks cancel to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bank_node import encoding as enc
from bank_node import training
from benchmarks import datasets
from protocol import ring


def summed(vectors: Sequence[NDArray[np.float64]], bits: int, limit: float) -> NDArray[np.float64]:
    """Return the sum over banks as the ring gives it."""
    ring.check_headroom(len(vectors), limit, bits)
    total = np.zeros(len(vectors[0]), dtype=np.uint64)
    for vector in vectors:
        total += ring.encode(vector, bits, limit)
    return ring.decode(total, bits)


def key(*parts: object) -> bytes:
    """Return a stated seed's 32 bytes."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def encoding_of(columns: enc.Columns, split: datasets.Split, bins: int) -> enc.Encoding:
    """Return the encoding that the split's banks agree on."""
    statistics = [enc.knot_statistics(columns, rows, bins) for rows in split.banks]
    total = summed(statistics, enc.KNOT_BOUND.fraction_bits, enc.KNOT_BOUND.limit)
    knots = enc.knots_from(total, columns, bins)
    statistics = [enc.centring_statistics(knots, rows) for rows in split.banks]
    total = summed(statistics, enc.CENTRING_BOUND.fraction_bits, enc.CENTRING_BOUND.limit)
    return enc.encoding_from(knots, total)


Inputs = tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int8], training.Seeds, float]


def bank_inputs(encoding: enc.Encoding, split: datasets.Split) -> list[Inputs]:
    """Return what each bank's trainer takes beside its recipe."""
    rate = float(split.pooled["outcome"].mean())
    return [
        (
            encoding.transform(rows),
            rows["outcome"].to_numpy(dtype=np.int8),
            training.half_of(rows["id"].tolist(), key("salt", split.seed)),
            training.Seeds(key("common", split.seed), key("own", split.seed, bank)),
            float(np.log(rate / (1 - rate))),
        )
        for bank, rows in enumerate(split.banks)
    ]
