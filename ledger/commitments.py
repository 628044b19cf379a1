"""Hashes that a statement or a claim is bound to: drafts, tickets, tags, bodies, holders.

Specification: a draft and a ticket are leaves of RFC 6962 trees (leaf prefix 0x00, SHA-256); everything else is
keccak256 over the ABI encoding, as the contracts compute it.

Invariants: a draft commits to owner, tags, terms, documents and framework contract under a fresh 32-byte salt,
so a root shows nothing and a copied pending tag is worth nothing without a draft of one's own, one block older.
Not protected: whoever knows the document and the salt can tell the draft.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

FULL = 1_000_000
WEEK = 604_800
ZERO = bytes(32)
NO_CONTRACT = keccak(text="concordat.contract-tag.none")
_DRAFT_TYPE = keccak(text="concordat.draft.v1")
_TICKET_TYPE = keccak(text="concordat.ticket.v1")


def new_salt() -> bytes:
    """Return 32 random bytes."""
    return secrets.token_bytes(32)


def key_id(key: bytes) -> bytes:
    """Return the 32-byte name of a key: keccak256 of its bytes."""
    return keccak(key)


def holder_ref(holder: bytes, key_set: bytes = ZERO) -> bytes:
    """Return how a lien names its holder.

    Args:
        holder: key id of the bank's key.
        key_set: hash of its key set, or 32 zero bytes.
    """
    return keccak(holder + key_set)


def key_set_hash(members: Iterable[bytes]) -> bytes:
    """Return the hash of a 2-of-n key set, given as key ids in the order that will be shown."""
    return keccak(encode(["bytes32[]"], [list(members)]))


def due_week(unix_seconds: int) -> int:
    """Return the public due week of an instant: weeks since 1970, rounded up."""
    return -(-unix_seconds // WEEK)


@dataclass(frozen=True, slots=True)
class TagSet:
    """The tags of one document in one epoch; 32 bytes each, sorted on construction by :meth:`of`."""

    epoch: int
    tags: tuple[bytes, ...]

    @classmethod
    def of(cls, epoch: int, tags: Iterable[bytes]) -> TagSet:
        """Return the set in the canonical, ascending order."""
        return cls(epoch, tuple(sorted(tags)))

    def values(self) -> tuple[int, list[bytes]]:
        """Return what the ABI takes."""
        return self.epoch, list(self.tags)


def tags_hash(sets: Iterable[TagSet]) -> bytes:
    """Return the 32-byte hash of the tags of all live epochs, oldest epoch first."""
    return keccak(encode(["(uint16,bytes32[])[]"], [[one.values() for one in sets]]))


@dataclass(frozen=True, slots=True)
class Body:
    """What a claim is about; the ledger keeps its hash, its events carry the fields.

    Args:
        owner: key id of the owner.
        obligor: key id of the obligor; zeros while attested.
        terms_hash: salted commitment to payable, parties, collection account and waivers.
        doc_root: Merkle root over the salted fields of the documents.
        contract_tag: tag of a framework contract, or ``NO_CONTRACT``.
        root: for a part split off, the claim that holds the tags; else zeros.
    """

    owner: bytes
    obligor: bytes
    terms_hash: bytes
    doc_root: bytes
    contract_tag: bytes = NO_CONTRACT
    root: bytes = ZERO

    def values(self) -> tuple[bytes, ...]:
        """Return what the ABI takes."""
        return (self.owner, self.obligor, self.terms_hash, self.doc_root, self.contract_tag, self.root)

    def digest(self) -> bytes:
        """Return the 32-byte hash that the ledger keeps."""
        return keccak(b"".join(self.values()))


@dataclass(frozen=True, slots=True)
class Draft:
    """A salted commitment; its leaf hash is the id of the claim that opens it."""

    owner: bytes
    tags_hash: bytes
    terms_hash: bytes
    doc_root: bytes
    contract_tag: bytes
    salt: bytes

    def leaf_data(self) -> bytes:
        """Return the bytes of the leaf, before the prefix."""
        return b"".join(
            (
                _DRAFT_TYPE,
                self.owner,
                self.tags_hash,
                self.terms_hash,
                self.doc_root,
                self.contract_tag,
                self.salt,
            )
        )

    def claim_id(self) -> bytes:
        """Return the RFC 6962 leaf hash."""
        return hashlib.sha256(b"\0" + self.leaf_data()).digest()


@dataclass(frozen=True, slots=True)
class Ticket:
    """A bank's tag ticket, bound to the key that will attest, so that nobody else can present it."""

    ticket: bytes
    bank: bytes
    salt: bytes

    def leaf_data(self) -> bytes:
        """Return the bytes of the leaf, before the prefix."""
        return _TICKET_TYPE + self.ticket + self.bank + self.salt

    def leaf(self) -> bytes:
        """Return the RFC 6962 leaf hash."""
        return hashlib.sha256(b"\0" + self.leaf_data()).digest()


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a leaf lies in a root that a member anchored.

    Args:
        salt: the leaf's salt.
        member: key id of the member that anchored the root.
        root: the tree's root.
        count: number of leaves.
        index: the leaf's position.
        path: sibling hashes from the leaf up (RFC 9162, 2.1.3.1).
    """

    salt: bytes
    member: bytes
    root: bytes
    count: int
    index: int
    path: tuple[bytes, ...] = ()

    def values(self) -> tuple[bytes, bytes, bytes, int, int, list[bytes]]:
        """Return what the ABI takes."""
        return (self.salt, self.member, self.root, self.count, self.index, list(self.path))
