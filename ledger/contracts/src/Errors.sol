// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// Every refusal of the ledger, with what a caller needs to understand it.
// A refusal names the conflict, never the other bank.

// Signatures, keys, time
error AlreadyApplied(bytes32 digest);
error NonceUsed(bytes32 nonce);
error ConsentUsed(bytes32 consent);
error ConsentExpired(uint64 notAfter);
error ConsentNotYet(uint64 notBefore);
error ConsentMismatch(bytes32 expected, bytes32 given);
error OverConsent(uint24 maxPpm, uint24 ppm);
error SignatureExpired(uint64 notAfter);
error BadSignature(bytes32 keyId);
error BadCertificate(bytes32 keyId);
error CertificateExpired(bytes32 keyId, uint64 expiry);
error CertificateRevoked(bytes32 keyId, uint64 since);
error WrongRole(uint8 given, uint8 allowed);
error CustodianConflict(bytes32 keyId);
error CouncilKey(bytes32 keyId);
error VerifierNotAllowed(address verifier);
error InsufficientGas(uint256 needed);
error UnknownSelector(bytes4 selector);

// Anchors and drafts
error QuotaExceeded(bytes32 member, uint64 limit);
error RootKnown(bytes32 anchorId);
error BadAnchor(uint8 kind, uint32 count);
error NotAnchored(bytes32 anchorId);
error NotIncluded(bytes32 leaf);
error CommitTooYoung(uint64 anchoredAt);
error CommitExpired(uint64 anchoredAt);
error DraftMismatch(bytes32 claimId);
error NoTicket(bytes32 ticket);

// Tags and epochs
error TagTaken(bytes32 tag, bytes32 claimId);
error TagMismatch(bytes32 tag, bytes32 claimId);
error TagsMalformed();
error TooManyTags(uint256 given);
error EpochMismatch(uint16 expected, uint16 given);
error ContractTagMissing();
error ContractEncumbered(bytes32 contractTag, bytes32 claimId);

// Claims
error WrongState(bytes32 claimId, uint8 grade, uint8 end);
error Frozen(bytes32 claimId, uint8 flags);
error BodyMismatch(bytes32 claimId);
error StaleSeq(uint32 current, uint32 given);
error StaleVersion(uint16 current, uint16 given);
error NotOwner(bytes32 expected, bytes32 given);
error NotObligor(bytes32 expected, bytes32 given);
error WrongCounterparty(bytes32 expected, bytes32 given);
error Overdue(uint16 dueWeek);
error DueTooFar(uint16 dueWeek);
error ZeroPpm();
error TooMany(bytes32 claimId);

// Capacity and liens
error OverCapacity(uint24 free);
error OverFree(uint24 free);
error OverLien(uint24 lien);
error BelowPledged(uint24 pledged);
error NotLower(uint24 cap);
error RaiseNeedsNewClaim(uint24 cap);
error Encumbered(bytes32 claimId, uint24 pledged, uint8 children);
error NotHolder(bytes32 lienId);
error LienEnded(bytes32 lienId, uint8 status);
error LienFrozen(bytes32 lienId, uint40 until);
error MissingHolder(bytes32 claimId, uint256 missing);
error LiensMismatch(bytes32 claimId);

// Contests
error ContenderExists(bytes32 claimId, bytes32 contender);
error NoContender(bytes32 claimId);
error NothingContended();
error FormerOwner(bytes32 keyId);
error DisputeUsed(bytes32 obligor);
error NotMember(bytes32 keyId);
error TooEarly(uint256 notBefore);
error BadVerdict(uint8 verdict);
error InterestNotExcluded();

// Council and versions
error Paused(uint64 until);
error Cooldown(uint256 until);
error CouncilTooFew(uint256 given, uint256 needed);
error NotCouncil(bytes32 keyId);
error BadCouncil();
error EpochInUse(uint16 epoch, uint32 claims);
error EpochLimit(uint16 epoch);
error Moved(address successor);
error Retired(address successor);
error NotRetired();
error AlreadyImported(bytes32 claimId);
error NotRoot(bytes32 claimId);
