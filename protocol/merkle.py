"""A Merkle tree over a growing list of entries, with proofs that an entry is in it and that it only grew.

Specification: RFC 6962 §2.1 (the hashes: 0x00 before a leaf, 0x01 before a node, SHA-256) and RFC 9162
§2.1.3–4 (generation and verification of inclusion and consistency proofs; the hashes are the same in both).

Invariants:
    - A leaf can't be taken for a node (second preimage), because their prefixes differ.
    - Verification consumes the whole proof: a longer or shorter one is refused.
    - A verifier raises; it returns nothing.

What each party learns: a proof shows hashes of neighbours; entries that can be guessed must carry a salt.
Not protected: who made the tree. A root is worth as much as the signature over it (`protocol.checkpoint`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from protocol.errors import ProtocolError

SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


class MerkleTree:
    """An append-only tree that keeps the hashes of its complete subtrees: about 64 bytes a leaf.

    Appending costs two hashes on average; a root or a proof at any earlier size costs O(log n).
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        """Start from leaf *hashes* (not entries)."""
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaves:
            self.append_hash(leaf)

    def __len__(self) -> int:
        return len(self._levels[0]) // SIZE

    def append(self, entry: bytes) -> bytes:
        """Append an entry and return its leaf hash."""
        leaf = leaf_hash(entry)
        self.append_hash(leaf)
        return leaf

    def append_hash(self, leaf: bytes) -> None:
        """Append a leaf hash of 32 bytes.

        Raises:
            ProtocolError: ``MERKLE_HASH`` if it has another length.
        """
        _check_hashes([leaf])
        level = 0
        self._levels[0] += leaf
        while len(self._levels[level]) // SIZE % 2 == 0:
            pair = self._levels[level][-2 * SIZE :]
            level += 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node_hash(bytes(pair[:SIZE]), bytes(pair[SIZE:]))

    def leaf(self, index: int) -> bytes:
        """Return a leaf hash.

        Raises:
            ProtocolError: ``MERKLE_RANGE``.
        """
        if not 0 <= index < len(self):
            raise _range()
        return bytes(self._levels[0][index * SIZE : (index + 1) * SIZE])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` entries (all of them by default).

        Raises:
            ProtocolError: ``MERKLE_RANGE``.
        """
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise _range()
        return self._range(0, size) if size else EMPTY_ROOT

    def frontier(self) -> Frontier:
        """Return what it takes to go on hashing from here, without the leaves."""
        size, start, peaks = len(self), 0, []
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                peaks.append((level, self._range(start, start + (1 << level))))
                start += 1 << level
        return Frontier(size, peaks)

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the path of entry `index` in the tree of `size` entries (RFC 9162 §2.1.3.1).

        Raises:
            ProtocolError: ``MERKLE_RANGE``.
        """
        size = len(self) if size is None else size
        if not 0 <= index < size <= len(self):
            raise _range()
        path, start, end = [], 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency_proof(self, first: int, second: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that `first` entries are a prefix of `second` (RFC 9162 §2.1.4.1).

        Raises:
            ProtocolError: ``MERKLE_RANGE``; both sizes must be at least 1.
        """
        second = len(self) if second is None else second
        if not 1 <= first <= second <= len(self):
            raise _range()
        path, start, end, whole = [], 0, second, True
        while first != end:
            middle = start + _split(end - start)
            if first <= middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._range(start, end))
        return tuple(reversed(path))

    def _range(self, start: int, end: int) -> bytes:
        """Return the hash over [start, end); a whole subtree when the width is a power of two."""
        width = end - start
        if width & (width - 1) == 0:
            at = (start // width) * SIZE
            return bytes(self._levels[width.bit_length() - 1][at : at + SIZE])
        middle = start + _split(width)
        return node_hash(self._range(start, middle), self._range(middle, end))


class Frontier:
    """The peaks of a tree: enough to append and to take roots, in O(log n) memory."""

    def __init__(self, size: int = 0, peaks: Iterable[tuple[int, bytes]] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def append(self, entry: bytes) -> None:
        """Append an entry."""
        level, value = 0, leaf_hash(entry)
        while self._peaks and self._peaks[-1][0] == level:
            value = node_hash(self._peaks.pop()[1], value)
            level += 1
        self._peaks.append((level, value))
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all entries so far."""
        if not self._peaks:
            return EMPTY_ROOT
        *rest, (_, value) = self._peaks
        for _, left in reversed(rest):
            value = node_hash(left, value)
        return value


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash stands at `index` in the tree of `size` entries (RFC 9162 §2.1.3.2).

    Raises:
        ProtocolError: ``MERKLE_RANGE``, ``MERKLE_HASH``, ``MERKLE_INCLUSION``.
    """
    if not 0 <= index < size:
        raise _range()
    _check_hashes([leaf, root, *proof])
    fn, sn, value = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            raise _inclusion()
        if fn & 1 or fn == sn:
            value = node_hash(step, value)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or not hmac.compare_digest(value, root):
        raise _inclusion()


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that a tree of `first` entries is a prefix of one of `second` entries (RFC 9162 §2.1.4.2).

    Raises:
        ProtocolError: ``MERKLE_RANGE`` (sizes must be 1 ≤ first ≤ second), ``MERKLE_HASH``,
            ``MERKLE_CONSISTENCY``.
    """
    if not 1 <= first <= second:
        raise _range()
    _check_hashes([first_root, second_root, *proof])
    if first == second:
        if proof or not hmac.compare_digest(first_root, second_root):
            raise _consistency()
        return
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        raise _consistency()
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for step in path[1:]:
        if sn == 0:
            raise _consistency()
        if fn & 1 or fn == sn:
            old, new = node_hash(step, old), node_hash(step, new)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, step)
        fn, sn = fn >> 1, sn >> 1
    same = hmac.compare_digest(old, first_root) & hmac.compare_digest(new, second_root)
    if sn != 0 or not same:
        raise _consistency()


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(not isinstance(each, bytes) or len(each) != SIZE for each in hashes):
        raise ProtocolError("MERKLE_HASH", "A hash in a Merkle proof must have 32 bytes.")


def _range() -> ProtocolError:
    return ProtocolError("MERKLE_RANGE", "An index or a size lies outside the tree.")


def _inclusion() -> ProtocolError:
    return ProtocolError("MERKLE_INCLUSION", "The proof does not show the entry in the tree with this root.")


def _consistency() -> ProtocolError:
    return ProtocolError("MERKLE_CONSISTENCY", "The proof does not show that the tree only grew.")
