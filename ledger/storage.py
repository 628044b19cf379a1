"""Where the ledger keeps things, and what a storage word says.

Specification: Solidity's storage layout (documentation, "Layout of State Variables in Storage"): the value of a
mapping under a 32-byte key lies at keccak256(key ‖ slot); what is packed into a word starts at its low end. The
variables' slots are those of the committed artifact of ``Ledger``; the records' fields follow ``Types.sol``, and a
test compares both with the compiled contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from eth_hash.auto import keccak

from ledger.abi import artifact

Fields = Sequence[tuple[str, int]]

CLAIM: Fields = (
    ("cap", 24),
    ("pledged", 24),
    ("seq", 32),
    ("version", 16),
    ("dueWeek", 16),
    ("lapseWeek", 16),
    ("grade", 8),
    ("flags", 8),
    ("end", 8),
    ("liens", 8),
    ("children", 8),
    ("aliases", 8),
    ("epoch", 16),
    ("holdUntil", 32),
    ("disputeUntil", 32),
)
"""The packed slot of a claim: names and bits, from the low end."""

ACCOUNT: Fields = (("absent", 24), ("settled", 24), ("transferred", 24), ("credited", 24), ("flaggedAt", 40))
LIEN: Fields = (("ppm", 24), ("status", 8), ("frozenUntil", 40))
ANCHORED: Fields = (("number", 64), ("time", 64))
CONTENDER_END: Fields = (("dueWeek", 16), ("status", 8))
"""The fourth word of a contender."""


def unpack(fields: Fields, word: int) -> dict[str, int]:
    """Return the fields of a packed word."""
    found = {}
    for name, bits in fields:
        found[name] = word & ((1 << bits) - 1)
        word >>= bits
    return found


@dataclass(frozen=True)
class Variable:
    """A variable of the ledger.

    Attributes:
        slot: where it lies, or where its mapping is rooted.
        offset: bytes from the low end of the word.
    """

    slot: int
    offset: int


@cache
def variable(label: str) -> Variable:
    """Return where a variable lies; the label is its name in ``LedgerStorage.sol``."""
    for entry in artifact("Ledger")["storage"]:
        if entry["label"] == label:
            return Variable(int(entry["slot"]), int(entry["offset"]))
    raise KeyError(label)


def number(word: int, label: str, bits: int) -> int:
    """Return a packed variable of a word."""
    return (word >> (8 * variable(label).offset)) & ((1 << bits) - 1)


def mapped(label: str, *keys: bytes) -> int:
    """Return the slot of a mapping's value under 32-byte keys, outermost first."""
    slot = variable(label).slot
    for key in keys:
        slot = int.from_bytes(keccak(key + slot.to_bytes(32, "big")), "big")
    return slot


def anchor_id(kind: int, root: bytes, count: int, member: bytes) -> bytes:
    """Return the name of an anchored root, as ``Anchors.sol`` computes it."""
    return bytes(keccak(kind.to_bytes(32, "big") + root + count.to_bytes(32, "big") + member))


def spent_slot(key_id: bytes, nonce: bytes) -> int:
    """Return the slot that says whether a key used up a nonce."""
    return mapped("_spent", bytes(keccak(key_id + nonce)))
