// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Intents.sol";
import {Signers} from "./Signers.sol";
import {Rfc6962} from "./Rfc6962.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title Opening leaves of anchored roots, and claiming tags with them.
/// @notice A draft is a salted commitment in an anchored tree. It proves time and gives no exclusivity. A tag is
/// seen first when a draft that is at least one block old is opened, so that nobody can copy a pending tag.
abstract contract Anchors is Signers {
    bytes32 internal constant DRAFT_TYPE = keccak256("concordat.draft.v1");
    bytes32 internal constant TICKET_TYPE = keccak256("concordat.ticket.v1");

    /// @dev Name of an anchored root. It holds the member, so that a copied root is another anchor.
    function _anchorId(uint8 kind, bytes32 root, uint32 count, bytes32 member) internal pure returns (bytes32) {
        return keccak256(abi.encode(kind, root, count, member));
    }

    /// @dev Check that a leaf lies in a root of this kind that is at least one block old.
    function _opened(uint8 kind, bytes32 leaf, Opening calldata place) internal view returns (Anchored memory anchored) {
        bytes32 anchorId = _anchorId(kind, place.root, place.count, place.member);
        anchored = _anchors[anchorId];
        if (anchored.number == 0) revert NotAnchored(anchorId);
        if (block.number <= anchored.number) revert CommitTooYoung(anchored.number);
        if (!Rfc6962.included(place.root, place.count, place.index, leaf, place.path)) revert NotIncluded(leaf);
    }

    /// @dev Open a draft: it commits to owner, tags, terms, documents and framework contract.
    function _openDraft(
        bytes32 draft,
        bytes32 owner,
        bytes32 tagsHash,
        bytes32 termsHash,
        bytes32 docRoot,
        bytes32 contractTag,
        Opening calldata place
    ) internal view {
        bytes memory data = abi.encode(DRAFT_TYPE, owner, tagsHash, termsHash, docRoot, contractTag, place.salt);
        if (Rfc6962.leafHash(data) != draft) revert DraftMismatch(draft);
        Anchored memory anchored = _opened(ANCHOR_DRAFTS, draft, place);
        if (block.timestamp > anchored.time + DRAFT_LIFETIME) revert CommitExpired(anchored.time);
    }

    /// @dev Use a ticket up that a member anchored before the tag was evaluated, for this bank's key.
    function _useTicket(bytes32 ticket, bytes32 bank, Opening calldata place) internal {
        bytes32 leaf = Rfc6962.leafHash(abi.encode(TICKET_TYPE, ticket, bank, place.salt));
        if (_tickets[leaf] || _anchors[_anchorId(ANCHOR_TICKETS, place.root, place.count, place.member)].number == 0) {
            revert NoTicket(ticket);
        }
        _opened(ANCHOR_TICKETS, leaf, place);
        _tickets[leaf] = true;
    }

    /// @dev The sets must be those of all live epochs, the same number of tags in each, ascending.
    /// @return perEpoch tags in each epoch.
    function _checkSets(TagSet[] calldata sets) internal view returns (uint256 perEpoch) {
        uint16 epoch = _oldestEpoch;
        if (sets.length != uint256(_newestEpoch) - epoch + 1) revert EpochMismatch(_newestEpoch, uint16(sets.length));
        perEpoch = sets[0].tags.length;
        for (uint256 i = 0; i < sets.length; ++i) {
            if (sets[i].epoch != epoch + i) revert EpochMismatch(uint16(epoch + i), sets[i].epoch);
            if (sets[i].tags.length != perEpoch) revert TagsMalformed();
            _checkOrder(sets[i].tags);
        }
    }

    /// @dev One to four tags, ascending, none zero.
    function _checkOrder(bytes32[] calldata tags) internal pure {
        if (tags.length == 0) revert TagsMalformed();
        if (tags.length > MAX_TAGS) revert TooManyTags(tags.length);
        bytes32 last = 0;
        for (uint256 i = 0; i < tags.length; ++i) {
            if (tags[i] <= last) revert TagsMalformed();
            last = tags[i];
        }
    }

    /// @dev Give all tags to a claim, or refuse because one is taken.
    function _claimTags(bytes32 id, TagSet[] calldata sets) internal {
        for (uint256 i = 0; i < sets.length; ++i) {
            for (uint256 j = 0; j < sets[i].tags.length; ++j) {
                bytes32 tag = sets[i].tags[j];
                bytes32 other = _taken(tag);
                if (other != 0 && other != id) revert TagTaken(tag, other);
                claimOf[tag] = id;
                emit TagClaimed(tag, id, sets[i].epoch);
            }
        }
    }

    /// @dev Who holds a tag, here or in the version before. A claim that was carried over is judged by its
    /// state here.
    function _taken(bytes32 tag) internal view returns (bytes32 id) {
        id = _holderOf(tag);
        if (id != 0 || _predecessor == address(0)) return id;
        id = IPredecessor(_predecessor).claimOf(tag);
        if (id == 0) return 0;
        if (!_imported[id]) return IPredecessor(_predecessor).holderOf(tag);
        Claim memory c = _claims[id];
        return c.end == END_VOID || _lapsed(c) ? bytes32(0) : id;
    }

    /// @dev Refuse if the framework contract itself carries liens.
    function _checkContract(bytes32 contractTag) internal view {
        if (contractTag == 0) revert ContractTagMissing();
        if (contractTag == NO_CONTRACT) return;
        bytes32 id = _taken(contractTag);
        if (id == 0) return;
        // A contract's claim that was not carried over yet is asked where it stands.
        uint24 pledged =
            _claims[id].grade != 0 ? _claims[id].pledged : IPredecessor(_predecessor).statusOf(id).pledged;
        if (pledged != 0) revert ContractEncumbered(contractTag, id);
    }

    /// @dev Refuse a lien on what is itself a framework contract with encumbered receivables under it.
    function _checkUnder(TagSet[] calldata sets) internal view {
        for (uint256 i = 0; i < sets.length; ++i) {
            for (uint256 j = 0; j < sets[i].tags.length; ++j) {
                if (_encumbered[sets[i].tags[j]] != 0) revert ContractEncumbered(sets[i].tags[j], 0);
            }
        }
    }

    /// @dev The public due week must be near.
    function _checkDue(uint16 dueWeek) internal view {
        if (dueWeek > _week() + DUE_WEEKS_AHEAD) revert DueTooFar(dueWeek);
    }

    /// @dev Open a claim of either grade; `pledged` is the first lien of an attested one. The caller has checked
    /// signatures, draft, tags' form and framework contract.
    function _open(
        bytes32 id,
        uint8 grade,
        uint16 dueWeek,
        uint256 perEpoch,
        Body memory body,
        TagSet[] calldata sets,
        uint24 pledged
    ) internal {
        if (_claims[id].grade != 0) revert WrongState(id, _claims[id].grade, _claims[id].end);
        _claimTags(id, sets);
        Claim memory c;
        c.cap = FULL;
        c.grade = grade;
        c.dueWeek = dueWeek;
        c.aliases = uint8(perEpoch);
        c.epoch = _newestEpoch;
        if (grade == GRADE_ATTESTED) {
            c.lapseWeek = dueWeek + ATTESTED_WEEKS;
            c.liens = 1;
        }
        _setPledged(c, body.contractTag, pledged);
        _lagging[c.epoch] += 1;
        _setBody(id, body);
        _save(id, c);
    }
}

/// @dev What this version asks of the one before.
interface IPredecessor {
    /// @notice The claim that holds a tag now, or zero.
    function holderOf(bytes32 tag) external view returns (bytes32);
    /// @notice The claim that a tag was last given to.
    function claimOf(bytes32 tag) external view returns (bytes32);
    /// @notice The state of a claim.
    function statusOf(bytes32 claimId) external view returns (Status memory);
    /// @notice One lien.
    function lienOf(bytes32 claimId, bytes32 lienId) external view returns (Lien memory);
    /// @notice The next version and from when it takes over.
    function retirement() external view returns (address, uint64);
}
