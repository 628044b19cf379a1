"""The ledger's log as bytes: one record a block, each bound to the one before.

Specification (all integers big-endian)::

    genesis record   0x01 ‖ genesis document digest (32) ‖ block 0 hash (32)
    block record     0x02 ‖ number (8) ‖ time (8) ‖ parent block hash (32) ‖ count (4) ‖ count × (length (4) ‖
    raw)

    digest(0) = SHA-256("concordat/ledger/record/v1\\0" ‖ 0^32 ‖ record 0)
    digest(i) = SHA-256("concordat/ledger/record/v1\\0" ‖ digest(i − 1) ‖ record i)

The record of block n has index n, so a log index is a block number. The record bytes are also the leaves of
the RFC 6962 tree that checkpoints cover.

Invariants: decoding is strict (one encoding per record); a record names the hash of the block before it, so
replay compares every block but the last with what was seen when it was first executed; times never decrease.
A record holds no result of its own block, because it is written before the block is executed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ledger.engine.port import MAX_BLOCK_TRANSACTIONS
from ledger.engine.transactions import MAX_SIZE
from protocol.errors import ProtocolError

DOMAIN = b"concordat/ledger/record/v1\0"
START = bytes(32)
"""What stands for the digest before the first record."""

_GENESIS, _BLOCK = 1, 2


@dataclass(frozen=True)
class GenesisRecord:
    """Record 0.

    Attributes:
        document: digest of the signed genesis document, 32 bytes.
        block_hash: hash of block 0, 32 bytes.
    """

    document: bytes
    block_hash: bytes


@dataclass(frozen=True)
class BlockRecord:
    """Record n ≥ 1.

    Attributes:
        number: n.
        time: Unix seconds.
        parent: hash of block n − 1, 32 bytes.
        raws: 1 to 50 raw transactions.
    """

    number: int
    time: int
    parent: bytes
    raws: tuple[bytes, ...]


def malformed() -> ProtocolError:
    """Return the error for bytes that are no record."""
    return ProtocolError("RECORD_MALFORMED", "The bytes are no record of the ledger's log.")


def encode(record: GenesisRecord | BlockRecord) -> bytes:
    """Return a record's bytes."""
    if isinstance(record, GenesisRecord):
        return bytes([_GENESIS]) + record.document + record.block_hash
    parts = [
        bytes([_BLOCK]),
        record.number.to_bytes(8, "big"),
        record.time.to_bytes(8, "big"),
        record.parent,
        len(record.raws).to_bytes(4, "big"),
    ]
    for raw in record.raws:
        parts += [len(raw).to_bytes(4, "big"), raw]
    return b"".join(parts)


def decode(data: bytes) -> GenesisRecord | BlockRecord:
    """Return the record of these bytes.

    Raises:
        ProtocolError: ``RECORD_MALFORMED``.
    """
    if data[:1] == bytes([_GENESIS]) and len(data) == 65:
        return GenesisRecord(data[1:33], data[33:65])
    if data[:1] != bytes([_BLOCK]) or len(data) < 53:
        raise malformed()
    count = int.from_bytes(data[49:53], "big")
    if not 1 <= count <= MAX_BLOCK_TRANSACTIONS:
        raise malformed()
    at, raws = 53, []
    for _ in range(count):
        size = int.from_bytes(data[at : at + 4], "big")
        raw = data[at + 4 : at + 4 + size]
        if not 1 <= size <= MAX_SIZE or len(raw) != size:
            raise malformed()
        raws.append(raw)
        at += 4 + size
    if at != len(data):
        raise malformed()
    number, time = int.from_bytes(data[1:9], "big"), int.from_bytes(data[9:17], "big")
    if number == 0:
        raise malformed()
    return BlockRecord(number, time, data[17:49], tuple(raws))


def chain(previous: bytes, data: bytes) -> bytes:
    """Return the digest of a record on top of the digest of the one before."""
    return hashlib.sha256(DOMAIN + previous + data).digest()
