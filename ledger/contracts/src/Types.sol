// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// What every module of the ledger agrees on: constants and records in storage.
// Amounts are parts per million of the first committed payable. No amount, currency, exact date,
// tax id or name ever reaches the chain.

// The whole of a payable.
uint24 constant FULL = 1_000_000;

// Roles of a certificate; exactly one bit each.
uint8 constant ROLE_SUPPLIER = 1;
uint8 constant ROLE_OBLIGOR = 2;
uint8 constant ROLE_BANK = 4;
uint8 constant ROLE_MEMBER = 8;
// An owner is a supplier, or a bank that bought the receivable.
uint8 constant ROLES_OWNER = ROLE_SUPPLIER | ROLE_BANK;

// Who keeps a key.
uint8 constant CUSTODIAN_SELF = 0;
uint8 constant CUSTODIAN_NEUTRAL = 1;
uint8 constant CUSTODIAN_BANK = 2;

// Grades of a claim.
uint8 constant GRADE_ATTESTED = 1;
uint8 constant GRADE_CONFIRMED = 2;

// Flags; a claim with any flag is frozen.
uint8 constant FLAG_SHORT = 1;
uint8 constant FLAG_CONFLICT = 2;
uint8 constant FLAG_DISPUTED = 4;
uint8 constant FLAG_HOLD = 8;

// Ends of a claim.
uint8 constant END_LIVE = 0;
uint8 constant END_SETTLED = 1;
uint8 constant END_VOID = 2;

// States of a lien.
uint8 constant LIEN_LIVE = 1;
uint8 constant LIEN_RELEASED = 2;
uint8 constant LIEN_SETTLED = 3;
uint8 constant LIEN_CONTESTED = 4;

// States of a contender.
uint8 constant CONTENDER_OPEN = 1;
uint8 constant CONTENDER_ADOPTED = 2;
uint8 constant CONTENDER_WITHDRAWN = 3;
uint8 constant CONTENDER_LOST = 4;

// Kinds of an anchored root.
uint8 constant ANCHOR_DRAFTS = 1;
uint8 constant ANCHOR_TICKETS = 2;
uint8 constant ANCHOR_EVIDENCE = 3;

// Verdicts of the council.
uint8 constant VERDICT_THAW = 1;
uint8 constant VERDICT_STRIKE = 2;

// Steps of a dispute.
uint8 constant DISPUTE_OPEN = 1;
uint8 constant DISPUTE_RENEW = 2;
uint8 constant DISPUTE_WITHDRAW = 3;

// The explicit statement that no framework contract stands behind a receivable; zero is refused.
bytes32 constant NO_CONTRACT = keccak256("concordat.contract-tag.none");

uint256 constant MAX_TAGS = 4;
uint256 constant MAX_LIVE_EPOCHS = 2;
uint256 constant DRAFT_LIFETIME = 30 days;
uint256 constant DUE_WEEKS_AHEAD = 53;
uint16 constant ATTESTED_WEEKS = 26;
uint256 constant DISPUTE_LIFETIME = 30 days;
uint256 constant RESOLVE_AFTER = 14 days;
uint256 constant HOLD_LIFETIME = 7 days;
uint256 constant PAUSE_LIFETIME = 72 hours;
uint256 constant PAUSE_COOLDOWN = 72 hours;
uint256 constant RETIRE_NOTICE = 14 days;

// Gas that a signing contract or a verifier may use; P-256 in plain Solidity needs about 350,000.
uint256 constant SIGNATURE_GAS = 600_000;
// The most gas one item of a batch may be given.
uint256 constant MAX_ITEM_GAS = 6_000_000;
uint256 constant MAX_BATCH = 200;

/// @dev The packed slot of a claim: one word, provable by EIP-1186.
struct Claim {
    uint24 cap; // what the receivable still carries
    uint24 pledged; // sum of the live liens
    uint32 seq; // every change of state
    uint16 version; // changes of owner, obligor or terms
    uint16 dueWeek; // seconds since 1970 / 604,800, rounded up
    uint16 lapseWeek; // the last week of an attested claim; 0 for a confirmed one
    uint8 grade;
    uint8 flags; // SHORT and CONFLICT; HOLD and DISPUTED follow from the two times
    uint8 end;
    uint8 liens; // live liens
    uint8 children; // claims split off that were not voided
    uint8 aliases; // tags per epoch
    uint16 epoch; // newest epoch in which the claim holds tags; 0 for a child
    uint32 holdUntil;
    uint32 disputeUntil;
}

/// @dev Where capacity went; cap + settled + transferred + credited = FULL - absent, exactly.
struct Account {
    uint24 absent; // what a child never had: FULL - its part
    uint24 settled;
    uint24 transferred;
    uint24 credited;
    uint40 flaggedAt; // when CONFLICT or DISPUTED was raised
}

/// @dev What a claim is about. Storage keeps its hash only; a caller shows the fields, events carry them.
struct Body {
    bytes32 owner; // keccak256 of the key's bytes
    bytes32 obligor; // zero while attested
    bytes32 termsHash; // salted commitment: payable, parties, collection account, waivers
    bytes32 docRoot; // Merkle root over the salted fields of the documents
    bytes32 contractTag; // a framework contract's tag, or NO_CONTRACT
    bytes32 root; // for a child: the claim that holds the tags; else zero
}

/// @dev One bank's lien. The holder is kept as keccak256(key id, key-set hash).
struct Lien {
    uint24 ppm;
    uint8 status;
    uint40 frozenUntil;
    bytes32 holder;
}

/// @dev A second owner of what somebody else had attested.
struct Contender {
    bytes32 bodyHash;
    bytes32 tagsHash;
    bytes32 obligor;
    uint16 dueWeek;
    uint8 status;
}

/// @dev When a member anchored a root.
struct Anchored {
    uint64 number;
    uint64 time;
}

/// @dev What a member used up today.
struct Quota {
    uint32 day;
    uint32 roots;
    uint64 leaves;
    uint32 notices;
}

/// @dev The tags of one epoch, ascending.
struct TagSet {
    uint16 epoch;
    bytes32[] tags;
}

/// @dev A signature with the certificate of its key.
struct Signer {
    uint8 role;
    uint8 custodian;
    uint64 expiry;
    bytes32 keySet;
    bytes key; // 20 bytes: an account or an EIP-1271 contract; longer: ERC-7913 verifier and key
    bytes certificate; // the registry's signature
    bytes signature;
}

/// @dev The consent of a lien's holder: its key, or two of its key set where it has one.
struct HolderAuth {
    bytes32 lienId;
    bytes32 holder;
    bytes32[] keySet;
    Signer[] signers;
}

/// @dev Who asks for more tags of a claim: owner, or a holder; with a comparing member or without.
struct TagSigners {
    Signer[] owners;
    HolderAuth[] holders;
    Signer[] members;
}

/// @dev Where a leaf lies in a root that a member anchored.
struct Opening {
    bytes32 salt;
    bytes32 member;
    bytes32 root;
    uint32 count;
    uint32 index;
    bytes32[] path;
}

/// @dev One signature of a council member.
struct CouncilSignature {
    bytes key;
    bytes signature;
}

/// @dev The state of a claim as it counts now.
struct Status {
    bool known;
    uint8 grade;
    uint8 flags;
    uint8 end; // a lapsed attested claim reads as void
    uint24 cap;
    uint24 pledged;
    uint24 free;
    uint24 original;
    uint24 settled;
    uint24 transferred;
    uint24 credited;
    uint32 seq;
    uint16 version;
    uint16 dueWeek;
    uint16 lapseWeek;
    uint8 liens;
    uint8 children;
    uint8 aliases;
    uint16 epoch;
    bytes32 bodyHash;
    bytes32 contender;
    uint32 holdUntil;
    uint32 disputeUntil;
}
