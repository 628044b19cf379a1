"""Anchoring: roots of drafts and tickets, and notices of duplicates, by this institution as a member or by one it asks.

What each party learns: the anchoring member sees leaves, which are salted commitments, and how many.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ledger.commitments import ZERO, Opening
from ledger.eip712 import new_nonce
from ledger.mandates import AnchorIntent, NoticeIntent
from ledger.service import statements
from ledger.service.kernel import Kernel
from ledger.signers import Role
from protocol.errors import ConcordatError, ConfigurationError, ProtocolError
from protocol.merkle import MerkleTree, verify_inclusion

DRAFTS, TICKETS = 1, 2
MAX_LEAVES = 10_000
_VALIDITY = 86_400


class Anchoring:
    """Anchors for this institution, and as a member for others."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def anchored(self, leaf: bytes, salt: bytes, kind: int = DRAFTS) -> Opening:
        """Have one leaf anchored; return where it will lie once the member's call is final.

        Raises:
            ConfigurationError: ``ANCHORING`` if nobody is configured to do it.
            ProtocolError: ``PEER_ANSWER`` if the member's answer does not lead from the leaf to its root.
        """
        return replace(self.places([leaf], kind)[0], salt=salt)

    def places(self, leaves: Sequence[bytes], kind: int) -> list[Opening]:
        """Have leaves anchored under one root; the openings' salts are the caller's to fill in."""
        if self._kernel.plays(Role.MEMBER):
            return self.anchor(leaves, kind)
        found = self._ask("anchors", {"kind": kind, "leaves": [leaf.hex() for leaf in leaves]})
        openings = [statements.read_opening(each) for each in found.get("openings", [])]
        if len(openings) != len(leaves):
            raise ProtocolError("PEER_ANSWER", "The anchoring member answers for other leaves.")
        for leaf, opening in zip(leaves, openings, strict=True):
            verify_inclusion(leaf, opening.index, opening.count, opening.path, opening.root)
        return openings

    def anchor(self, leaves: Sequence[bytes], kind: int) -> list[Opening]:
        """Anchor leaves as a member.

        Raises:
            ProtocolError: ``REQUEST_MALFORMED`` for no leaves, too many, or another kind.
        """
        if (
            not 1 <= len(leaves) <= MAX_LEAVES
            or kind not in (DRAFTS, TICKETS)
            or len(set(leaves)) != len(leaves)
        ):
            raise statements.malformed("leaves")
        tree = MerkleTree()
        for leaf in leaves:
            tree.append_hash(leaf)
        member, root = self._kernel.wallet.party(Role.MEMBER), tree.root()
        intent = AnchorIntent(kind, root, len(leaves), new_nonce(), _until())
        signed = member.sign(self._kernel.where.domain, intent)
        self._kernel.submit(f"anchor/{kind}/{root.hex()}/{intent.nonce.hex()}", "anchor", intent, signed)
        return [
            Opening(ZERO, member.key_id, root, len(leaves), index, tree.inclusion_proof(index))
            for index in range(len(leaves))
        ]

    def notice(self, tag: bytes) -> None:
        """Report a document whose tag is taken. Best effort: that the alert can't be sent changes no answer."""
        try:
            if self._kernel.plays(Role.MEMBER):
                self.report(tag)
            elif self._kernel.config.anchoring:
                self._ask("notices", {"tag": tag.hex()})
        except ConcordatError:
            return

    def report(self, tag: bytes) -> None:
        """Report a duplicate as a member; the contract counts a member's notices."""
        member = self._kernel.wallet.party(Role.MEMBER)
        intent = NoticeIntent(tag, secrets.token_bytes(32), new_nonce(), _until())
        signed = member.sign(self._kernel.where.domain, intent)
        self._kernel.submit(f"notice/{intent.nonce.hex()}", "noticeDuplicate", intent, signed)

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        member = self._kernel.config.anchoring
        if not member:
            raise ConfigurationError(
                "ANCHORING",
                "Nobody is configured to anchor drafts for this institution.",
                "Set `anchoring` to the name of a peer that is a member.",
            )
        return self._kernel.peers.ask(member, path, body)


def _until() -> int:
    return int(time.time()) + _VALIDITY
