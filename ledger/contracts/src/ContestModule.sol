// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "./Anchors.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title What happens when two say different things: contend, adopt, withdraw, dispute, resolve.
contract ContestModule is Anchors {
    /// @notice A second owner contends a claim.
    event Contended(bytes32 indexed claimId, bytes32 indexed contender);
    /// @notice Liens and claim passed to the contender with all holders' consent.
    event Adopted(bytes32 indexed claimId, bytes32 indexed contender);
    /// @notice A contender gave up.
    event Withdrawn(bytes32 indexed contender);
    /// @notice An obligor denies an attested claim, renews or withdraws its denial.
    event Disputed(bytes32 indexed claimId, bytes32 indexed obligor, uint8 step, uint32 until, bytes32 evidence);
    /// @notice The council decided; what it struck is closed as contested.
    event Resolved(bytes32 indexed claimId, uint8 verdict, bytes32 evidence);
    /// @notice A claim that a contender got.
    event Confirmed(bytes32 indexed claimId, bytes32 indexed owner, bytes32 indexed obligor, bytes32 tagsHash);

    /// @notice Contend what another owner had attested. The contender gets no tag and no capacity yet.
    /// @param i the statement, signed by all.
    /// @param owner the second owner.
    /// @param obligor the debtor.
    /// @param member a member that compared document and certificates.
    /// @param place the contender's own draft.
    /// @param sets its tags in every live epoch.
    function contend(
        ContendIntent calldata i,
        Signer calldata owner,
        Signer calldata obligor,
        Signer calldata member,
        Opening calldata place,
        TagSet[] calldata sets
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(CONTEND_TYPEHASH, i)));
        bytes32 ownerKey = _spend(owner, i.nonce, i.notAfter, digest);
        _certified(owner, ROLE_SUPPLIER, digest);
        _named(obligor, ROLE_OBLIGOR, i.counterparty, digest);
        _certified(member, ROLE_MEMBER, digest);
        _openDraft(i.claimId, ownerKey, i.tagsHash, i.termsHash, i.docRoot, i.contractTag, place);
        if (keccak256(abi.encode(sets)) != i.tagsHash) revert DraftMismatch(i.claimId);
        if (_contenders[i.claimId].status != 0) revert ContenderExists(i.claimId, i.claimId);
        if (_claims[i.claimId].grade != 0) {
            revert WrongState(i.claimId, _claims[i.claimId].grade, _claims[i.claimId].end);
        }
        if (i.contractTag == 0) revert ContractTagMissing();
        _checkDue(i.dueWeek);
        _checkSets(sets);
        bytes32 bodyHash = keccak256(
            abi.encode(Body(ownerKey, i.counterparty, i.termsHash, i.docRoot, i.contractTag, 0))
        );
        _contenders[i.claimId] = Contender(bodyHash, i.tagsHash, i.counterparty, i.dueWeek, CONTENDER_OPEN);
        _hitAll(i.claimId, ownerKey, sets);
    }

    /// @notice End a conflict by agreement: the claim goes to the contender, its liens stay.
    /// @param i the statement, signed by all.
    /// @param owner the contender.
    /// @param obligor its debtor.
    /// @param holders all holders.
    /// @param body what the claim is about.
    /// @param next what the contender said.
    /// @param sets the contender's tags.
    function adopt(
        AdoptIntent calldata i,
        Signer calldata owner,
        Signer calldata obligor,
        HolderAuth[] calldata holders,
        Body calldata body,
        Body calldata next,
        TagSet[] calldata sets
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(ADOPT_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        Claim memory c = _live(i.claimId);
        _shown(i.claimId, body);
        if (c.flags & FLAG_CONFLICT == 0 || _contests[i.claimId] != i.contender) revert NoContender(i.claimId);
        if (c.seq != i.seq) revert StaleSeq(c.seq, i.seq);
        Contender storage k = _openContender(i.contender, next);
        if (keccak256(abi.encode(sets)) != k.tagsHash) revert DraftMismatch(i.contender);
        _owner(owner, next.owner, digest);
        _obligor(obligor, next.obligor, digest);
        _allHolders(i.claimId, c.liens, holders, digest);
        uint256 added = 0;
        for (uint256 n = 0; n < sets[0].tags.length; ++n) {
            if (_taken(sets[0].tags[n]) == 0) ++added;
        }
        if (c.aliases + added > MAX_TAGS) revert TooManyTags(c.aliases + added);
        c.aliases += uint8(added);
        _claimTags(i.claimId, sets);
        k.status = CONTENDER_ADOPTED;
        delete _contests[i.claimId];
        c.flags &= ~FLAG_CONFLICT;
        c.grade = GRADE_CONFIRMED;
        c.lapseWeek = 0;
        c.disputeUntil = 0;
        c.dueWeek = k.dueWeek;
        c.version += 1;
        uint24 pledged = c.pledged;
        _setPledged(c, body.contractTag, 0);
        _setPledged(c, next.contractTag, pledged);
        _setBody(i.claimId, next);
        _save(i.claimId, c);
        emit Adopted(i.claimId, i.contender);
    }

    /// @notice Give a contention up.
    /// @param i the statement.
    /// @param owner the contender.
    /// @param obligor its debtor.
    /// @param next what the contender said.
    /// @param hits the claims to clear at once; others clear when touched.
    function withdraw(
        WithdrawIntent calldata i,
        Signer calldata owner,
        Signer calldata obligor,
        Body calldata next,
        bytes32[] calldata hits
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(WITHDRAW_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        Contender storage k = _openContender(i.contender, next);
        _owner(owner, next.owner, digest);
        _obligor(obligor, next.obligor, digest);
        k.status = CONTENDER_WITHDRAWN;
        for (uint256 n = 0; n < hits.length; ++n) {
            if (_contests[hits[n]] != i.contender) revert NoContender(hits[n]);
            _requireHere(hits[n]);
            delete _contests[hits[n]];
            Claim memory c = _claims[hits[n]];
            c.flags &= ~FLAG_CONFLICT;
            _write(hits[n], c);
        }
        emit Withdrawn(i.contender);
    }

    /// @notice Deny an attested claim, renew the denial, or take it back. Once per obligor key; lapses in 30 days.
    /// @param i the statement.
    /// @param obligor the debtor's key.
    /// @param members for opening: a member without interest that compared the document; else empty.
    function dispute(DisputeIntent calldata i, Signer calldata obligor, Signer[] calldata members) external {
        bytes32 digest = _digest(keccak256(abi.encode(DISPUTE_TYPEHASH, i)));
        bytes32 keyId = _spend(obligor, i.nonce, i.notAfter, digest);
        _certified(obligor, ROLE_OBLIGOR, digest);
        Claim memory c = _live(i.claimId);
        if (c.grade != GRADE_ATTESTED) revert WrongState(i.claimId, c.grade, c.end);
        if (c.version != i.version) revert StaleVersion(c.version, i.version);
        bool active = c.disputeUntil > block.timestamp;
        if (i.step == DISPUTE_OPEN) {
            if (!i.noInterest) revert InterestNotExcluded();
            if (members.length != 1) revert NotMember(0);
            _certified(members[0], ROLE_MEMBER, digest);
            bytes32 slot = keccak256(abi.encode(i.claimId, keyId));
            if (_disputes[slot] || active) revert DisputeUsed(keyId);
            _disputes[slot] = true;
            _disputants[i.claimId] = keyId;
            if (_flags(c) & FLAG_CONFLICT == 0) _accounts[i.claimId].flaggedAt = uint40(block.timestamp);
        } else {
            if (i.step != DISPUTE_RENEW && i.step != DISPUTE_WITHDRAW) revert BadVerdict(i.step);
            if (!active || _disputants[i.claimId] != keyId) revert NotObligor(_disputants[i.claimId], keyId);
        }
        c.disputeUntil = i.step == DISPUTE_WITHDRAW ? 0 : uint32(block.timestamp + DISPUTE_LIFETIME);
        _save(i.claimId, c);
        emit Disputed(i.claimId, keyId, i.step, c.disputeUntil, i.evidence);
    }

    /// @notice Two thirds of the council end a conflict or a dispute, 14 days after it was raised: thaw, or strike
    /// an attested claim. The only act of the council that closes liens or moves tags.
    /// @param i the statement.
    /// @param council signatures.
    /// @param body what the claim is about.
    /// @param lienIds all live liens when striking.
    /// @param next what the contender said, if there is one.
    /// @param sets the contender's tags.
    function resolve(
        ResolveIntent calldata i,
        CouncilSignature[] calldata council,
        Body calldata body,
        bytes32[] calldata lienIds,
        Body calldata next,
        TagSet[] calldata sets
    ) external {
        _decided(i, council);
        (Claim memory c, bytes32 contender) = _resolvable(i, body);
        if (i.verdict == VERDICT_THAW) {
            if (contender != 0) _contenders[contender].status = CONTENDER_LOST;
            _write(i.claimId, c);
        } else {
            _strike(i.claimId, c, body.contractTag, lienIds);
            if (contender != 0) _award(contender, next, sets);
        }
        emit Resolved(i.claimId, i.verdict, i.evidence);
    }

    /// @dev Two thirds of the council signed, each without an interest of its own.
    function _decided(ResolveIntent calldata i, CouncilSignature[] calldata council) private {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(RESOLVE_TYPEHASH, i))));
        if (!i.noInterest) revert InterestNotExcluded();
        if (i.verdict != VERDICT_THAW && i.verdict != VERDICT_STRIKE) revert BadVerdict(i.verdict);
    }

    /// @dev A claim in CONFLICT or DISPUTED for 14 days, with both flags taken down in memory.
    /// @return c the claim.
    /// @return contender who contends it, if that is still open.
    function _resolvable(ResolveIntent calldata i, Body calldata body)
        private
        returns (Claim memory c, bytes32 contender)
    {
        _requireHere(i.claimId);
        c = _claims[i.claimId];
        _shown(i.claimId, body);
        bool conflict = c.flags & FLAG_CONFLICT != 0 && !_contestOver(i.claimId);
        bool disputed = c.disputeUntil > block.timestamp && c.end == END_LIVE;
        if (c.end == END_VOID || _lapsed(c) || !(conflict || disputed)) revert WrongState(i.claimId, c.grade, c.end);
        if (i.verdict == VERDICT_STRIKE && c.grade != GRADE_ATTESTED) {
            revert WrongState(i.claimId, c.grade, c.end);
        }
        if (c.seq != i.seq) revert StaleSeq(c.seq, i.seq);
        uint256 ready = _accounts[i.claimId].flaggedAt + RESOLVE_AFTER;
        if (block.timestamp < ready) revert TooEarly(ready);
        if (conflict && _contenders[_contests[i.claimId]].status == CONTENDER_OPEN) contender = _contests[i.claimId];
        delete _contests[i.claimId];
        c.flags &= ~FLAG_CONFLICT;
        c.disputeUntil = 0;
    }

    /// @dev Flag every attested claim that holds one of the contender's tags.
    function _hitAll(bytes32 contender, bytes32 ownerKey, TagSet[] calldata sets) private {
        uint256 hits = 0;
        for (uint256 n = 0; n < sets.length; ++n) {
            for (uint256 m = 0; m < sets[n].tags.length; ++m) {
                bytes32 id = _taken(sets[n].tags[m]);
                if (id == 0 || _contests[id] == contender) continue;
                _hit(id, sets[n].tags[m], contender, ownerKey);
                ++hits;
            }
        }
        if (hits == 0) revert NothingContended();
    }

    /// @dev Flag one claim.
    function _hit(bytes32 id, bytes32 tag, bytes32 contender, bytes32 ownerKey) private {
        _requireHere(id);
        Claim memory c = _claims[id];
        if (c.grade != GRADE_ATTESTED) revert TagTaken(tag, id);
        if (c.flags & FLAG_CONFLICT != 0 && !_contestOver(id)) revert ContenderExists(id, _contests[id]);
        if (_formerOwners[keccak256(abi.encode(id, ownerKey))]) revert FormerOwner(ownerKey);
        _contests[id] = contender;
        c.flags |= FLAG_CONFLICT;
        _accounts[id].flaggedAt = uint40(block.timestamp);
        _write(id, c);
        emit Contended(id, contender);
    }

    /// @dev A contender that is still open, with what it said.
    function _openContender(bytes32 contender, Body calldata next) private view returns (Contender storage k) {
        k = _contenders[contender];
        if (k.status != CONTENDER_OPEN) revert NoContender(contender);
        if (keccak256(abi.encode(next)) != k.bodyHash) revert BodyMismatch(contender);
    }

    /// @dev Close all liens as contested and end the claim; its tags are free.
    function _strike(bytes32 id, Claim memory c, bytes32 contractTag, bytes32[] calldata lienIds) private {
        if (lienIds.length != c.liens) revert LiensMismatch(id);
        bytes32 last = 0;
        for (uint256 n = 0; n < lienIds.length; ++n) {
            Lien storage lien = _liens[id][lienIds[n]];
            if (lienIds[n] <= last || lien.status != LIEN_LIVE) revert LiensMismatch(id);
            last = lienIds[n];
            lien.ppm = 0;
            lien.status = LIEN_CONTESTED;
            emit LienSet(id, last, 0, LIEN_CONTESTED, lien.holder);
        }
        _setPledged(c, contractTag, 0);
        c.liens = 0;
        c.flags = 0;
        if (c.end == END_LIVE) _leaveEpoch(c);
        c.end = END_VOID;
        _write(id, c);
    }

    /// @dev Give the tags to the contender once none of them is held any more; owner and obligor signed its claim
    /// when they contended. After a change of epochs it confirms anew instead: the tags are free.
    function _award(bytes32 contender, Body calldata next, TagSet[] calldata sets) private {
        Contender storage k = _openContender(contender, next);
        if (keccak256(abi.encode(sets)) != k.tagsHash) revert DraftMismatch(contender);
        if (sets[0].epoch != _oldestEpoch || sets[sets.length - 1].epoch != _newestEpoch) return;
        for (uint256 n = 0; n < sets.length; ++n) {
            for (uint256 m = 0; m < sets[n].tags.length; ++m) {
                if (_taken(sets[n].tags[m]) != 0) return;
            }
        }
        k.status = CONTENDER_ADOPTED;
        _open(contender, GRADE_CONFIRMED, k.dueWeek, sets[0].tags.length, next, sets, 0);
        emit Confirmed(contender, next.owner, next.obligor, k.tagsHash);
    }
}
