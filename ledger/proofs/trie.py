"""Looking a key up in a Merkle-Patricia tree of which only some nodes are at hand.

Specification: Ethereum Yellow Paper, appendix D (the modified Merkle-Patricia tree), C (hex-prefix encoding) and B
(RLP); EIP-1186 (`eth_getProof`), whose proofs are the nodes on the path from the root.

Invariants:
    - An answer, presence or absence, follows from the root alone: every node is found by its hash. A node that is
      missing raises; it never reads as absence.
    - Only the one encoding that the specification gives is accepted: hex-prefix padding is zero, an embedded node is
      shorter than 32 bytes, an extension leads somewhere.
    - `Nodes.finish` refuses a set with a node that nothing needed, or in another order than that of first use, so
      that one statement has one set.

Not protected: keys of unequal length, one a prefix of the other, are only used by test vectors here; state and
storage trees are keyed by 32-byte hashes.
"""

from __future__ import annotations

from collections.abc import Iterable

from eth_hash.auto import keccak

from ledger.engine import rlp
from protocol.errors import ProtocolError

EMPTY_ROOT = bytes(keccak(b"\x80"))
"""Root of a tree without entries: the hash of the empty string's encoding."""

_Items = list[tuple[bytes, bytes | None]]


def malformed() -> ProtocolError:
    """Return the error for a node that no tree contains."""
    return ProtocolError("PROOF_NODE", "A node of the proof is not one that a state tree contains.")


class Nodes:
    """The nodes of a proof, found by hash."""

    def __init__(self, nodes: Iterable[bytes]) -> None:
        self._nodes = list(nodes)
        self._found = {bytes(keccak(node)): node for node in self._nodes}
        self._used: dict[bytes, bytes] = {}

    def take(self, digest: bytes) -> bytes:
        """Return the node with a hash.

        Raises:
            ProtocolError: ``PROOF_NODE_MISSING``.
        """
        node = self._found.get(digest)
        if node is None:
            raise ProtocolError(
                "PROOF_NODE_MISSING", "The proof lacks a node on the way from the state root."
            )
        self._used.setdefault(digest, node)
        return node

    @property
    def used(self) -> list[bytes]:
        """The nodes taken so far, in the order of first use."""
        return list(self._used.values())

    def finish(self) -> None:
        """Refuse a set that is not exactly what was needed, in the order of first use.

        Raises:
            ProtocolError: ``PROOF_NODE_UNUSED``.
        """
        if self.used != self._nodes:
            raise ProtocolError(
                "PROOF_NODE_UNUSED", "The proof holds nodes that prove nothing of what it says."
            )


def lookup(root: bytes, key: bytes, nodes: Nodes) -> bytes | None:
    """Return the value under a key, or None if the tree holds none.

    Args:
        root: hash of the root node, 32 bytes.
        key: the path, as bytes; state trees take the keccak-256 of an address or a slot.
        nodes: where nodes are found.

    Raises:
        ProtocolError: ``PROOF_NODE_MISSING``, ``PROOF_NODE``.
    """
    if root == EMPTY_ROOT:
        return None
    path = [nibble for byte in key for nibble in (byte >> 4, byte & 15)]
    items, at = _items(nodes.take(root)), 0
    while True:
        if len(items) == 17:
            if at == len(path):
                return _content(items[16]) or None
            following = items[path[at]]
            at += 1
            if following[1] == b"":
                return None
        elif len(items) == 2:
            part, leaf = _prefix(_content(items[0]))
            if path[at : at + len(part)] != part:
                return None
            at += len(part)
            if leaf:
                return _leaf_value(items[1]) if at == len(path) else None
            if not part:
                raise malformed()
            following = items[1]
        else:
            raise malformed()
        items = _items(_child(following, nodes))


def _items(node: bytes) -> _Items:
    try:
        return rlp.items(node)
    except ProtocolError as error:
        raise malformed() from error


def _content(item: tuple[bytes, bytes | None]) -> bytes:
    if item[1] is None:
        raise malformed()
    return item[1]


def _leaf_value(item: tuple[bytes, bytes | None]) -> bytes:
    if not item[1]:
        raise malformed()
    return item[1]


def _child(item: tuple[bytes, bytes | None], nodes: Nodes) -> bytes:
    encoding, content = item
    if content is None:
        if len(encoding) >= 32:  # a node of 32 bytes or more is named by its hash
            raise malformed()
        return encoding
    if len(content) != 32:
        raise malformed()
    node = nodes.take(content)
    if len(node) < 32:
        raise malformed()
    return node


def _prefix(encoded: bytes) -> tuple[list[int], bool]:
    """Return the nibbles of a hex-prefix string, and whether it ends in a leaf."""
    if not encoded or encoded[0] > 0x3F:
        raise malformed()
    leaf, odd = bool(encoded[0] & 0x20), bool(encoded[0] & 0x10)
    if not odd and encoded[0] & 0x0F:
        raise malformed()
    rest = [nibble for byte in encoded[1:] for nibble in (byte >> 4, byte & 15)]
    return ([encoded[0] & 0x0F, *rest] if odd else rest), leaf
