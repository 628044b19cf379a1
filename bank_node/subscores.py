"""The partners' sub-scores of a bank's own clients, as one job uses them.

What the bank learns of a partner, and all that it learns: a bin from 0 to 15 for each of its clients that the partner
lists, publishes and was allowed to ask for, and that there is none for the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ProtocolError
from protocol.subscore import BINS

MISSING = -1


@dataclass(frozen=True)
class SubScores:
    """Bins of all rows of the bank's table.

    Attributes:
        partners: those whose sub-scores all banks of the attempt have, sorted; none is possible.
        bins: shape (rows of the table, partners), 0 to 15, or ``MISSING``.
    """

    partners: tuple[str, ...]
    bins: NDArray[np.int8]

    def __post_init__(self) -> None:
        if self.bins.ndim != 2 or self.bins.shape[1] != len(self.partners) or self.bins.dtype != np.int8:
            raise ProtocolError("SUBSCORE_SHAPE", "There is not one column of bins for every partner.")
        if ((self.bins < MISSING) | (self.bins >= BINS)).any():
            raise ProtocolError("SUBSCORE_RANGE", f"A bin lies outside 0 to {BINS - 1}.")

    def chosen(self, rows: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Return the bins of some rows, shape (rows chosen, partners)."""
        return self.bins[rows]

    def to_bytes(self) -> bytes:
        """Return them as bytes, for the vault."""
        head = json.dumps({"partners": self.partners, "rows": len(self.bins)}).encode()
        return len(head).to_bytes(4, "big") + head + self.bins.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> SubScores:
        """Read what `to_bytes` made."""
        size = int.from_bytes(data[:4], "big")
        head = json.loads(data[4 : 4 + size])
        shape = (head["rows"], len(head["partners"]))
        return cls(tuple(head["partners"]), np.frombuffer(data[4 + size :], dtype=np.int8).reshape(shape))
