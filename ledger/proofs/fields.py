"""A document as salted fields under one root, of which some can be shown without the others.

Specification: leaf i of n is RFC 6962's leaf hash over
``"concordat/field/v1" ‖ lp(n, i, name, value) ‖ salt`` with a random 32-byte salt a field; fields are sorted by name;
the root is RFC 6962's. The root is what drafts and claims call ``docRoot``.

Invariants: a leaf states its position and the number of fields, so a shown field can't be moved and no field can be
denied to exist. Names are unique.

What each party learns: who sees a shown field learns its value, its position and how many fields there are. Hidden
fields are hashes under salts of their own. Not protected: that a value is true.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from protocol import canonical, merkle
from protocol.errors import ProtocolError

_DOMAIN = b"concordat/field/v1"
MAX_FIELDS = 1 << 16


def _leaf(count: int, index: int, name: str, value: str, salt: bytes) -> bytes:
    return merkle.leaf_hash(_DOMAIN + canonical.lp(count, index, name, value) + salt)


@dataclass(frozen=True, slots=True)
class ShownField:
    """A field with its way to the root.

    Attributes:
        index: its position by name.
        name: the field's name.
        value: its value, as text.
        salt: 32 bytes.
        path: sibling hashes from the leaf up.
    """

    index: int
    name: str
    value: str
    salt: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """Some fields of a document.

    Attributes:
        count: fields of the document, shown or not.
        fields: those that are shown, by position.
    """

    count: int
    fields: tuple[ShownField, ...]

    def verify(self, root: bytes) -> None:
        """Check that every shown field belongs to the document with this root.

        Raises:
            ProtocolError: ``PROOF_FIELDS``; ``MERKLE_RANGE``, ``MERKLE_HASH``, ``MERKLE_INCLUSION``.
        """
        order = [(each.index, each.name) for each in self.fields]
        ascending = all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(order))
        if not self.fields or not ascending or self.count > MAX_FIELDS:
            raise _fields()
        for each in self.fields:
            leaf = _leaf(self.count, each.index, each.name, each.value, each.salt)
            merkle.verify_inclusion(leaf, each.index, self.count, each.path, root)


@dataclass(frozen=True, slots=True)
class SaltedFields:
    """All fields of a document with their salts: what its holder keeps.

    Attributes:
        fields: (name, value, salt), sorted by name.
    """

    fields: tuple[tuple[str, str, bytes], ...]

    @classmethod
    def of(cls, values: Mapping[str, str], salts: Mapping[str, bytes] | None = None) -> SaltedFields:
        """Salt a document's fields.

        Args:
            values: text by name.
            salts: 32 bytes by name, when they were drawn before; drawn here otherwise.

        Raises:
            ProtocolError: ``PROOF_FIELDS`` without fields or with too many.
        """
        if not 1 <= len(values) <= MAX_FIELDS:
            raise _fields()
        drawn = {name: secrets.token_bytes(32) for name in values} if salts is None else salts
        return cls(tuple((name, values[name], drawn[name]) for name in sorted(values)))

    def _tree(self) -> merkle.MerkleTree:
        count = len(self.fields)
        return merkle.MerkleTree(_leaf(count, index, *each) for index, each in enumerate(self.fields))

    def root(self) -> bytes:
        """Return the root, 32 bytes: ``docRoot``."""
        return self._tree().root()

    def show(self, names: Iterable[str]) -> Shown:
        """Return some fields with their way to the root.

        Raises:
            ProtocolError: ``PROOF_FIELDS`` for a name that the document lacks, or for none.
        """
        wanted, tree = set(names), self._tree()
        if not wanted or wanted - {name for name, _, _ in self.fields}:
            raise _fields()
        return Shown(
            len(self.fields),
            tuple(
                ShownField(index, name, value, salt, tree.inclusion_proof(index))
                for index, (name, value, salt) in enumerate(self.fields)
                if name in wanted
            ),
        )


def _fields() -> ProtocolError:
    return ProtocolError("PROOF_FIELDS", "The shown fields do not lead to one document.")
