// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// The signed statements (EIP-712), one struct an action.
// Every field is static, so a struct hash is keccak256(abi.encode(TYPEHASH, intent)). The type name is
// the struct's name without `Intent`. `version` names owner and terms as the signer saw them, `seq` the whole
// state. Nonces are random and single-use under the first signer's key.

struct AnchorIntent {
    uint8 kind;
    bytes32 root;
    uint32 count;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant ANCHOR_TYPEHASH = keccak256("Anchor(uint8 kind,bytes32 root,uint32 count,bytes32 nonce,uint64 notAfter)");

struct ConfirmIntent {
    bytes32 claimId;
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 tagsHash;
    bytes32 contractTag;
    bytes32 counterparty; // the obligor's key
    uint16 dueWeek;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant CONFIRM_TYPEHASH = keccak256(
    "Confirm(bytes32 claimId,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,bytes32 contractTag,bytes32 counterparty,uint16 dueWeek,bytes32 nonce,uint64 notAfter)"
);

struct AttestIntent {
    bytes32 claimId;
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 tagsHash;
    bytes32 contractTag;
    bytes32 counterparty; // the bank's key
    uint16 dueWeek;
    uint24 ppm;
    bytes32 loanRef;
    bytes32 ticket;
    bytes32 custodian;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant ATTEST_TYPEHASH = keccak256(
    "Attest(bytes32 claimId,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,bytes32 contractTag,bytes32 counterparty,uint16 dueWeek,uint24 ppm,bytes32 loanRef,bytes32 ticket,bytes32 custodian,bytes32 nonce,uint64 notAfter)"
);

struct UpgradeIntent {
    bytes32 claimId;
    uint32 seq;
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 contractTag;
    bytes32 counterparty; // the obligor's key
    uint24 newCap;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant UPGRADE_TYPEHASH = keccak256(
    "Upgrade(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,bytes32 contractTag,bytes32 counterparty,uint24 newCap,bytes32 nonce,uint64 notAfter)"
);

struct ContendIntent {
    bytes32 claimId; // the contender's own draft
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 tagsHash;
    bytes32 contractTag;
    bytes32 counterparty; // the obligor's key
    uint16 dueWeek;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant CONTEND_TYPEHASH = keccak256(
    "Contend(bytes32 claimId,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,bytes32 contractTag,bytes32 counterparty,uint16 dueWeek,bytes32 nonce,uint64 notAfter)"
);

struct AdoptIntent {
    bytes32 claimId; // the claim that was contended
    bytes32 contender;
    uint32 seq;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant ADOPT_TYPEHASH =
    keccak256("Adopt(bytes32 claimId,bytes32 contender,uint32 seq,bytes32 nonce,uint64 notAfter)");

struct WithdrawIntent {
    bytes32 contender;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant WITHDRAW_TYPEHASH = keccak256("Withdraw(bytes32 contender,bytes32 nonce,uint64 notAfter)");

struct DisputeIntent {
    bytes32 claimId;
    uint16 version;
    uint8 step; // open, renew, withdraw
    bytes32 evidence;
    bool noInterest;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant DISPUTE_TYPEHASH = keccak256(
    "Dispute(bytes32 claimId,uint16 version,uint8 step,bytes32 evidence,bool noInterest,bytes32 nonce,uint64 notAfter)"
);

struct ResolveIntent {
    bytes32 claimId;
    uint32 seq;
    uint8 verdict;
    bytes32 evidence;
    bool noInterest;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant RESOLVE_TYPEHASH = keccak256(
    "Resolve(bytes32 claimId,uint32 seq,uint8 verdict,bytes32 evidence,bool noInterest,bytes32 nonce,uint64 notAfter)"
);

struct PledgeConsent {
    bytes32 claimId;
    uint16 version;
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 contractTag;
    bytes32 holder; // the bank's key
    uint24 maxPpm;
    bytes32 loanRef; // salted
    bytes32 custodian; // the key of who keeps the owner's key; zero if the owner itself
    uint64 notBefore;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant PLEDGE_CONSENT_TYPEHASH = keccak256(
    "PledgeConsent(bytes32 claimId,uint16 version,bytes32 termsHash,bytes32 docRoot,bytes32 contractTag,bytes32 holder,uint24 maxPpm,bytes32 loanRef,bytes32 custodian,uint64 notBefore,bytes32 nonce,uint64 notAfter)"
);

struct PledgeIntent {
    bytes32 claimId;
    bytes32 consent; // digest of the owner's consent
    uint24 ppm;
    bytes32 tagsHash; // the tags that the bank derived itself
    uint64 notAfter;
}
bytes32 constant PLEDGE_TYPEHASH =
    keccak256("Pledge(bytes32 claimId,bytes32 consent,uint24 ppm,bytes32 tagsHash,uint64 notAfter)");

struct ReleaseIntent {
    bytes32 claimId;
    bytes32 lienId;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant RELEASE_TYPEHASH =
    keccak256("Release(bytes32 claimId,bytes32 lienId,bytes32 nonce,uint64 notAfter)");

struct RenewIntent {
    bytes32 claimId;
    bytes32 lienId;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant RENEW_TYPEHASH = keccak256("Renew(bytes32 claimId,bytes32 lienId,bytes32 nonce,uint64 notAfter)");

struct AssignLienIntent {
    bytes32 claimId;
    bytes32 lienId;
    bytes32 counterparty; // the new holder's key
    bytes32 keySet; // the new holder's key set
    bytes32 loanRef;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant ASSIGN_LIEN_TYPEHASH = keccak256(
    "AssignLien(bytes32 claimId,bytes32 lienId,bytes32 counterparty,bytes32 keySet,bytes32 loanRef,bytes32 nonce,uint64 notAfter)"
);

struct FreezeLienIntent {
    bytes32 claimId;
    bytes32 lienId;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant FREEZE_LIEN_TYPEHASH =
    keccak256("FreezeLien(bytes32 claimId,bytes32 lienId,bytes32 nonce,uint64 notAfter)");

struct SettleFreeIntent {
    bytes32 claimId;
    uint16 version;
    uint24 newCap;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant SETTLE_FREE_TYPEHASH =
    keccak256("SettleFree(bytes32 claimId,uint16 version,uint24 newCap,bytes32 nonce,uint64 notAfter)");

struct SettleLienIntent {
    bytes32 claimId;
    uint16 version;
    bytes32 lienId;
    uint24 newLien;
    uint24 newCap; // floor of what remains of the payable
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant SETTLE_LIEN_TYPEHASH = keccak256(
    "SettleLien(bytes32 claimId,uint16 version,bytes32 lienId,uint24 newLien,uint24 newCap,bytes32 nonce,uint64 notAfter)"
);

struct CreditNoteIntent {
    bytes32 claimId;
    uint16 version;
    uint24 newCap;
    bytes32 evidence;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant CREDIT_NOTE_TYPEHASH = keccak256(
    "CreditNote(bytes32 claimId,uint16 version,uint24 newCap,bytes32 evidence,bytes32 nonce,uint64 notAfter)"
);

struct TransferIntent {
    bytes32 claimId;
    uint32 seq;
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 counterparty; // the assignee's key
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant TRANSFER_TYPEHASH = keccak256(
    "Transfer(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,bytes32 counterparty,bytes32 nonce,uint64 notAfter)"
);

struct SplitIntent {
    bytes32 claimId;
    uint32 seq;
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 counterparty; // the child's owner
    uint24 ppm;
    bytes32 liensHash; // keccak256 of the ids of the liens that move, ascending
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant SPLIT_TYPEHASH = keccak256(
    "Split(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,bytes32 counterparty,uint24 ppm,bytes32 liensHash,bytes32 nonce,uint64 notAfter)"
);

struct AmendIntent {
    bytes32 claimId;
    uint32 seq;
    bytes32 termsHash;
    bytes32 docRoot;
    uint16 dueWeek;
    uint24 newCap;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant AMEND_TYPEHASH = keccak256(
    "Amend(bytes32 claimId,uint32 seq,bytes32 termsHash,bytes32 docRoot,uint16 dueWeek,uint24 newCap,bytes32 nonce,uint64 notAfter)"
);

struct ReissueIntent {
    bytes32 claimId;
    uint32 seq;
    bytes32 draft; // the new document's draft
    bytes32 termsHash;
    bytes32 docRoot;
    bytes32 tagsHash;
    uint16 dueWeek;
    uint24 newCap;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant REISSUE_TYPEHASH = keccak256(
    "Reissue(bytes32 claimId,uint32 seq,bytes32 draft,bytes32 termsHash,bytes32 docRoot,bytes32 tagsHash,uint16 dueWeek,uint24 newCap,bytes32 nonce,uint64 notAfter)"
);

struct AddTagsIntent {
    bytes32 claimId;
    bytes32 draft; // commits to the tags, anchored before
    bytes32 tagsHash;
    bool officialNumber; // true: another official number; false: the tags of a newer epoch
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant ADD_TAGS_TYPEHASH = keccak256(
    "AddTags(bytes32 claimId,bytes32 draft,bytes32 tagsHash,bool officialNumber,bytes32 nonce,uint64 notAfter)"
);

struct VoidIntent {
    bytes32 claimId;
    uint32 seq;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant VOID_TYPEHASH = keccak256("Void(bytes32 claimId,uint32 seq,bytes32 nonce,uint64 notAfter)");

struct CancelIntent {
    bytes32 cancelled; // the nonce that must never be used
    uint64 notAfter;
}
bytes32 constant CANCEL_TYPEHASH = keccak256("Cancel(bytes32 cancelled,uint64 notAfter)");

struct NoticeIntent {
    bytes32 tag;
    bytes32 evidence;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant NOTICE_TYPEHASH = keccak256("Notice(bytes32 tag,bytes32 evidence,bytes32 nonce,uint64 notAfter)");

struct FreezeIntent {
    bytes32 claimId;
    bytes32 evidence;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant FREEZE_TYPEHASH =
    keccak256("Freeze(bytes32 claimId,bytes32 evidence,bytes32 nonce,uint64 notAfter)");

struct PauseIntent {
    bytes32 evidence;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant PAUSE_TYPEHASH = keccak256("Pause(bytes32 evidence,bytes32 nonce,uint64 notAfter)");

struct RevokeIntent {
    bytes32 keyId;
    bytes32 evidence;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant REVOKE_TYPEHASH = keccak256("Revoke(bytes32 keyId,bytes32 evidence,bytes32 nonce,uint64 notAfter)");

struct EpochIntent {
    uint16 epoch;
    bool open;
    bytes32 transcript; // hash of the key generation's transcript
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant EPOCH_TYPEHASH =
    keccak256("Epoch(uint16 epoch,bool open,bytes32 transcript,bytes32 nonce,uint64 notAfter)");

struct CouncilIntent {
    bytes32 membersHash;
    uint8 threshold;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant COUNCIL_TYPEHASH =
    keccak256("Council(bytes32 membersHash,uint8 threshold,bytes32 nonce,uint64 notAfter)");

struct RegistryIntent {
    bytes32 keyHash;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant REGISTRY_TYPEHASH = keccak256("Registry(bytes32 keyHash,bytes32 nonce,uint64 notAfter)");

struct VerifierIntent {
    address verifier;
    bool allowed;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant VERIFIER_TYPEHASH =
    keccak256("Verifier(address verifier,bool allowed,bytes32 nonce,uint64 notAfter)");

struct LimitsIntent {
    uint32 roots;
    uint64 leaves;
    uint32 notices;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant LIMITS_TYPEHASH =
    keccak256("Limits(uint32 roots,uint64 leaves,uint32 notices,bytes32 nonce,uint64 notAfter)");

struct RetireIntent {
    address successor;
    bytes32 nonce;
    uint64 notAfter;
}
bytes32 constant RETIRE_TYPEHASH = keccak256("Retire(address successor,bytes32 nonce,uint64 notAfter)");

bytes32 constant CERTIFICATE_TYPEHASH =
    keccak256("Certificate(uint8 role,bytes key,uint8 custodian,bytes32 keySet,uint64 expiry)");
