"""What owners, obligors, banks and holders sign; one struct an action.

``version`` names owner and terms as the signer saw them, ``seq`` the whole state. ``counterparty``, ``holder`` and
``custodian`` are key ids (keccak256 of a key's bytes). Shares are parts per million of the first committed payable;
times are unix seconds; a due week is weeks since 1970, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.eip712 import Intent


@dataclass(frozen=True, slots=True)
class ConfirmIntent(Intent):
    """Owner and obligor claim a draft's tags (确权)."""

    TYPE: ClassVar[str] = (
        "Confirm(bytes32 claimId,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,"
        "bytes32 contractTag,bytes32 counterparty,uint16 dueWeek,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    terms_hash: bytes
    doc_root: bytes
    tags_hash: bytes
    contract_tag: bytes
    counterparty: bytes
    due_week: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class AttestIntent(Intent):
    """Owner and bank claim a draft's tags; the bank takes the first lien."""

    TYPE: ClassVar[str] = (
        "Attest(bytes32 claimId,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,"
        "bytes32 contractTag,bytes32 counterparty,uint16 dueWeek,uint24 ppm,bytes32 loanRef,"
        "bytes32 ticket,bytes32 custodian,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    terms_hash: bytes
    doc_root: bytes
    tags_hash: bytes
    contract_tag: bytes
    counterparty: bytes
    due_week: int
    ppm: int
    loan_ref: bytes
    ticket: bytes
    custodian: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class UpgradeIntent(Intent):
    """The obligor confirms what a bank had attested."""

    TYPE: ClassVar[str] = (
        "Upgrade(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,bytes32 contractTag,"
        "bytes32 counterparty,uint24 newCap,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    seq: int
    terms_hash: bytes
    doc_root: bytes
    contract_tag: bytes
    counterparty: bytes
    new_cap: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class ContendIntent(Intent):
    """A second owner, its obligor and a comparing member contend an attested claim."""

    TYPE: ClassVar[str] = (
        "Contend(bytes32 claimId,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,"
        "bytes32 contractTag,bytes32 counterparty,uint16 dueWeek,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    terms_hash: bytes
    doc_root: bytes
    tags_hash: bytes
    contract_tag: bytes
    counterparty: bytes
    due_week: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class AdoptIntent(Intent):
    """Contender, obligor and all holders end a conflict: the claim goes to the contender."""

    TYPE: ClassVar[str] = "Adopt(bytes32 claimId,bytes32 contender,uint32 seq,bytes32 nonce,uint64 notAfter)"
    claim_id: bytes
    contender: bytes
    seq: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class WithdrawIntent(Intent):
    """A contender and its obligor give up."""

    TYPE: ClassVar[str] = "Withdraw(bytes32 contender,bytes32 nonce,uint64 notAfter)"
    contender: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class DisputeIntent(Intent):
    """An obligor denies an attested claim, renews the denial or takes it back."""

    TYPE: ClassVar[str] = (
        "Dispute(bytes32 claimId,uint16 version,uint8 step,bytes32 evidence,bool noInterest,"
        "bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    version: int
    step: int
    evidence: bytes
    no_interest: bool
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class ResolveIntent(Intent):
    """Two thirds of the council end a conflict or a dispute."""

    TYPE: ClassVar[str] = (
        "Resolve(bytes32 claimId,uint32 seq,uint8 verdict,bytes32 evidence,bool noInterest,"
        "bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    seq: int
    verdict: int
    evidence: bytes
    no_interest: bool
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class PledgeConsent(Intent):
    """The owner lets one bank take a lien, up to a ceiling, for one loan."""

    TYPE: ClassVar[str] = (
        "PledgeConsent(bytes32 claimId,uint16 version,bytes32 termsHash,bytes32 docRoot,"
        "bytes32 contractTag,bytes32 holder,uint24 maxPpm,bytes32 loanRef,bytes32 custodian,"
        "uint64 notBefore,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    version: int
    terms_hash: bytes
    doc_root: bytes
    contract_tag: bytes
    holder: bytes
    max_ppm: int
    loan_ref: bytes
    custodian: bytes
    not_before: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class PledgeIntent(Intent):
    """The bank takes a lien under a consent, naming the tags it derived itself."""

    TYPE: ClassVar[str] = (
        "Pledge(bytes32 claimId,bytes32 consent,uint24 ppm,bytes32 tagsHash,uint64 notAfter)"
    )
    claim_id: bytes
    consent: bytes
    ppm: int
    tags_hash: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class ReleaseIntent(Intent):
    """A holder gives its lien up."""

    TYPE: ClassVar[str] = "Release(bytes32 claimId,bytes32 lienId,bytes32 nonce,uint64 notAfter)"
    claim_id: bytes
    lien_id: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class RenewIntent(Intent):
    """A holder keeps an attested claim alive."""

    TYPE: ClassVar[str] = "Renew(bytes32 claimId,bytes32 lienId,bytes32 nonce,uint64 notAfter)"
    claim_id: bytes
    lien_id: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class AssignLienIntent(Intent):
    """A holder passes its lien on, or moves it to a new key."""

    TYPE: ClassVar[str] = (
        "AssignLien(bytes32 claimId,bytes32 lienId,bytes32 counterparty,bytes32 keySet,"
        "bytes32 loanRef,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    lien_id: bytes
    counterparty: bytes
    key_set: bytes
    loan_ref: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class FreezeLienIntent(Intent):
    """A second key of a holder freezes its own lien."""

    TYPE: ClassVar[str] = "FreezeLien(bytes32 claimId,bytes32 lienId,bytes32 nonce,uint64 notAfter)"
    claim_id: bytes
    lien_id: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class SettleFreeIntent(Intent):
    """A payment to the owner lowers the free capacity."""

    TYPE: ClassVar[str] = (
        "SettleFree(bytes32 claimId,uint16 version,uint24 newCap,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    version: int
    new_cap: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class SettleLienIntent(Intent):
    """A payment to a holder lowers its lien and the capacity."""

    TYPE: ClassVar[str] = (
        "SettleLien(bytes32 claimId,uint16 version,bytes32 lienId,uint24 newLien,uint24 newCap,"
        "bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    version: int
    lien_id: bytes
    new_lien: int
    new_cap: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class CreditNoteIntent(Intent):
    """The payable is reduced: red letter, return, set-off."""

    TYPE: ClassVar[str] = (
        "CreditNote(bytes32 claimId,uint16 version,uint24 newCap,bytes32 evidence,bytes32 nonce,"
        "uint64 notAfter)"
    )
    claim_id: bytes
    version: int
    new_cap: int
    evidence: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class TransferIntent(Intent):
    """The whole claim changes hands."""

    TYPE: ClassVar[str] = (
        "Transfer(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,bytes32 counterparty,"
        "bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    seq: int
    terms_hash: bytes
    doc_root: bytes
    counterparty: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class SplitIntent(Intent):
    """A part becomes a claim of its own, with the liens whose holders sign."""

    TYPE: ClassVar[str] = (
        "Split(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,bytes32 counterparty,"
        "uint24 ppm,bytes32 liensHash,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    seq: int
    terms_hash: bytes
    doc_root: bytes
    counterparty: bytes
    ppm: int
    liens_hash: bytes
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class AmendIntent(Intent):
    """Terms, documents or due week change; capacity never rises."""

    TYPE: ClassVar[str] = (
        "Amend(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,uint16 dueWeek,"
        "uint24 newCap,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    seq: int
    terms_hash: bytes
    doc_root: bytes
    due_week: int
    new_cap: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class ReissueIntent(Intent):
    """A document is replaced by a new one under new tags."""

    TYPE: ClassVar[str] = (
        "Reissue(bytes32 claimId,uint32 seq,bytes32 draft,bytes32 termsHash,bytes32 docRoot,"
        "bytes32 tagsHash,uint16 dueWeek,uint24 newCap,bytes32 nonce,uint64 notAfter)"
    )
    claim_id: bytes
    seq: int
    draft: bytes
    terms_hash: bytes
    doc_root: bytes
    tags_hash: bytes
    due_week: int
    new_cap: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class AddTagsIntent(Intent):
    """Another official number, or the tags of a newer epoch."""

    TYPE: ClassVar[str] = (
        "AddTags(bytes32 claimId,bytes32 draft,bytes32 tagsHash,bool officialNumber,bytes32 nonce,"
        "uint64 notAfter)"
    )
    claim_id: bytes
    draft: bytes
    tags_hash: bytes
    official_number: bool
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class VoidIntent(Intent):
    """A claim without liens and children ends and frees its tags."""

    TYPE: ClassVar[str] = "Void(bytes32 claimId,uint32 seq,bytes32 nonce,uint64 notAfter)"
    claim_id: bytes
    seq: int
    nonce: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class DataGrant(Intent):
    """A data subject's grant to one institution; kept off chain, its digest in evidence."""

    TYPE: ClassVar[str] = (
        "DataGrant(bytes32 subject,bytes32 grantee,bytes32 purpose,bytes32 fieldsRoot,bytes32 policyHash,"
        "uint32 maxQueries,uint64 notBefore,uint64 notAfter,bytes32 nonce)"
    )
    subject: bytes
    grantee: bytes
    purpose: bytes
    fields_root: bytes
    policy_hash: bytes
    max_queries: int
    not_before: int
    not_after: int
    nonce: bytes
