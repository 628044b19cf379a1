// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "./Anchors.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title Liens: pledge, release, renew, assign, freeze.
contract LienModule is Anchors {
    /// @notice A lien was taken.
    event Pledged(bytes32 indexed claimId, bytes32 indexed lienId, uint24 ppm, bytes32 loanRef);
    /// @notice An attested claim lives on until this week.
    event Renewed(bytes32 indexed claimId, uint16 lapseWeek);
    /// @notice A lien changed hands.
    event LienAssigned(bytes32 indexed claimId, bytes32 indexed lienId, bytes32 loanRef);
    /// @notice A lien is frozen by a second key of its holder.
    event LienFrozenUntil(bytes32 indexed claimId, bytes32 indexed lienId, uint40 until);

    /// @notice Take a lien on what is free, with the owner's consent to this bank and this loan.
    /// @param consent the owner's statement.
    /// @param i the bank's statement.
    /// @param owner the owner.
    /// @param bank the pledgee.
    /// @param body what the claim is about.
    /// @param sets the tags as the bank derived them.
    /// @return lienId the consent's digest.
    function pledge(
        PledgeConsent calldata consent,
        PledgeIntent calldata i,
        Signer calldata owner,
        Signer calldata bank,
        Body calldata body,
        TagSet[] calldata sets
    ) external returns (bytes32 lienId) {
        lienId = _digest(keccak256(abi.encode(PLEDGE_CONSENT_TYPEHASH, consent)));
        bytes32 digest = _digest(keccak256(abi.encode(PLEDGE_TYPEHASH, i)));
        if (i.consent != lienId) revert ConsentMismatch(lienId, i.consent);
        _useConsent(consent, keccak256(owner.key), lienId, digest);
        _running();
        if (block.timestamp > i.notAfter) revert SignatureExpired(i.notAfter);
        if (consent.custodian == consent.holder) revert CustodianConflict(consent.custodian);
        Claim memory c = _live(consent.claimId);
        _shown(consent.claimId, body);
        _checkConsent(consent, i, c, body);
        _owner(owner, body.owner, lienId);
        _named(bank, ROLE_BANK, consent.holder, digest);
        _thawed(consent.claimId, c);
        if (_week() > c.dueWeek) revert Overdue(c.dueWeek);
        if (i.ppm > c.cap - c.pledged) revert OverCapacity(c.cap - c.pledged);
        _checkContract(body.contractTag);
        _checkUnder(sets);
        if (body.root == 0) {
            _matchTags(consent.claimId, c, i.tagsHash, sets);
        } else {
            // A child's document is its root's: the same tags, the same freezes.
            Claim memory root = _claims[body.root];
            _thawed(body.root, root);
            if (_matchTags(body.root, root, i.tagsHash, sets)) _write(body.root, root);
        }
        if (c.liens == type(uint8).max) revert TooMany(consent.claimId);
        c.liens += 1;
        _setPledged(c, body.contractTag, c.pledged + i.ppm);
        bytes32 holder = _holderRef(consent.holder, bank.keySet);
        _liens[consent.claimId][lienId] = Lien(i.ppm, LIEN_LIVE, 0, holder);
        _save(consent.claimId, c);
        emit LienSet(consent.claimId, lienId, i.ppm, LIEN_LIVE, holder);
        emit Pledged(consent.claimId, lienId, i.ppm, consent.loanRef);
    }

    /// @notice Give a lien up. Nothing blocks it but the holder's own freeze of this lien.
    /// @param i the statement.
    /// @param holder the holder.
    /// @param body what the claim is about.
    function release(ReleaseIntent calldata i, HolderAuth calldata holder, Body calldata body) external {
        bytes32 digest = _digest(keccak256(abi.encode(RELEASE_TYPEHASH, i)));
        if (holder.signers.length == 0 || holder.lienId != i.lienId) revert NotHolder(i.lienId);
        _spend(holder.signers[0], i.nonce, i.notAfter, digest);
        Claim memory c = _live(i.claimId);
        _shown(i.claimId, body);
        Lien storage lien = _holder(i.claimId, holder, digest);
        if (lien.frozenUntil > block.timestamp) revert LienFrozen(i.lienId, lien.frozenUntil);
        c.liens -= 1;
        _setPledged(c, body.contractTag, c.pledged - lien.ppm);
        lien.ppm = 0;
        lien.status = LIEN_RELEASED;
        _save(i.claimId, c);
        emit LienSet(i.claimId, i.lienId, 0, LIEN_RELEASED, lien.holder);
    }

    /// @notice Keep an attested claim alive for another 26 weeks from now.
    /// @param i the statement.
    /// @param holder a holder of the claim.
    function renew(RenewIntent calldata i, HolderAuth calldata holder) external {
        bytes32 digest = _digest(keccak256(abi.encode(RENEW_TYPEHASH, i)));
        if (holder.signers.length == 0 || holder.lienId != i.lienId) revert NotHolder(i.lienId);
        _spend(holder.signers[0], i.nonce, i.notAfter, digest);
        Claim memory c = _live(i.claimId);
        if (c.grade != GRADE_ATTESTED) revert WrongState(i.claimId, c.grade, c.end);
        _holder(i.claimId, holder, digest);
        uint16 until = uint16(_week()) + ATTESTED_WEEKS;
        if (until > c.lapseWeek) c.lapseWeek = until;
        _save(i.claimId, c);
        emit Renewed(i.claimId, c.lapseWeek);
    }

    /// @notice Pass a lien on; also how a bank moves its liens off a stolen key. Never blocked.
    /// @param i the statement, signed by both.
    /// @param holder the holder.
    /// @param next the new holder.
    function assignLien(AssignLienIntent calldata i, HolderAuth calldata holder, Signer calldata next) external {
        bytes32 digest = _digest(keccak256(abi.encode(ASSIGN_LIEN_TYPEHASH, i)));
        if (holder.signers.length == 0 || holder.lienId != i.lienId) revert NotHolder(i.lienId);
        _spend(holder.signers[0], i.nonce, i.notAfter, digest);
        Claim memory c = _live(i.claimId);
        Lien storage lien = _holder(i.claimId, holder, digest);
        _named(next, ROLE_BANK, i.counterparty, digest);
        if (next.keySet != i.keySet) revert NotHolder(i.lienId);
        lien.holder = _holderRef(i.counterparty, i.keySet);
        lien.frozenUntil = 0;
        _save(i.claimId, c);
        emit LienSet(i.claimId, i.lienId, lien.ppm, LIEN_LIVE, lien.holder);
        emit LienAssigned(i.claimId, i.lienId, i.loanRef);
    }

    /// @notice Freeze one's own lien for seven days by another key of the holder's set. Only assignment, by
    /// two keys, goes on: that is the way to a new key.
    /// @param i the statement.
    /// @param holder the holder's key.
    /// @param keySet its key set.
    /// @param second a key of the set other than the holder's.
    function freezeLien(
        FreezeLienIntent calldata i,
        bytes32 holder,
        bytes32[] calldata keySet,
        Signer calldata second
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(FREEZE_LIEN_TYPEHASH, i)));
        bytes32 keyId = _spend(second, i.nonce, i.notAfter, digest);
        _live(i.claimId);
        Lien storage lien = _liens[i.claimId][i.lienId];
        if (lien.status != LIEN_LIVE) revert LienEnded(i.lienId, lien.status);
        if (_holderRef(holder, keccak256(abi.encode(keySet))) != lien.holder) revert NotHolder(i.lienId);
        bool member = false;
        for (uint256 n = 0; n < keySet.length; ++n) member = member || keySet[n] == keyId;
        if (!member || keyId == holder) revert NotHolder(i.lienId);
        _certified(second, ROLE_BANK, digest);
        lien.frozenUntil = uint40(block.timestamp + HOLD_LIFETIME);
        emit LienFrozenUntil(i.claimId, i.lienId, lien.frozenUntil);
    }

    /// @dev A consent is used once; the very same pledge again is told apart from another use of it.
    function _useConsent(PledgeConsent calldata consent, bytes32 owner, bytes32 lienId, bytes32 digest) private {
        bytes32 slot = keccak256(abi.encode(owner, consent.nonce));
        bytes32 before = _spent[slot];
        if (before == digest) revert AlreadyApplied(lienId);
        if (before != 0) revert ConsentUsed(lienId);
        if (block.timestamp > consent.notAfter) revert ConsentExpired(consent.notAfter);
        if (block.timestamp < consent.notBefore) revert ConsentNotYet(consent.notBefore);
        _spent[slot] = digest;
    }

    /// @dev What the owner consented to must be what stands and what the bank takes.
    function _checkConsent(
        PledgeConsent calldata consent,
        PledgeIntent calldata i,
        Claim memory c,
        Body calldata body
    ) private pure {
        if (consent.version != c.version) revert StaleVersion(c.version, consent.version);
        bool same = i.claimId == consent.claimId && consent.termsHash == body.termsHash
            && consent.docRoot == body.docRoot && consent.contractTag == body.contractTag;
        if (!same) revert BodyMismatch(consent.claimId);
        if (i.ppm == 0) revert ZeroPpm();
        if (i.ppm > consent.maxPpm) revert OverConsent(consent.maxPpm, i.ppm);
    }

    /// @dev The bank derived the tags itself: each must be this document's or free, and one at least its own.
    /// Free ones are added, at most four an epoch; a full set in a newer epoch moves the claim there.
    function _matchTags(bytes32 id, Claim memory root, bytes32 tagsHash, TagSet[] calldata sets)
        private
        returns (bool changed)
    {
        if (keccak256(abi.encode(sets)) != tagsHash) revert TagsMalformed();
        uint256 perEpoch = _checkSets(sets);
        uint256 matched = 0;
        uint256 added = 0;
        for (uint256 n = 0; n < sets.length; ++n) {
            uint256 fresh = _matchSet(id, sets[n]);
            if (sets[n].epoch > root.epoch) continue;
            matched += perEpoch - fresh;
            if (n != 0 && fresh != added) revert TagsMalformed();
            added = fresh;
        }
        if (matched == 0) revert TagMismatch(sets[0].tags[0], 0);
        if (root.aliases + added > MAX_TAGS) revert TooManyTags(root.aliases + added);
        changed = added != 0;
        root.aliases += uint8(added);
        if (root.epoch < _newestEpoch && perEpoch == root.aliases) {
            _moveEpoch(root, _newestEpoch);
            changed = true;
        }
    }

    /// @dev Match the tags of one epoch and claim the free ones.
    /// @return fresh how many were free.
    function _matchSet(bytes32 id, TagSet calldata set) private returns (uint256 fresh) {
        for (uint256 m = 0; m < set.tags.length; ++m) {
            bytes32 tag = set.tags[m];
            bytes32 other = _taken(tag);
            if (other == id) continue;
            if (other != 0) revert TagMismatch(tag, other);
            claimOf[tag] = id;
            ++fresh;
            emit TagClaimed(tag, id, set.epoch);
        }
    }
}
