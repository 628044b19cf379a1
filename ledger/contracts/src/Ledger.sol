// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerStorage} from "./LedgerStorage.sol";
import {AnchorModule} from "./AnchorModule.sol";
import {ClaimModule} from "./ClaimModule.sol";
import {LienModule} from "./LienModule.sol";
import {SettlementModule} from "./SettlementModule.sol";
import {CouncilModule} from "./CouncilModule.sol";
import {ContestModule} from "./ContestModule.sol";
import {SuccessionModule} from "./SuccessionModule.sol";
import {TagModule} from "./TagModule.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title The ledger: one address that holds all state and never changes.
/// @notice Actions run in modules that are fixed at construction (delegatecall, no setter). Whoever submits does
/// not matter; every action is a signed statement. Pledges on one receivable never exceed its capacity.
contract Ledger is LedgerStorage {
    /// @notice What a new ledger starts with.
    struct Genesis {
        bytes32 consortium;
        bytes registryKey;
        bytes32[] council;
        uint8 threshold;
        uint16 oldestEpoch;
        uint16 newestEpoch;
        uint32 rootsPerDay;
        uint64 leavesPerDay;
        uint32 noticesPerDay;
        address[] verifiers;
        address predecessor;
    }

    /// @notice The modules, fixed for good.
    struct Modules {
        address anchors;
        address claims;
        address liens;
        address settlement;
        address council;
        address contests;
        address succession;
        address tags;
    }

    address private immutable ANCHORS;
    address private immutable CLAIMS;
    address private immutable LIENS;
    address private immutable SETTLEMENT;
    address private immutable COUNCIL;
    address private immutable CONTESTS;
    address private immutable SUCCESSION;
    address private immutable TAGS;

    /// @notice One item of a batch ran; a refused one carries its error.
    event ItemResult(uint256 indexed index, bool applied, bytes result);

    /// @notice Deploy a version of the ledger.
    /// @param g what it starts with.
    /// @param m its modules.
    constructor(Genesis memory g, Modules memory m) {
        ANCHORS = m.anchors;
        CLAIMS = m.claims;
        LIENS = m.liens;
        SETTLEMENT = m.settlement;
        COUNCIL = m.council;
        CONTESTS = m.contests;
        SUCCESSION = m.succession;
        TAGS = m.tags;
        if (g.registryKey.length < 20 || g.consortium == 0 || g.oldestEpoch == 0) revert BadCouncil();
        if (g.newestEpoch < g.oldestEpoch || g.newestEpoch >= g.oldestEpoch + MAX_LIVE_EPOCHS) {
            revert EpochLimit(g.newestEpoch);
        }
        if (g.threshold < 2 || g.threshold > g.council.length || g.council.length > 64) revert BadCouncil();
        bytes32 last = 0;
        for (uint256 i = 0; i < g.council.length; ++i) {
            if (g.council[i] <= last) revert BadCouncil();
            last = g.council[i];
            _council[last] = true;
        }
        for (uint256 i = 0; i < g.verifiers.length; ++i) {
            _verifiers[g.verifiers[i]] = true;
        }
        _consortium = g.consortium;
        _registryKey = g.registryKey;
        _councilSize = uint8(g.council.length);
        _threshold = g.threshold;
        _oldestEpoch = g.oldestEpoch;
        _newestEpoch = g.newestEpoch;
        _rootsPerDay = g.rootsPerDay;
        _leavesPerDay = g.leavesPerDay;
        _noticesPerDay = g.noticesPerDay;
        _predecessor = g.predecessor;
    }

    /// @notice Run several actions; each stands or falls alone.
    /// @param items encoded calls of this contract.
    /// @param gasCap gas for each item.
    /// @return applied per item whether it was applied.
    /// @return results return value or error of each.
    function batch(bytes[] calldata items, uint256 gasCap)
        external
        returns (bool[] memory applied, bytes[] memory results)
    {
        if (items.length > MAX_BATCH) revert TooMany(0);
        if (gasCap > MAX_ITEM_GAS) gasCap = MAX_ITEM_GAS;
        applied = new bool[](items.length);
        results = new bytes[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            // Without its full gas an item would fail for no fault of its own.
            if (gasleft() < gasCap + gasCap / 32 + 50_000) revert InsufficientGas(gasCap);
            if (items[i].length < 4 || bytes4(items[i]) == this.batch.selector) {
                results[i] = abi.encodeWithSelector(UnknownSelector.selector, bytes4(0));
            } else {
                (applied[i], results[i]) = address(this).call{gas: gasCap}(items[i]);
            }
            emit ItemResult(i, applied[i], results[i]);
        }
    }

    /// @notice The claim that holds a tag now; zero means no claim in this contract and its live epochs, never
    /// "not financed elsewhere".
    /// @param tag the tag.
    /// @return claimId or zero.
    function holderOf(bytes32 tag) external view returns (bytes32 claimId) {
        return _holderOf(tag);
    }

    /// @notice The state of a claim as it counts now.
    /// @param id the claim.
    /// @return s its status; `known` is false where there is none.
    function statusOf(bytes32 id) external view returns (Status memory s) {
        Claim memory c = _claims[id];
        Account memory a = _accounts[id];
        s.known = c.grade != 0;
        s.grade = c.grade;
        s.end = _lapsed(c) ? END_VOID : c.end;
        s.flags = _flags(c);
        if (s.flags & FLAG_CONFLICT != 0 && _contestOver(id)) s.flags &= ~FLAG_CONFLICT;
        s.cap = c.cap;
        s.pledged = c.pledged;
        s.free = c.cap > c.pledged && s.end == END_LIVE ? c.cap - c.pledged : 0;
        s.original = c.grade == 0 ? 0 : FULL - a.absent;
        s.settled = a.settled;
        s.transferred = a.transferred;
        s.credited = a.credited;
        s.seq = c.seq;
        s.version = c.version;
        s.dueWeek = c.dueWeek;
        s.lapseWeek = c.lapseWeek;
        s.liens = c.liens;
        s.children = c.children;
        s.aliases = c.aliases;
        s.epoch = c.epoch;
        s.bodyHash = _bodies[id];
        s.contender = _contests[id];
        s.holdUntil = c.holdUntil;
        s.disputeUntil = c.disputeUntil;
    }

    /// @notice The raw packed slot, as an EIP-1186 proof shows it.
    /// @param id the claim.
    /// @return word the slot.
    function packedOf(bytes32 id) external view returns (uint256 word) {
        return _packed(id);
    }

    /// @notice One lien of a claim.
    /// @param id the claim.
    /// @param lienId the lien.
    /// @return the record.
    function lienOf(bytes32 id, bytes32 lienId) external view returns (Lien memory) {
        return _liens[id][lienId];
    }

    /// @notice A contender's record.
    /// @param draft the contender's draft.
    /// @return the record.
    function contenderOf(bytes32 draft) external view returns (Contender memory) {
        return _contenders[draft];
    }

    /// @notice When a root was anchored.
    /// @param kind drafts, tickets or evidence.
    /// @param root the root.
    /// @param count leaves.
    /// @param member whose.
    /// @return block number (0: never) and time.
    function anchoredAt(uint8 kind, bytes32 root, uint32 count, bytes32 member)
        external
        view
        returns (Anchored memory)
    {
        return _anchors[keccak256(abi.encode(kind, root, count, member))];
    }

    /// @notice What used a nonce up under a key; zero: nothing yet.
    /// @param keyId the key.
    /// @param nonce the nonce.
    /// @return digest of the statement.
    function spentBy(bytes32 keyId, bytes32 nonce) external view returns (bytes32 digest) {
        return _spent[keccak256(abi.encode(keyId, nonce))];
    }

    /// @notice Since when a key is revoked; 0: it is not.
    /// @param keyId keccak256 of the key's bytes.
    /// @return since unix seconds.
    function revokedSince(bytes32 keyId) external view returns (uint64 since) {
        return _revoked[keyId];
    }

    /// @notice Encumbered claims under a framework contract.
    /// @param contractTag its tag.
    /// @return claims how many.
    function encumberedUnder(bytes32 contractTag) external view returns (uint32 claims) {
        return _encumbered[contractTag];
    }

    /// @notice Whether a claim of the version before was carried over to this one.
    /// @param id the claim.
    /// @return whether it was.
    function imported(bytes32 id) external view returns (bool) {
        return _imported[id];
    }

    /// @notice The next version, and from when it takes over; zeros while there is none.
    /// @return successor its address.
    /// @return from unix seconds.
    function retirement() external view returns (address successor, uint64 from) {
        return (_successor, _retiredAt);
    }

    /// @notice The settings in force.
    /// @return consortium the salt.
    /// @return registry hash of the registry's key.
    /// @return size of the council.
    /// @return threshold M.
    /// @return oldest live epoch.
    /// @return newest live epoch.
    /// @return pausedUntil time.
    function settings()
        external
        view
        returns (
            bytes32 consortium,
            bytes32 registry,
            uint8 size,
            uint8 threshold,
            uint16 oldest,
            uint16 newest,
            uint64 pausedUntil
        )
    {
        return (
            _consortium,
            keccak256(_registryKey),
            _councilSize,
            _threshold,
            _oldestEpoch,
            _newestEpoch,
            _pausedUntil
        );
    }

    /// @notice Run an action in its module, on this contract's storage.
    fallback() external {
        address module = _moduleOf(msg.sig);
        if (module == address(0)) revert UnknownSelector(msg.sig);
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, 0, calldatasize())
            let ok := delegatecall(gas(), module, free, calldatasize(), 0, 0)
            returndatacopy(free, 0, returndatasize())
            if iszero(ok) { revert(free, returndatasize()) }
            return(free, returndatasize())
        }
    }

    /// @dev Which module answers a selector: written out, nothing to configure.
    function _moduleOf(bytes4 s) private view returns (address) {
        if (s == LienModule.pledge.selector || s == LienModule.release.selector) return LIENS;
        if (s == ClaimModule.confirm.selector || s == ClaimModule.attest.selector) return CLAIMS;
        if (s == AnchorModule.anchor.selector || s == AnchorModule.noticeDuplicate.selector) return ANCHORS;
        if (s == SettlementModule.settleFree.selector || s == SettlementModule.settleLien.selector) {
            return SETTLEMENT;
        }
        if (s == SettlementModule.creditNote.selector || s == SettlementModule.voidClaim.selector) {
            return SETTLEMENT;
        }
        if (s == ClaimModule.upgrade.selector) return CLAIMS;
        if (
            s == LienModule.assignLien.selector || s == LienModule.renew.selector
                || s == LienModule.freezeLien.selector
        ) return LIENS;
        if (
            s == AnchorModule.cancel.selector || s == AnchorModule.sweep.selector
                || s == AnchorModule.checkMember.selector
        ) return ANCHORS;
        if (
            s == ContestModule.contend.selector || s == ContestModule.adopt.selector
                || s == ContestModule.withdraw.selector || s == ContestModule.dispute.selector
                || s == ContestModule.resolve.selector
        ) return CONTESTS;
        if (
            s == SuccessionModule.transfer.selector || s == SuccessionModule.split.selector
                || s == SuccessionModule.amend.selector
        ) return SUCCESSION;
        if (
            s == TagModule.addTags.selector || s == TagModule.reissue.selector
                || s == TagModule.importClaim.selector
        ) return TAGS;
        return _councilSelector(s) ? COUNCIL : address(0);
    }

    function _councilSelector(bytes4 s) private pure returns (bool) {
        return s == CouncilModule.freeze.selector || s == CouncilModule.pause.selector
            || s == CouncilModule.revoke.selector || s == CouncilModule.changeEpoch.selector
            || s == CouncilModule.changeCouncil.selector || s == CouncilModule.changeRegistry.selector
            || s == CouncilModule.changeVerifier.selector || s == CouncilModule.changeLimits.selector
            || s == CouncilModule.retire.selector;
    }
}
