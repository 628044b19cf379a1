"""Numbers in the ring of integers mod 2^64.

Specification: ``encode(x) = clip(rint(x·2^f), ±⌊limit·2^f⌋) mod 2^64``: rounded half-even once, at the owner,
and clipped as an integer after rounding. `decode` reads the ring in two's complement.

Invariants:
    - Sums are exact and don't depend on their order, so every party reads the same bits.
    - No sum wraps as long as ``n·limit·2^f + 10·σ < 2^(width − 1)`` over *all* summands; a manifest that
      breaks this is refused before anybody masks anything (`check_headroom`).
    - A value that is not finite never enters the ring.

Not protected: a party may encode what it likes within the limit.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ProtocolError

_EXACT = 1 << 53
"""Integers up to here are exact in float64."""


def _check_bits(fraction_bits: int) -> None:
    if type(fraction_bits) is not int or not 0 <= fraction_bits <= 52:
        raise ProtocolError("RING_PARAMETERS", "The number of fraction bits must lie between 0 and 52.")


def encode(values: NDArray[np.float64], fraction_bits: int, limit: float) -> NDArray[np.uint64]:
    """Return fixed-point ring elements of real numbers.

    Args:
        values: shape (n,) or any other.
        fraction_bits: f, from 0 to 52.
        limit: bound on the size of a value; larger ones are clipped to it. limit·2^f ≤ 2^53.

    Raises:
        ProtocolError: ``RING_NOT_FINITE`` for nan or infinity, ``RING_PARAMETERS`` for bits or limit out of
            range.
    """
    _check_bits(fraction_bits)
    if not np.isfinite(limit) or limit <= 0 or Fraction(limit) * 2**fraction_bits > _EXACT:
        raise ProtocolError("RING_PARAMETERS", "The limit must be positive, and limit·2^f at most 2^53.")
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ProtocolError("RING_NOT_FINITE", "A value to be summed is not a finite number.")
    bound = float(int(Fraction(limit) * 2**fraction_bits))
    # Scaling by a power of two is exact (or overflows to infinity, which the clip takes): one rounding only.
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(array, fraction_bits))
    return np.clip(scaled, -bound, bound).astype(np.int64).view(np.uint64)


def decode(ring: NDArray[np.uint64], fraction_bits: int) -> NDArray[np.float64]:
    """Return the signed real numbers of ring elements, rounded to float64 where they exceed 53 bits.

    Raises:
        ProtocolError: ``RING_PARAMETERS``, or ``RING_ELEMENTS`` if the array is not of unsigned 64-bit words.
    """
    _check_bits(fraction_bits)
    return np.asarray(np.ldexp(signed(ring).astype(np.float64), -fraction_bits))


def signed(ring: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return ring elements as exact signed integers.

    Raises:
        ProtocolError: ``RING_ELEMENTS`` if the array is not of unsigned 64-bit words.
    """
    if ring.dtype != np.uint64:
        raise ProtocolError("RING_ELEMENTS", "Ring elements must be unsigned 64-bit words.")
    return np.ascontiguousarray(ring).view(np.int64)


def check_headroom(
    parties_or_rows: int, limit: float, fraction_bits: int, sigma_total: float = 0.0, width: int = 64
) -> None:
    """Refuse parameters under which a sum could wrap: n·limit·2^f + 10·σ must stay below 2^(width − 1).

    Args:
        parties_or_rows: n, the number of summands over all parties.
        limit: bound on the size of a summand.
        fraction_bits: f.
        sigma_total: standard deviation of all noise in the sum, in units of the ring (σ·2^f).
        width: bits of an element on the wire.

    Raises:
        ProtocolError: ``RING_WRAP``, or ``RING_PARAMETERS`` for parameters out of range.
    """
    _check_bits(fraction_bits)
    if not (parties_or_rows >= 1 and np.isfinite(limit) and limit > 0 and np.isfinite(sigma_total)):
        raise ProtocolError("RING_PARAMETERS", "Summands, limit and noise must be positive and finite.")
    if sigma_total < 0 or not 2 <= width <= 64:
        raise ProtocolError("RING_PARAMETERS", "Noise can't be negative; a width has 2 to 64 bits.")
    # Fractions, not floats: at the edge a rounding error would decide.
    need = parties_or_rows * Fraction(limit) * 2**fraction_bits + 10 * Fraction(sigma_total)
    if need >= 1 << (width - 1):
        raise ProtocolError(
            "RING_WRAP",
            f"A sum of {parties_or_rows} values could exceed {width} bits.",
            "Take fewer fraction bits, a smaller limit or a wider ring.",
        )


def to_bytes(ring: NDArray[np.uint64]) -> bytes:
    """Return ring elements as little-endian words, eight bytes each."""
    if ring.dtype != np.uint64:
        raise ProtocolError("RING_ELEMENTS", "Ring elements must be unsigned 64-bit words.")
    return ring.astype("<u8").tobytes()


def from_bytes(data: bytes, length: int) -> NDArray[np.uint64]:
    """Return the ring elements of bytes, shape (length,).

    Raises:
        ProtocolError: ``RING_LENGTH`` if there are not exactly 8·length bytes.
    """
    if len(data) != 8 * length:
        raise ProtocolError("RING_LENGTH", "A vector has not the length that was agreed.")
    return np.frombuffer(data, dtype="<u8").astype(np.uint64)


def _packed_octets(width: int) -> int:
    if type(width) is not int or width % 8 or not 8 <= width <= 64:
        raise ProtocolError("RING_PARAMETERS", "Packed elements have 8, 16, … or 64 bits.")
    return width // 8


def pack(ring: NDArray[np.uint64], width: int) -> bytes:
    """Return the low bits of ring elements, little-endian, width / 8 bytes each.

    Dropping the high bits is a homomorphism onto the ring mod 2^width, so that sums of what was packed are
    right in their low bits.

    Raises:
        ProtocolError: ``RING_ELEMENTS``, or ``RING_PARAMETERS`` for a width that is no multiple of 8 up to 64.
    """
    octets = _packed_octets(width)
    if ring.dtype != np.uint64 or ring.ndim != 1:
        raise ProtocolError("RING_ELEMENTS", "Ring elements must be one row of unsigned 64-bit words.")
    return ring.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :octets].tobytes()


def unpack(data: bytes, width: int, length: int) -> NDArray[np.uint64]:
    """Return the elements of packed bytes, below 2^width, shape (length,).

    Raises:
        ProtocolError: ``RING_LENGTH`` if there are not exactly length·width / 8 bytes, ``RING_PARAMETERS``.
    """
    octets = _packed_octets(width)
    if len(data) != octets * length:
        raise ProtocolError("RING_LENGTH", "A vector has not the length that was agreed.")
    whole = np.zeros((length, 8), dtype=np.uint8)
    whole[:, :octets] = np.frombuffer(data, dtype=np.uint8).reshape(length, octets)
    return whole.view("<u8").reshape(length).astype(np.uint64)


def signed_low(ring: NDArray[np.uint64], width: int) -> NDArray[np.int64]:
    """Return the low bits of ring elements in two's complement, shape as given.

    Raises:
        ProtocolError: ``RING_PARAMETERS``, ``RING_ELEMENTS``.
    """
    shift = np.uint64(64 - 8 * _packed_octets(width))
    return signed(ring << shift) >> np.int64(shift)
