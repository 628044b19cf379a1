// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Types.sol";
import "./Errors.sol";

/// @title The one storage layout that the ledger and all its modules share.
/// @notice Modules run by delegatecall in the ledger's storage; none declares a variable of its own.
abstract contract LedgerStorage {
    /// @dev Salt of the consortium, part of every signed statement's domain.
    bytes32 internal _consortium;
    /// @dev Key of the registry that issues certificates.
    bytes internal _registryKey;
    /// @dev keccak256(key) => since when the key is revoked; 0 = not revoked.
    mapping(bytes32 keyId => uint64 since) internal _revoked;
    /// @dev keccak256(first signer, nonce) => digest that used it.
    mapping(bytes32 slot => bytes32 digest) internal _spent;
    /// @dev ERC-7913 verifiers that may be called.
    mapping(address verifier => bool allowed) internal _verifiers;

    /// @dev keccak256(kind, root, count, member) => when it was anchored.
    mapping(bytes32 anchorId => Anchored when) internal _anchors;
    mapping(bytes32 member => Quota used) internal _quotas;
    /// @dev Tickets that an attestation presented.
    mapping(bytes32 ticket => bool used) internal _tickets;

    /// @notice The claim that holds a tag; a void or lapsed claim holds none, whatever stands here.
    mapping(bytes32 tag => bytes32 claimId) public claimOf;
    mapping(bytes32 claimId => Claim packed) internal _claims;
    mapping(bytes32 claimId => bytes32 bodyHash) internal _bodies;
    mapping(bytes32 claimId => Account where) internal _accounts;
    mapping(bytes32 claimId => mapping(bytes32 lienId => Lien lien)) internal _liens;
    /// @dev Live claims with liens that name a framework contract.
    mapping(bytes32 contractTag => uint32 claims) internal _encumbered;
    /// @dev Live claims whose newest tags are of an epoch.
    mapping(uint16 epoch => uint32 claims) internal _lagging;

    /// @dev A claim in CONFLICT => the contender's draft, or the other claim.
    mapping(bytes32 claimId => bytes32 contender) internal _contests;
    mapping(bytes32 draft => Contender contender) internal _contenders;
    /// @dev keccak256(claim, key): owners who transferred an attested claim away.
    mapping(bytes32 slot => bool former) internal _formerOwners;
    /// @dev keccak256(claim, obligor key): that key disputed this claim once.
    mapping(bytes32 slot => bool used) internal _disputes;
    /// @dev Whose dispute is open, or was the last.
    mapping(bytes32 claimId => bytes32 obligor) internal _disputants;

    mapping(bytes32 keyId => bool member) internal _council;
    uint8 internal _councilSize;
    uint8 internal _threshold;
    uint16 internal _oldestEpoch;
    uint16 internal _newestEpoch;
    uint64 internal _pausedUntil;
    uint64 internal _retiredAt;
    uint32 internal _rootsPerDay;
    uint64 internal _leavesPerDay;
    uint32 internal _noticesPerDay;
    /// @dev The next version of the ledger, once the council has retired this one.
    address internal _successor;
    /// @dev The version before this one; its live claims block their tags here too.
    address internal _predecessor;
    /// @dev Claims carried over from the version before.
    mapping(bytes32 claimId => bool imported) internal _imported;

    /// @notice Every change of a claim's packed slot, for the index.
    event State(bytes32 indexed claimId, uint256 packed);
    /// @notice What a claim is about from now on; the index keeps it, callers show it again.
    event BodySet(bytes32 indexed claimId, Body body);
    /// @notice A tag now belongs to a claim.
    event TagClaimed(bytes32 indexed tag, bytes32 indexed claimId, uint16 epoch);
    /// @notice A lien was taken, changed or ended; `ppm` is what is left of it.
    event LienSet(bytes32 indexed claimId, bytes32 indexed lienId, uint24 ppm, uint8 status, bytes32 holder);

    /// @dev Week of the current block, in weeks since 1970.
    function _week() internal view returns (uint256) {
        return block.timestamp / 1 weeks;
    }

    /// @dev Whether an attested claim has outlived its last week.
    function _lapsed(Claim memory c) internal view returns (bool) {
        return c.grade == GRADE_ATTESTED && c.end == END_LIVE && _week() > c.lapseWeek;
    }

    /// @dev The claim that holds a tag now, or zero. A settled claim keeps its tags.
    function _holderOf(bytes32 tag) internal view returns (bytes32) {
        bytes32 id = claimOf[tag];
        if (id == 0) return 0;
        Claim memory c = _claims[id];
        return c.end == END_VOID || _lapsed(c) ? bytes32(0) : id;
    }

    /// @dev Load a live claim; a CONFLICT whose contender gave up or lost is dropped on the way.
    function _live(bytes32 id) internal view returns (Claim memory c) {
        c = _claims[id];
        if (c.grade == 0 || c.end != END_LIVE || _lapsed(c)) {
            revert WrongState(id, c.grade, c.end == END_LIVE && c.grade != 0 ? END_VOID : c.end);
        }
        _requireHere(id);
        if (c.flags & FLAG_CONFLICT != 0 && _contestOver(id)) c.flags &= ~FLAG_CONFLICT;
    }

    /// @dev Refuse a claim that the next version has taken over; it may do so only after its notice.
    function _requireHere(bytes32 id) internal view {
        if (_retiredAt != 0 && block.timestamp >= _retiredAt && ISuccessor(_successor).imported(id)) {
            revert Moved(_successor);
        }
    }

    /// @dev Whether a claim's contender withdrew or lost.
    function _contestOver(bytes32 id) internal view returns (bool) {
        uint8 status = _contenders[_contests[id]].status;
        return status == CONTENDER_WITHDRAWN || status == CONTENDER_LOST;
    }

    /// @dev The flags that hold at this moment.
    function _flags(Claim memory c) internal view returns (uint8 flags) {
        flags = c.flags & (FLAG_SHORT | FLAG_CONFLICT);
        if (c.disputeUntil > block.timestamp) flags |= FLAG_DISPUTED;
        if (c.holdUntil > block.timestamp) flags |= FLAG_HOLD;
    }

    /// @dev Refuse when any flag is up.
    function _thawed(bytes32 id, Claim memory c) internal view {
        uint8 flags = _flags(c);
        if (flags != 0) revert Frozen(id, flags);
    }

    /// @dev Refuse during a pause, and for good once this version is retired.
    function _running() internal view {
        if (_pausedUntil > block.timestamp) revert Paused(_pausedUntil);
        if (_retiredAt != 0 && block.timestamp >= _retiredAt) revert Retired(_successor);
    }

    /// @dev The body shown must be the one on record.
    function _shown(bytes32 id, Body calldata body) internal view {
        if (keccak256(abi.encode(body)) != _bodies[id]) revert BodyMismatch(id);
    }

    /// @dev Record what a claim is about.
    function _setBody(bytes32 id, Body memory body) internal {
        _bodies[id] = keccak256(abi.encode(body));
        emit BodySet(id, body);
    }

    /// @dev Set the sum of liens and keep the count of encumbered claims under a framework contract.
    function _setPledged(Claim memory c, bytes32 contractTag, uint24 pledged) internal {
        if (contractTag != NO_CONTRACT) {
            if (c.pledged == 0 && pledged != 0) _encumbered[contractTag] += 1;
            if (c.pledged != 0 && pledged == 0) _encumbered[contractTag] -= 1;
        }
        c.pledged = pledged;
    }

    /// @dev Decide SHORT and the end of a claim, then store it. Nothing else writes a claim.
    function _save(bytes32 id, Claim memory c) internal {
        bool wasLive = c.end == END_LIVE;
        if (wasLive) {
            c.flags = c.pledged > c.cap ? c.flags | FLAG_SHORT : c.flags & ~FLAG_SHORT;
            if (c.pledged == 0 && c.cap == 0) c.end = END_SETTLED;
            else if (c.grade == GRADE_ATTESTED && c.liens == 0) c.end = END_VOID;
            // A settled claim with children still speaks for their document.
            if (c.end == END_VOID || (c.end == END_SETTLED && c.children == 0)) _leaveEpoch(c);
        }
        _write(id, c);
    }

    /// @dev Take a claim out of the count that keeps its newest epoch open.
    function _leaveEpoch(Claim memory c) internal {
        if (c.epoch != 0) _lagging[c.epoch] -= 1;
    }

    /// @dev Count a claim under a newer epoch.
    function _moveEpoch(Claim memory c, uint16 epoch) internal {
        if (c.end == END_LIVE || c.children != 0) {
            _lagging[c.epoch] -= 1;
            _lagging[epoch] += 1;
        }
        c.epoch = epoch;
    }

    /// @dev Store a claim as it is.
    function _write(bytes32 id, Claim memory c) internal {
        c.seq += 1;
        _claims[id] = c;
        emit State(id, _packed(id));
    }

    /// @dev The raw packed slot of a claim.
    function _packed(bytes32 id) internal view returns (uint256 word) {
        Claim storage c = _claims[id];
        assembly ("memory-safe") {
            word := sload(c.slot)
        }
    }
}

/// @dev What this version asks of the next one.
interface ISuccessor {
    /// @notice Whether the next version has taken a claim over.
    function imported(bytes32 claimId) external view returns (bool);
}
