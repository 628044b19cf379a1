"""One product of the bank's label weights with the partner's sign bits, on shares, over all slots.

Specification: training protocol, step B4. For a covered row with weight a = y − b₀, share u and component t the
bit is u ⊕ ζ = u + (1 − 2u)·ζ, hence ::

    Σ a·bit = Σ a·u  +  Σ D_t [ζ_t = 1]  +  Σ U_t [ζ_t = 1],     D_t = c_t − U_t,  c_t = a·(1 − 2u_t)

of which the bank adds up the first sum over its covered rows, T the second and the partner the third over *all*
slots; c_t is zero where the bank has no row. U_t is expanded from the 32-byte seed s_U that bank and partner
share. Ring elements are a·2^f; D crosses as its low K bits, a component at a time, a block of 65,536 slots after
the other.

Invariants:
    - D is uniform and has the table's size, whatever the bank covers: T learns neither rows nor labels nor
      how many there are. An active T can spoil the sums, and reads nothing.
    - s_U is drawn fresh in the durable step that stores D, and masks one D. A repeat resends the stored bytes;
      changed weights need a new s_U, or the difference of two D's would show which rows changed.
    - T takes one D per (job, attempt, bank, partner) (`DenseBook`).
    - The sums are exact: equal to the sums over plaintext bits to the bit, modulo 2^K. n·max|a|·2^f + 10σ over
      all banks stays below 2^(K − 1), or the manifest is refused (`protocol.ring.check_headroom`).
    - Because the partner's rows enter as bits, no choice of rows gives an enterprise more weight than √k.

What each party learns: T the rounded size of the table; the partner nothing; the bank nothing new. Not
protected: the sums are shares until the opening, and whoever has all three has the sum; a bank may put any
weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocol import canonical, join, labels, ring
from protocol.errors import ProtocolError
from protocol.join import Matched, Table, zeta
from protocol.labels import KEY_BYTES

FRACTION_BITS = 12
WIDTH = 40


@dataclass(frozen=True)
class Product:
    """Shape of the product over one table.

    Attributes:
        table: the join table.
        width: K, bits of an element on the wire.
    """

    table: Table
    width: int = WIDTH

    def __post_init__(self) -> None:
        if self.table.kind != "join" or self.width % 8 or not 16 <= self.width <= 64:
            raise ProtocolError("PRODUCT_SHAPE", "A product runs on a join table, with 16, 24, … or 64 bits.")

    @property
    def chunks(self) -> int:
        """Number of chunks of D: blocks of all components."""
        return self.table.width * self.table.blocks

    def place(self, chunk: int) -> tuple[int, int]:
        """Return component and block of a chunk."""
        return divmod(chunk, self.table.blocks)

    def chunk_bytes(self, chunk: int) -> int:
        """Return the length of a chunk."""
        return self.table.block_slots(self.place(chunk)[1]) * (self.width // 8)


def label_weights(base_rate: float, fraction_bits: int = FRACTION_BITS) -> tuple[int, int]:
    """Return a·2^f for y = 0 and for y = 1, as integers: a = y − b₀, rounded half-even once.

    Args:
        base_rate: b₀, the constant of the manifest, in (0, 1).
        fraction_bits: f.

    Raises:
        ProtocolError: ``PRODUCT_BASE_RATE`` if b₀ is not strictly between 0 and 1.
    """
    if not 0.0 < base_rate < 1.0:
        raise ProtocolError("PRODUCT_BASE_RATE", "The base rate must lie strictly between 0 and 1.")
    rate = Fraction(base_rate)
    return round(-rate * 2**fraction_bits), round((1 - rate) * 2**fraction_bits)


def weights(
    outcomes: NDArray[np.bool_], base_rate: float, fraction_bits: int = FRACTION_BITS
) -> NDArray[np.int64]:
    """Return the fixed-point weights of a bank's rows.

    Args:
        outcomes: True where an enterprise defaulted, shape (n,).
        base_rate: b₀.
        fraction_bits: f.

    Raises:
        ProtocolError: ``PRODUCT_BASE_RATE``, or ``PRODUCT_OUTCOMES`` for anything but booleans.
    """
    if outcomes.dtype != np.bool_ or outcomes.ndim != 1:
        raise ProtocolError("PRODUCT_OUTCOMES", "Outcomes are one row of booleans.")
    good, bad = label_weights(base_rate, fraction_bits)
    return np.where(outcomes, np.int64(bad), np.int64(good))


def _pad(product: Product, seed: bytes, component: int, block: int) -> NDArray[np.uint64]:
    """Return U of one component in one block, shape (slots of the block,)."""
    label = product.table.label("u", f"{component}/{block}")
    return labels.words(labels.derive(seed, label), product.table.block_slots(block))


def _check_weights(matched: Matched, values: NDArray[np.int64]) -> NDArray[np.uint64]:
    if values.dtype != np.int64 or values.shape != matched.slots.shape:
        raise ProtocolError("PRODUCT_WEIGHTS", "There is not one whole weight for every covered row.")
    return values.view(np.uint64)


def dense(product: Product, matched: Matched, values: NDArray[np.int64], *, seed: bytes) -> Iterator[bytes]:
    """Give the bank's D chunk by chunk; the caller stores them before the first one leaves.

    Args:
        product: the shape.
        matched: what the bank found in the table.
        values: a·2^f of the covered rows, in the order of `Matched.rows`, shape (c,).
        seed: s_U, 32 fresh random bytes, drawn in the step that stores D.

    Raises:
        ProtocolError: ``PRODUCT_WEIGHTS``, ``LABEL_KEY``; ``LABEL_REUSED`` if an observing ledger saw the seed
            mask another D.
    """
    table = product.table
    whole = _check_weights(matched, values)
    edges = np.searchsorted(matched.slots, np.arange(table.blocks + 1) * join.BLOCK)
    for component in range(table.width):
        signed = np.where(matched.shares[:, component] == 1, np.negative(whole), whole)
        for block in range(table.blocks):
            low, high = int(edges[block]), int(edges[block + 1])
            contribution = np.zeros(table.block_slots(block), dtype=np.uint64)
            contribution[matched.slots[low:high] - block * join.BLOCK] = signed[low:high]
            label = table.label("u", f"{component}/{block}")
            labels.used(seed, label, contribution.tobytes())
            yield ring.pack(contribution - _pad(product, seed, component, block), product.width)


def bank_sums(matched: Matched, values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the bank's sums Σ a·u over its covered rows, one per component, shape (k,).

    Raises:
        ProtocolError: ``PRODUCT_WEIGHTS``.
    """
    whole = _check_weights(matched, values)
    total: NDArray[np.uint64] = (whole[:, None] * matched.shares).sum(axis=0, dtype=np.uint64)
    return total


def partner_sums(product: Product, *, seed: bytes, share_seed: bytes) -> NDArray[np.uint64]:
    """Return the partner's sums of U where ζ = 1, one per component, shape (k,).

    Args:
        product: the shape.
        seed: s_U from the bank.
        share_seed: s_T of the table.
    """
    table = product.table
    sums = np.zeros(table.width, dtype=np.uint64)
    for component in range(table.width):
        for block in range(table.blocks):
            chosen = zeta(table, share_seed, component, block) == 1
            # A slice, not an element: numpy warns when a single number wraps, and sums here wrap by design.
            sums[component : component + 1] += _pad(product, seed, component, block)[chosen].sum(
                dtype=np.uint64
            )
    return sums


class DenseBook:
    """The D's that T has taken: one per (job, attempt, bank, partner), for good."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, int, str, str], str] = {}

    def admit(self, table: Table, digest: str) -> None:
        """Record a D; the same one again changes nothing.

        Raises:
            ProtocolError: ``PRODUCT_SECOND`` if another D of this bank and partner was taken in the attempt.
        """
        place = (table.job, table.attempt, table.bank, table.partner)
        if self._taken.setdefault(place, digest) != digest:
            raise ProtocolError(
                "PRODUCT_SECOND",
                f"{table.bank} sends a second product for {table.partner} in one attempt.",
                "A repeat must hold the same bytes; anything else needs a new attempt.",
            )

    def to_state(self) -> list[list[str | int]]:
        """Return the record as a JSON value; the caller stores it before T's share leaves."""
        return [[*place, digest] for place, digest in sorted(self._taken.items())]

    @classmethod
    def from_state(cls, state: Iterable[Sequence[str | int]]) -> DenseBook:
        """Restore the record."""
        book = cls()
        for job, attempt, bank, partner, digest in state:
            book._taken[(str(job), int(attempt), str(bank), str(partner))] = str(digest)
        return book


class ComputeSums:
    """T's side of one product: takes D chunk by chunk, keeps one sum per component."""

    def __init__(self, product: Product, *, share_seed: bytes) -> None:
        """Begin.

        Args:
            product: the shape.
            share_seed: s_T from the partner.

        Raises:
            ProtocolError: ``LABEL_KEY``.
        """
        if len(share_seed) != KEY_BYTES:
            raise ProtocolError("LABEL_KEY", f"A share seed has {KEY_BYTES} bytes.")
        self._product = product
        self._seed = share_seed
        self._chunk = 0
        self._sums = np.zeros(product.table.width, dtype=np.uint64)
        self._hash = hashlib.sha256(canonical.lp(canonical.VERSION, "dense"))

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            ProtocolError: ``PRODUCT_LENGTH`` for a chunk of another length or one too many.
        """
        product = self._product
        if self._chunk >= product.chunks or len(chunk) != product.chunk_bytes(self._chunk):
            raise ProtocolError("PRODUCT_LENGTH", "A part of a product has another length than was agreed.")
        component, block = product.place(self._chunk)
        values = ring.unpack(chunk, product.width, product.table.block_slots(block))
        chosen = zeta(product.table, self._seed, component, block) == 1
        self._sums[component : component + 1] += values[chosen].sum(dtype=np.uint64)
        self._hash.update(chunk)
        self._chunk += 1

    def finish(self, book: DenseBook) -> NDArray[np.uint64]:
        """Return T's sums, shape (k,), once the whole D is there and admitted.

        Raises:
            ProtocolError: ``PRODUCT_LENGTH`` if chunks are missing, ``PRODUCT_SECOND``.
        """
        if self._chunk != self._product.chunks:
            raise ProtocolError("PRODUCT_LENGTH", "A product lacks parts.")
        book.admit(self._product.table, self._hash.hexdigest())
        return self._sums.copy()
