"""One byte string per value: RFC 8785 JSON, length prefixes, domain-separated digests.

Specification: RFC 8785 (JSON Canonicalization Scheme) over I-JSON (RFC 7493); SHA-256 (FIPS 180-4).

Invariants:
    - Equal values have equal bytes on every machine, so a signature over a value is a signature over bytes.
    - `lp` is injective on sequences of parts of fixed types: every part is preceded by its length, hence
      ``("job1", "2bank")`` and ``("job12", "bank")`` differ, which plain concatenation does not give.
    - `digest` separates domains: the same value under two kinds has unrelated digests.
    - `decode` accepts canonical bytes only: no duplicate key, no second spelling of a value.

Not protected: canonical JSON has one number type, so ``1.0`` and ``1`` are the same value; integers beyond
2^53 − 1 are refused (write them as strings). A digest of guessable data hides nothing: add a salt.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import rfc8785

from protocol.errors import ProtocolError

VERSION = "concordat/v1"
DEEPEST = 100
"""Levels of nesting that are read; nothing that the parties exchange comes near it."""
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def encode(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Args:
        value: ``None``, booleans, integers below 2^53 in size, finite floats, strings, lists, tuples, and
            dictionaries with string keys, nested at will.

    Raises:
        ProtocolError: ``CANONICAL_VALUE`` if the value has no canonical form.
    """
    try:
        return bytes(rfc8785.dumps(value))
    except (rfc8785.CanonicalizationError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(
            "CANONICAL_VALUE",
            f"A value has no canonical JSON form ({type(error).__name__}).",
            "Use strings, integers below 2^53, finite numbers, lists, and objects with string keys.",
        ) from None  # the library's text quotes the value


def decode(data: bytes) -> Any:
    """Return the value of canonical bytes, and refuse any other bytes.

    Raises:
        ProtocolError: ``CANONICAL_BYTES`` if the bytes are not JSON, repeat a key, or spell the value in
            another way than `encode` does.
    """
    _check_depth(data)
    try:
        value = json.loads(data.decode("utf-8"), parse_int=_number)
        same = encode(value) == data
    except (ValueError, RecursionError, ProtocolError) as error:
        raise ProtocolError("CANONICAL_BYTES", "The bytes are not canonical JSON.") from error
    if not same:
        raise ProtocolError("CANONICAL_BYTES", "The bytes are JSON, but not in their canonical form.")
    return value


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting before a parser descends into it.

    The interpreter's own limit is not enough: libraries raise it, and the parser, in C, then overflows its stack.
    """
    depth = 0
    for token in _BRACKETS.finditer(data):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth > DEEPEST:
                raise ProtocolError("CANONICAL_BYTES", f"The JSON is nested deeper than {DEEPEST} levels.")
        elif token[0] in (b"]", b"}"):
            depth -= 1


def _number(text: str) -> int | float:
    """Read digits as RFC 8785 means them: beyond 2^53 − 1 they spell a float, not an integer."""
    number = int(text)
    return number if abs(number) < 1 << 53 else float(text)


def lp(*parts: bytes | str | int) -> bytes:
    """Join parts, each behind its length in four big-endian bytes.

    Strings are written in UTF-8, integers as decimal text. A position must always hold the same type: the
    integer 1, the string "1" and the byte 0x31 have the same encoding.

    Raises:
        ProtocolError: ``CANONICAL_PART`` for a part of another type, unpaired surrogates, or 4 GiB and more.
    """
    joined = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            raw = part
        elif isinstance(part, str) or (isinstance(part, int) and not isinstance(part, bool)):
            try:
                raw = str(part).encode("utf-8")
            except UnicodeEncodeError as error:
                raise ProtocolError("CANONICAL_PART", "A text part is not valid Unicode.") from error
        else:
            raise ProtocolError("CANONICAL_PART", f"A part of type {type(part).__name__} has no encoding.")
        if len(raw) >= 1 << 32:
            raise ProtocolError("CANONICAL_PART", "A part is too long for its length prefix.")
        joined += len(raw).to_bytes(4, "big") + raw
    return bytes(joined)


def digest(kind: str, value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value under a domain of its own.

    Args:
        kind: what the value is, such as ``"manifest"``.
        value: any JSON value.

    Raises:
        ProtocolError: as `encode`.
    """
    return hashlib.sha256(lp(VERSION, kind) + encode(value)).hexdigest()
