"""The group ristretto255: elements, scalars, hashing, and batches of all of these.

Specification: RFC 9496 (ristretto255), RFC 9380 section 5.3.1 (`expand_message_xmd`, here with SHA-512), RFC
9497 section 4.1 (hashing to the group and to scalars). The arithmetic is libsodium's, through ``rbcl``.

Invariants:
    - An `Element` is a canonical encoding and never the identity; a `Scalar` is reduced and never zero. Both
      come only from functions of this module, so that a peer's bytes pass `decode_element` or
      `decode_scalar` first. The canonical spelling is checked here: the libsodium that rbcl 1.1 carries takes
      an element with bit 255 set for the one without.
    - No result is taken on trust. libsodium's addition answers an invalid operand with 32 zero bytes, which is
      the encoding of the identity, and its multiplication accepts scalars beyond the order; both are caught.
    - Scalars are multiplied, inverted and reduced by libsodium in constant time.

Batches take a pool of the caller's (threads suffice: the library releases the interpreter's lock while it
computes) and give results in the order of their input, the same with any pool and with none.

What each party learns: nothing, this is arithmetic. Not protected: scalars stay in memory until Python frees
them; it can't erase them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import chain, pairwise
from typing import NewType, TypeVar

import rbcl

from protocol.errors import ProtocolError

Element = NewType("Element", bytes)
Scalar = NewType("Scalar", bytes)

ELEMENT_BYTES = 32
SCALAR_BYTES = 32
WIDE_BYTES = 64
"""Uniform bytes from which one uniform element or scalar is made."""

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Order of the group (RFC 9496 section 4)."""

_FIELD = 2**255 - 19
_NEUTRAL = bytes(32)
_CHUNK = 512
_BLOCK = 128
"""Input block of SHA-512, in bytes."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def spread(
    function: Callable[[Sequence[_Item]], list[_Result]], items: Sequence[_Item], pool: Executor | None
) -> list[_Result]:
    """Apply a function of a list to chunks of items, on a pool if there is one, in order.

    Args:
        function: gives one result per item; picklable where the pool is of processes.
        items: shape (n,).
        pool: the caller's executor, or None to compute here.
    """
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    parts = map(function, chunks) if pool is None or len(chunks) < 2 else pool.map(function, chunks)
    return list(chain.from_iterable(parts))


def expand_message_xmd(message: bytes, dst: bytes, length: int) -> bytes:
    """Return uniform bytes of a message in a domain (RFC 9380 section 5.3.1, SHA-512).

    Args:
        message: any bytes.
        dst: domain separation tag, 1 to 255 bytes.
        length: how many bytes, 1 to 255·64.

    Raises:
        ProtocolError: ``GROUP_EXPAND`` for a tag or a length out of range.
    """
    blocks = -(-length // 64)
    if not 1 <= len(dst) <= 255 or not 1 <= blocks <= 255:
        raise ProtocolError("GROUP_EXPAND", "A hash to the group has a tag or a length out of range.")
    tag = dst + bytes([len(dst)])
    first = hashlib.sha512(bytes(_BLOCK) + message + length.to_bytes(2, "big") + b"\0" + tag).digest()
    current = hashlib.sha512(first + b"\1" + tag).digest()
    out = [current]
    for number in range(2, blocks + 1):
        mixed = (int.from_bytes(first, "big") ^ int.from_bytes(current, "big")).to_bytes(64, "big")
        current = hashlib.sha512(mixed + bytes([number]) + tag).digest()
        out.append(current)
    return b"".join(out)[:length]


def decode_element(data: bytes) -> Element:
    """Return a peer's group element.

    Raises:
        ProtocolError: ``GROUP_ELEMENT`` if the bytes are not the canonical encoding of an element,
            ``GROUP_IDENTITY`` if they encode the identity.
    """
    if not isinstance(data, bytes) or len(data) != ELEMENT_BYTES:
        raise ProtocolError("GROUP_ELEMENT", f"A group element must have {ELEMENT_BYTES} bytes.")
    if data == _NEUTRAL:
        raise ProtocolError("GROUP_IDENTITY", "The identity of the group is refused.")
    spelt = int.from_bytes(data, "little")
    # RFC 9496 section 4.3.1, steps 1 and 2. The library at hand overlooks bit 255.
    canonical = spelt < _FIELD and spelt % 2 == 0
    if not canonical or not rbcl.crypto_core_ristretto255_is_valid_point(data):
        raise ProtocolError("GROUP_ELEMENT", "A group element is not canonically encoded.")
    return Element(data)


def _decode_chunk(data: Sequence[bytes]) -> list[Element]:
    return [decode_element(one) for one in data]


def decode_elements(data: bytes, pool: Executor | None = None) -> list[Element]:
    """Return the group elements of a peer's bytes, 32 each.

    Raises:
        ProtocolError: ``GROUP_ELEMENT`` or ``GROUP_IDENTITY``, also for a length that is no multiple of 32.
    """
    if len(data) % ELEMENT_BYTES:
        raise ProtocolError("GROUP_ELEMENT", "A list of group elements has a part of one at its end.")
    parts = [data[at : at + ELEMENT_BYTES] for at in range(0, len(data), ELEMENT_BYTES)]
    return spread(_decode_chunk, parts, pool)


def decode_scalar(data: bytes) -> Scalar:
    """Return a peer's scalar.

    Raises:
        ProtocolError: ``GROUP_SCALAR`` if it has not 32 bytes, is not below the order, or is zero, which an
            honest party draws with probability 2^-252.
    """
    if not isinstance(data, bytes) or len(data) != SCALAR_BYTES:
        raise ProtocolError("GROUP_SCALAR", f"A scalar must have {SCALAR_BYTES} bytes.")
    if not 0 < int.from_bytes(data, "little") < ORDER:
        raise ProtocolError("GROUP_SCALAR", "A scalar must be positive and below the order of the group.")
    return Scalar(data)


def scalar_from_uniform(data: bytes) -> Scalar:
    """Return the scalar of 64 uniform bytes, reduced modulo the order.

    Raises:
        ProtocolError: ``GROUP_SCALAR`` for another length, or if the scalar is zero (probability 2^-252).
    """
    if len(data) != WIDE_BYTES:
        raise ProtocolError("GROUP_SCALAR", f"A scalar is made of {WIDE_BYTES} uniform bytes.")
    return _nonzero(rbcl.crypto_core_ristretto255_scalar_reduce(data))


def _nonzero(data: bytes) -> Scalar:
    if data == _NEUTRAL:
        raise ProtocolError("GROUP_SCALAR", "A scalar came out as zero.")
    return Scalar(data)


def random_scalar() -> Scalar:
    """Draw a scalar from the operating system's generator."""
    return scalar_from_uniform(secrets.token_bytes(WIDE_BYTES))


def scalar_multiply(one: Scalar, other: Scalar) -> Scalar:
    """Return the product of two scalars."""
    return _nonzero(rbcl.crypto_core_ristretto255_scalar_mul(one, other))


def scalar_subtract(one: Scalar, other: Scalar) -> Scalar:
    """Return the difference of two scalars.

    Raises:
        ProtocolError: ``GROUP_SCALAR`` if they are equal.
    """
    return _nonzero(rbcl.crypto_core_ristretto255_scalar_sub(one, other))


def scalar_inverses(scalars: Sequence[Scalar]) -> list[Scalar]:
    """Return the inverses of scalars at the price of one inversion (Montgomery, Math. Comp. 48, 1987)."""
    if not scalars:
        return []
    products = [scalars[0]]
    for scalar in scalars[1:]:
        products.append(scalar_multiply(products[-1], scalar))
    rest = _nonzero(rbcl.crypto_core_ristretto255_scalar_invert(products[-1]))
    inverses: list[Scalar] = []
    for (before, _), scalar in zip(reversed(list(pairwise(products))), reversed(scalars[1:]), strict=True):
        inverses.append(scalar_multiply(rest, before))
        rest = scalar_multiply(rest, scalar)
    inverses.append(rest)
    return inverses[::-1]


def multiply(scalar: Scalar, element: Element) -> Element:
    """Return scalar times element.

    Raises:
        ProtocolError: ``GROUP_ELEMENT`` if the element or the scalar did not come from this module.
    """
    try:
        return Element(rbcl.crypto_scalarmult_ristretto255(scalar, element))
    except RuntimeError as error:
        raise ProtocolError("GROUP_ELEMENT", "A group element is invalid or the identity.") from error


def multiply_base(scalar: Scalar) -> Element:
    """Return scalar times the generator.

    Raises:
        ProtocolError: ``GROUP_SCALAR`` for zero.
    """
    try:
        return Element(rbcl.crypto_scalarmult_ristretto255_base(scalar))
    except RuntimeError as error:
        raise ProtocolError("GROUP_SCALAR", "A scalar is zero.") from error


def add(one: Element, other: Element) -> Element:
    """Return the sum of two elements.

    Raises:
        ProtocolError: ``GROUP_IDENTITY`` if it is the identity, which is also what the library answers to an
            invalid operand.
    """
    total = rbcl.crypto_core_ristretto255_add(one, other)
    if total == _NEUTRAL:
        raise ProtocolError("GROUP_IDENTITY", "A sum of group elements is the identity, or one is invalid.")
    return Element(total)


def _multiply_chunk(scalar: Scalar, elements: Sequence[Element]) -> list[Element]:
    return [multiply(scalar, element) for element in elements]


def multiply_all(scalar: Scalar, elements: Sequence[Element], pool: Executor | None = None) -> list[Element]:
    """Return one scalar times each element, shape (n,)."""
    return spread(partial(_multiply_chunk, scalar), elements, pool)


def _multiply_pairs(pairs: Sequence[tuple[Scalar, Element]]) -> list[Element]:
    return [multiply(scalar, element) for scalar, element in pairs]


def multiply_each(
    scalars: Sequence[Scalar], elements: Sequence[Element], pool: Executor | None = None
) -> list[Element]:
    """Return scalars[i] times elements[i], shape (n,)."""
    return spread(_multiply_pairs, list(zip(scalars, elements, strict=True)), pool)


def _combine_chunk(pairs: Sequence[tuple[Scalar, Element]]) -> list[Element]:
    return [_total([multiply(scalar, element) for scalar, element in pairs])]


def _total(elements: Sequence[Element]) -> Element:
    total = elements[0]
    for element in elements[1:]:
        total = add(total, element)
    return total


def combine(scalars: Sequence[Scalar], elements: Sequence[Element], pool: Executor | None = None) -> Element:
    """Return the sum of scalars[i] times elements[i].

    Raises:
        ProtocolError: ``GROUP_IDENTITY`` if a partial sum is the identity, or there is nothing to add up.
    """
    pairs = list(zip(scalars, elements, strict=True))
    if not pairs:
        raise ProtocolError("GROUP_IDENTITY", "A sum of no group elements is the identity.")
    return _total(spread(_combine_chunk, pairs, pool))


def hash_to_group(message: bytes, dst: bytes) -> Element:
    """Return the element of a message in a domain (RFC 9497 section 4.1, HashToGroup).

    Raises:
        ProtocolError: ``GROUP_IDENTITY`` if it is the identity (probability 2^-252).
    """
    element = rbcl.crypto_core_ristretto255_from_hash(expand_message_xmd(message, dst, WIDE_BYTES))
    if element == _NEUTRAL:
        raise ProtocolError("GROUP_IDENTITY", "A message hashes to the identity.")
    return Element(element)


def _hash_chunk(dst: bytes, messages: Sequence[bytes]) -> list[Element]:
    return [hash_to_group(message, dst) for message in messages]


def hash_all(messages: Sequence[bytes], dst: bytes, pool: Executor | None = None) -> list[Element]:
    """Return the element of each message in a domain, shape (n,)."""
    return spread(partial(_hash_chunk, dst), messages, pool)


def hash_to_scalar(message: bytes, dst: bytes) -> Scalar:
    """Return the scalar of a message in a domain (RFC 9497 section 4.1, HashToScalar)."""
    return scalar_from_uniform(expand_message_xmd(message, dst, WIDE_BYTES))
