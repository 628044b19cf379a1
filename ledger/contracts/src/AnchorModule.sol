// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "./Anchors.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title What members write without touching a claim: roots, notices, cancelled nonces, swept claims.
contract AnchorModule is Anchors {
    /// @notice A member anchored a root over `count` leaves.
    event RootAnchored(
        bytes32 indexed root, bytes32 indexed member, uint8 kind, uint32 count, bytes32 anchorId
    );
    /// @notice A member met a document whose tag is taken; the earlier registrant should look.
    event DuplicateNoticed(bytes32 indexed tag, bytes32 indexed claimId, bytes32 member, bytes32 evidence);
    /// @notice A consent was withdrawn before its use.
    event NonceCancelled(bytes32 indexed keyId, bytes32 nonce);

    /// @notice Anchor the root of a tree of drafts, tickets or evidence.
    /// @param i the statement.
    /// @param member the member's signature.
    /// @return anchorId under which openings find it.
    function anchor(AnchorIntent calldata i, Signer calldata member) external returns (bytes32 anchorId) {
        bytes32 digest = _digest(keccak256(abi.encode(ANCHOR_TYPEHASH, i)));
        bytes32 keyId = _spend(member, i.nonce, i.notAfter, digest);
        _running();
        _certified(member, ROLE_MEMBER, digest);
        if (i.kind < ANCHOR_DRAFTS || i.kind > ANCHOR_EVIDENCE || i.count == 0) revert BadAnchor(i.kind, i.count);
        Quota memory used = _today(keyId);
        if (used.roots >= _rootsPerDay) revert QuotaExceeded(keyId, _rootsPerDay);
        if (uint256(used.leaves) + i.count > _leavesPerDay) revert QuotaExceeded(keyId, _leavesPerDay);
        used.roots += 1;
        used.leaves += i.count;
        _quotas[keyId] = used;
        anchorId = _anchorId(i.kind, i.root, i.count, keyId);
        if (_anchors[anchorId].number != 0) revert RootKnown(anchorId);
        _anchors[anchorId] = Anchored(uint64(block.number), uint64(block.timestamp));
        emit RootAnchored(i.root, keyId, i.kind, i.count, anchorId);
    }

    /// @notice Report a document whose tag is already claimed. Never reverts on what a member sends, since a
    /// reverted transaction emits nothing; a bad signature or a used-up quota just records nothing.
    /// @param i the statement.
    /// @param member the member's signature.
    /// @return recorded whether the notice was emitted.
    function noticeDuplicate(NoticeIntent calldata i, Signer calldata member) external returns (bool recorded) {
        bytes32 digest = _digest(keccak256(abi.encode(NOTICE_TYPEHASH, i)));
        bytes32 keyId = keccak256(member.key);
        bytes32 slot = keccak256(abi.encode(keyId, i.nonce));
        if (_spent[slot] != 0 || block.timestamp > i.notAfter) return false;
        try AnchorModule(address(this)).checkMember(member, digest) {}
        catch {
            return false;
        }
        Quota memory used = _today(keyId);
        if (used.notices >= _noticesPerDay) return false;
        used.notices += 1;
        _quotas[keyId] = used;
        _spent[slot] = digest;
        emit DuplicateNoticed(i.tag, _holderOf(i.tag), keyId, i.evidence);
        return true;
    }

    /// @notice Check a member's signature over a digest; reverts with the reason.
    /// @param member the signature.
    /// @param digest what it should have signed.
    function checkMember(Signer calldata member, bytes32 digest) external view {
        _certified(member, ROLE_MEMBER, digest);
    }

    /// @notice Withdraw a consent or any other statement that was signed but not used.
    /// @param i the statement.
    /// @param by the signer that would use the nonce.
    function cancel(CancelIntent calldata i, Signer calldata by) external {
        bytes32 digest = _digest(keccak256(abi.encode(CANCEL_TYPEHASH, i)));
        bytes32 keyId = _spend(by, i.cancelled, i.notAfter, digest);
        _certified(by, ROLES_OWNER | ROLE_OBLIGOR | ROLE_MEMBER, digest);
        emit NonceCancelled(keyId, i.cancelled);
    }

    /// @notice Write down that an attested claim has lapsed. Nobody needs it: expiry is computed. It only
    /// corrects the counters that keep an epoch open or a framework contract encumbered.
    /// @param id the claim.
    /// @param body what it is about.
    function sweep(bytes32 id, Body calldata body) external {
        Claim memory c = _claims[id];
        if (!_lapsed(c)) revert WrongState(id, c.grade, c.end);
        _shown(id, body);
        _setPledged(c, body.contractTag, 0);
        c.liens = 0;
        c.end = END_VOID;
        _leaveEpoch(c);
        _write(id, c);
    }

    /// @dev A member's use of today's quota.
    function _today(bytes32 keyId) private view returns (Quota memory used) {
        used = _quotas[keyId];
        uint32 day = uint32(block.timestamp / 1 days);
        if (used.day != day) used = Quota(day, 0, 0, 0);
    }
}
