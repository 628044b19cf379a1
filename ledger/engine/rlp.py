"""Recursive-length prefix, strict: one encoding per value.

Specification: Ethereum Yellow Paper, appendix B. Nested lists are kept as their encoded bytes, since the
ledger never looks inside a transaction's access list; the engine does.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import ProtocolError


def _malformed() -> ProtocolError:
    return ProtocolError("RLP_MALFORMED", "The bytes are not in recursive-length prefix form.")


def _span(data: bytes, at: int) -> tuple[int, int, bool]:
    """Return (start of the content, end of the item, whether it is a list) of the item at an offset."""
    if at >= len(data):
        raise _malformed()
    first = data[at]
    if first < 0x80:
        return at, at + 1, False
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    if short <= 55:
        start, end = at + 1, at + 1 + short
        if not is_list and short == 1 and end <= len(data) and data[start] < 0x80:
            raise _malformed()  # a byte below 0x80 stands for itself
    else:
        width = short - 55
        start = at + 1 + width
        size = int.from_bytes(data[at + 1 : start], "big")
        if start > len(data) or data[at + 1] == 0 or size <= 55:
            raise _malformed()
        end = start + size
    if end > len(data):
        raise _malformed()
    return start, end, is_list


def items(data: bytes) -> list[tuple[bytes, bytes | None]]:
    """Return the items of an encoded list: each one's encoding, and its content unless it is a list itself.

    Raises:
        ProtocolError: ``RLP_MALFORMED``.
    """
    at, end, is_list = _span(data, 0)
    if not is_list or end != len(data):
        raise _malformed()
    found: list[tuple[bytes, bytes | None]] = []
    while at < end:
        start, stop, nested = _span(data, at)
        found.append((data[at:stop], None if nested else data[start:stop]))
        at = stop
    return found


def _header(size: int, offset: int) -> bytes:
    if size <= 55:
        return bytes([offset + size])
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(length)]) + length


def encode_bytes(content: bytes) -> bytes:
    """Encode a byte string."""
    if len(content) == 1 and content[0] < 0x80:
        return content
    return _header(len(content), 0x80) + content


def encode_number(number: int) -> bytes:
    """Encode a number that is not negative, without leading zeros."""
    return encode_bytes(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def encode_list(encoded: Sequence[bytes]) -> bytes:
    """Encode a list of encoded items."""
    body = b"".join(encoded)
    return _header(len(body), 0xC0) + body
