"""What members, council and registry sign; none of it takes or touches a lien, but for ``Resolve``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.eip712 import Intent


@dataclass(frozen=True, slots=True)
class AnchorIntent(Intent):
    """A member anchors the root of a tree of drafts, tickets or evidence."""

    TYPE: ClassVar[str] = "Anchor(uint8 kind,bytes32 root,uint32 count,bytes32 nonce,uint64 notAfter)"
    kind: int
    root: bytes
    count: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class CancelIntent(Intent):
    """A signer makes a nonce unusable that it has signed away."""

    TYPE: ClassVar[str] = "Cancel(bytes32 cancelled,uint64 notAfter)"
    cancelled: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class NoticeIntent(Intent):
    """A member reports a document whose tag is taken."""

    TYPE: ClassVar[str] = "Notice(bytes32 tag,bytes32 evidence,bytes32 nonce,uint64 notAfter)"
    tag: bytes
    evidence: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class FreezeIntent(Intent):
    """The council holds a claim for seven days."""

    TYPE: ClassVar[str] = "Freeze(bytes32 claimId,bytes32 evidence,bytes32 nonce,uint64 notAfter)"
    claim_id: bytes
    evidence: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class PauseIntent(Intent):
    """The council pauses new business for 72 hours."""

    TYPE: ClassVar[str] = "Pause(bytes32 evidence,bytes32 nonce,uint64 notAfter)"
    evidence: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class RevokeIntent(Intent):
    """The registry revokes a key."""

    TYPE: ClassVar[str] = "Revoke(bytes32 keyId,bytes32 evidence,bytes32 nonce,uint64 notAfter)"
    key_id: bytes
    evidence: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class EpochIntent(Intent):
    """Two thirds of the council open or close an epoch of tag keys."""

    TYPE: ClassVar[str] = "Epoch(uint16 epoch,bool open,bytes32 transcript,bytes32 nonce,uint64 notAfter)"
    epoch: int
    open: bool
    transcript: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class CouncilIntent(Intent):
    """Two thirds of the council replace it."""

    TYPE: ClassVar[str] = "Council(bytes32 membersHash,uint8 threshold,bytes32 nonce,uint64 notAfter)"
    members_hash: bytes
    threshold: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class RegistryIntent(Intent):
    """Two thirds of the council replace the registry's key."""

    TYPE: ClassVar[str] = "Registry(bytes32 keyHash,bytes32 nonce,uint64 notAfter)"
    key_hash: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class VerifierIntent(Intent):
    """Two thirds of the council allow or refuse an ERC-7913 verifier."""

    TYPE: ClassVar[str] = "Verifier(address verifier,bool allowed,bytes32 nonce,uint64 notAfter)"
    verifier: bytes
    allowed: bool
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class LimitsIntent(Intent):
    """Two thirds of the council set a member's daily quotas."""

    TYPE: ClassVar[str] = "Limits(uint32 roots,uint64 leaves,uint32 notices,bytes32 nonce,uint64 notAfter)"
    roots: int
    leaves: int
    notices: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class RetireIntent(Intent):
    """Two thirds of the council name the next version of the ledger."""

    TYPE: ClassVar[str] = "Retire(address successor,bytes32 nonce,uint64 notAfter)"
    successor: bytes
    nonce: bytes
    not_after: int
