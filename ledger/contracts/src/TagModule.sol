// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors, IPredecessor} from "./Anchors.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title Tags after the first: another official number, a newer epoch, a reissued document; and migration.
contract TagModule is Anchors {
    /// @notice A document was reissued under new tags; the old ones stay with the claim.
    event Reissued(bytes32 indexed claimId, uint16 version, bytes32 tagsHash, uint24 cap);
    /// @notice A claim met a tag of another claim.
    event TagCollision(bytes32 indexed tag, bytes32 indexed claimId, bytes32 indexed other);
    /// @notice A claim of the version before goes on here.
    event Imported(bytes32 indexed claimId);

    /// @notice Add another official number (all live epochs), or the tags of a newer epoch. A taken tag does not
    /// revert: it puts CONFLICT on this claim and, where a comparing member signed, on the other one too.
    /// Allowed on settled claims, so that a paid document stays known in the next epoch.
    /// @param i the statement, signed by all.
    /// @param by who signed: the owner, or a holder; and a comparing member, needed with a holder.
    /// @param body what the claim is about.
    /// @param place where the first signer's draft of the tags was anchored.
    /// @param sets the tags.
    function addTags(
        AddTagsIntent calldata i,
        TagSigners calldata by,
        Body calldata body,
        Opening calldata place,
        TagSet[] calldata sets
    ) external {
        Claim memory c = _claims[i.claimId];
        if (c.grade == 0 || c.end == END_VOID || _lapsed(c)) revert WrongState(i.claimId, c.grade, c.end);
        bytes32 first = _firstSigner(i, by, body.owner);
        _requireHere(i.claimId);
        _shown(i.claimId, body);
        if (body.root != 0) revert NotRoot(i.claimId);
        _openDraft(i.draft, first, i.tagsHash, body.termsHash, body.docRoot, body.contractTag, place);
        _countTags(i, c, sets);
        _addAll(i.claimId, c, by.members.length != 0, sets);
        _write(i.claimId, c);
    }

    /// @notice Replace a document by a new one (red letter and reissue): liens and capacity go with it at once.
    /// @param i the statement, signed by all.
    /// @param owner the owner.
    /// @param obligors the debtor; empty while
    /// attested.
    /// @param holders all holders.
    /// @param body what the claim is about.
    /// @param place where the new document's draft was anchored.
    /// @param sets the new tags of every live epoch.
    function reissue(
        ReissueIntent calldata i,
        Signer calldata owner,
        Signer[] calldata obligors,
        HolderAuth[] calldata holders,
        Body calldata body,
        Opening calldata place,
        TagSet[] calldata sets
    ) external {
        _spend(owner, i.nonce, i.notAfter, _digest(keccak256(abi.encode(REISSUE_TYPEHASH, i))));
        Claim memory c = _reissuable(i, body);
        _reissueSigned(i, c, owner, obligors, holders, body);
        _reissueTags(i, c, body, place, sets);
        _accounts[i.claimId].credited += c.cap - i.newCap;
        c.cap = i.newCap;
        c.dueWeek = i.dueWeek;
        if (c.grade == GRADE_ATTESTED) c.lapseWeek = i.dueWeek + ATTESTED_WEEKS;
        c.version += 1;
        _setBody(i.claimId, Body(body.owner, body.obligor, i.termsHash, i.docRoot, body.contractTag, 0));
        _save(i.claimId, c);
        emit Reissued(i.claimId, c.version, i.tagsHash, i.newCap);
    }

    /// @notice Carry a claim over from the version before, once that is retired in favour of this one. Anybody may.
    /// Liens, flags and accounts come along; a claim in CONFLICT is resolved there first; a child after its root.
    /// @param id the claim.
    /// @param body what it is about.
    /// @param lienIds all its live liens, ascending.
    /// @param tags tags to write down here at once; the rest is still found in the version before.
    function importClaim(bytes32 id, Body calldata body, bytes32[] calldata lienIds, TagSet[] calldata tags)
        external
    {
        IPredecessor old = IPredecessor(_predecessor);
        if (address(old) == address(0)) revert NotRetired();
        (address successor, uint64 from) = old.retirement();
        if (successor != address(this) || from == 0 || block.timestamp < from) revert NotRetired();
        if (_imported[id] || _claims[id].grade != 0) revert AlreadyImported(id);
        Status memory s = old.statusOf(id);
        if (!s.known || s.end == END_VOID) revert WrongState(id, s.grade, s.end);
        if (s.flags & FLAG_CONFLICT != 0) revert Frozen(id, s.flags);
        if (keccak256(abi.encode(body)) != s.bodyHash) revert BodyMismatch(id);
        if (body.root != 0 && !_imported[body.root]) revert NotRoot(body.root);
        _imported[id] = true;
        Claim memory c = Claim({
            cap: s.cap,
            pledged: 0,
            seq: s.seq,
            version: s.version,
            dueWeek: s.dueWeek,
            lapseWeek: s.lapseWeek,
            grade: s.grade,
            flags: s.flags & FLAG_SHORT,
            end: s.end,
            liens: s.liens,
            children: s.children,
            aliases: s.aliases,
            epoch: s.epoch,
            holdUntil: s.holdUntil,
            disputeUntil: s.disputeUntil
        });
        _setPledged(c, body.contractTag, s.pledged);
        _accounts[id] =
            Account(FULL - s.original, s.settled, s.transferred, s.credited, uint40(block.timestamp));
        if (c.epoch != 0 && (c.end == END_LIVE || c.children != 0)) _lagging[c.epoch] += 1;
        _importLiens(id, s, lienIds);
        for (uint256 n = 0; n < tags.length; ++n) {
            for (uint256 m = 0; m < tags[n].tags.length; ++m) {
                bytes32 tag = tags[n].tags[m];
                if (old.claimOf(tag) != id) revert TagMismatch(tag, old.claimOf(tag));
                claimOf[tag] = id;
                emit TagClaimed(tag, id, tags[n].epoch);
            }
        }
        _setBody(id, body);
        _write(id, c);
        emit Imported(id);
    }

    /// @dev The owner, or a holder with a second member; uses the nonce up under the first signer's key.
    function _firstSigner(
        AddTagsIntent calldata i,
        TagSigners calldata by,
        bytes32 owner
    ) private returns (bytes32 first) {
        bytes32 digest = _digest(keccak256(abi.encode(ADD_TAGS_TYPEHASH, i)));
        if (by.owners.length != 0) {
            first = _spend(by.owners[0], i.nonce, i.notAfter, digest);
            _owner(by.owners[0], owner, digest);
        } else {
            if (by.holders.length == 0 || by.holders[0].signers.length == 0) revert MissingHolder(i.claimId, 1);
            if (by.members.length == 0) revert NotMember(0);
            first = _spend(by.holders[0].signers[0], i.nonce, i.notAfter, digest);
            _holder(i.claimId, by.holders[0], digest);
        }
        if (by.members.length != 0) _certified(by.members[0], ROLE_MEMBER, digest);
    }

    /// @dev Claim free tags; a taken one is a conflict.
    function _addAll(bytes32 id, Claim memory c, bool compared, TagSet[] calldata sets) private {
        for (uint256 n = 0; n < sets.length; ++n) {
            for (uint256 m = 0; m < sets[n].tags.length; ++m) {
                bytes32 tag = sets[n].tags[m];
                bytes32 other = _taken(tag);
                if (other != 0 && other != id) {
                    _collide(id, c, other, compared);
                    emit TagCollision(tag, id, other);
                    continue;
                }
                claimOf[tag] = id;
                emit TagClaimed(tag, id, sets[n].epoch);
            }
        }
    }

    /// @dev Flag this claim, and the other one if a member compared the documents: tags are public, so an owner
    /// alone must not be able to freeze a stranger's claim.
    function _collide(bytes32 id, Claim memory c, bytes32 other, bool compared) private {
        _flagConflict(id, c, other);
        if (!compared) return;
        Claim memory o = _claims[other];
        if (o.grade == 0) return; // still in the version before
        _flagConflict(other, o, id);
        _write(other, o);
    }

    /// @dev Raise CONFLICT unless it is up already.
    function _flagConflict(bytes32 id, Claim memory c, bytes32 other) private {
        if (c.flags & FLAG_CONFLICT != 0 && !_contestOver(id)) return;
        c.flags |= FLAG_CONFLICT;
        _contests[id] = other;
        _accounts[id].flaggedAt = uint40(block.timestamp);
    }

    /// @dev Copy all live liens.
    function _importLiens(bytes32 id, Status memory s, bytes32[] calldata lienIds) private {
        if (lienIds.length != s.liens) revert LiensMismatch(id);
        bytes32 last = 0;
        uint24 sum = 0;
        for (uint256 n = 0; n < lienIds.length; ++n) {
            Lien memory lien = IPredecessor(_predecessor).lienOf(id, lienIds[n]);
            if (lienIds[n] <= last || lien.status != LIEN_LIVE) revert LiensMismatch(id);
            last = lienIds[n];
            sum += lien.ppm;
            _liens[id][last] = lien;
            emit LienSet(id, last, lien.ppm, LIEN_LIVE, lien.holder);
        }
        if (sum != s.pledged) revert LiensMismatch(id);
    }

    /// @dev A live claim without flags and children, and terms that don't rise.
    function _reissuable(ReissueIntent calldata i, Body calldata body) private view returns (Claim memory c) {
        _running();
        c = _live(i.claimId);
        _shown(i.claimId, body);
        _thawed(i.claimId, c);
        if (c.seq != i.seq) revert StaleSeq(c.seq, i.seq);
        if (body.root != 0) revert NotRoot(i.claimId);
        if (c.children != 0) revert Encumbered(i.claimId, c.pledged, c.children);
        if (i.newCap > c.cap) revert RaiseNeedsNewClaim(c.cap);
        _checkDue(i.dueWeek);
    }

    /// @dev Owner, obligor of a confirmed claim, and all holders signed.
    function _reissueSigned(
        ReissueIntent calldata i,
        Claim memory c,
        Signer calldata owner,
        Signer[] calldata obligors,
        HolderAuth[] calldata holders,
        Body calldata body
    ) private view {
        bytes32 digest = _digest(keccak256(abi.encode(REISSUE_TYPEHASH, i)));
        _owner(owner, body.owner, digest);
        if (c.grade == GRADE_CONFIRMED) {
            if (obligors.length != 1) revert NotObligor(body.obligor, 0);
            _obligor(obligors[0], body.obligor, digest);
        }
        _allHolders(i.claimId, c.liens, holders, digest);
    }

    /// @dev Open the new document's draft and claim its tags beside the old ones.
    function _reissueTags(
        ReissueIntent calldata i,
        Claim memory c,
        Body calldata body,
        Opening calldata place,
        TagSet[] calldata sets
    ) private {
        _openDraft(i.draft, body.owner, i.tagsHash, i.termsHash, i.docRoot, body.contractTag, place);
        if (keccak256(abi.encode(sets)) != i.tagsHash) revert DraftMismatch(i.draft);
        uint256 perEpoch = _checkSets(sets);
        if (c.aliases + perEpoch > MAX_TAGS) revert TooManyTags(c.aliases + perEpoch);
        c.aliases += uint8(perEpoch);
        _checkUnder(sets);
        _claimTags(i.claimId, sets);
    }

    /// @dev An alias adds to every live epoch; a newer epoch takes as many tags as the claim has names.
    function _countTags(AddTagsIntent calldata i, Claim memory c, TagSet[] calldata sets) private {
        if (keccak256(abi.encode(sets)) != i.tagsHash) revert DraftMismatch(i.draft);
        if (i.officialNumber) {
            uint256 perEpoch = _checkSets(sets);
            if (c.aliases + perEpoch > MAX_TAGS) revert TooManyTags(c.aliases + perEpoch);
            c.aliases += uint8(perEpoch);
            return;
        }
        if (sets.length != 1 || sets[0].epoch != _newestEpoch || c.epoch >= _newestEpoch) {
            revert EpochMismatch(_newestEpoch, sets.length == 0 ? 0 : sets[0].epoch);
        }
        _checkOrder(sets[0].tags);
        if (sets[0].tags.length != c.aliases) revert TagsMalformed();
        _moveEpoch(c, _newestEpoch);
    }
}
