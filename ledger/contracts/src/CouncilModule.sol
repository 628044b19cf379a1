// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signers} from "./Signers.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title What council and registry may do, and no more.
/// @notice They never confirm, attest or pledge, and nothing here touches a lien, a capacity or a tag.
contract CouncilModule is Signers {
    /// @notice A key may sign nothing from now on; what it signed before stands.
    event KeyRevoked(bytes32 indexed keyId, bytes32 evidence);
    /// @notice A claim is on hold.
    event Held(bytes32 indexed claimId, uint32 until, bytes32 evidence);
    /// @notice New business is paused; release, settlement and credit notes go on.
    event PausedUntil(uint64 until, bytes32 evidence);
    /// @notice An epoch of tag keys opened or closed.
    event EpochChanged(uint16 indexed epoch, bool open, bytes32 transcript);
    /// @notice The council is now these keys, M of N.
    event CouncilChanged(bytes32 membersHash, uint8 threshold, uint8 size);
    /// @notice Certificates are now checked against this key.
    event RegistryChanged(bytes32 keyHash);
    /// @notice An ERC-7913 verifier may (not) be called.
    event VerifierChanged(address indexed verifier, bool allowed);
    /// @notice A member's daily quotas.
    event LimitsChanged(uint32 roots, uint64 leaves, uint32 notices);
    /// @notice From this time new business belongs to the successor.
    event RetiredFrom(address indexed successor, uint64 from);

    /// @notice Revoke a key, by the registry.
    /// @param i the statement.
    /// @param signature the registry's.
    function revoke(RevokeIntent calldata i, bytes calldata signature) external {
        bytes32 digest = _digest(keccak256(abi.encode(REVOKE_TYPEHASH, i)));
        _spendSlot("registry", i.nonce, i.notAfter, digest);
        if (!_signedBy(_registryKey, digest, signature)) revert BadSignature(keccak256(_registryKey));
        if (_revoked[i.keyId] == 0) _revoked[i.keyId] = uint64(block.timestamp);
        emit KeyRevoked(i.keyId, i.evidence);
    }

    /// @notice Hold a live claim for seven days (court order, stolen key); renewable.
    /// @param i the statement.
    /// @param council M signatures.
    function freeze(FreezeIntent calldata i, CouncilSignature[] calldata council) external {
        _byCouncil(council, _threshold, i.nonce, i.notAfter, _digest(keccak256(abi.encode(FREEZE_TYPEHASH, i))));
        Claim memory c = _live(i.claimId);
        c.holdUntil = uint32(block.timestamp + HOLD_LIFETIME);
        _save(i.claimId, c);
        emit Held(i.claimId, c.holdUntil, i.evidence);
    }

    /// @notice Pause new business for 72 hours; the next pause may come 72 hours after its end.
    /// @param i the statement.
    /// @param council M signatures.
    function pause(PauseIntent calldata i, CouncilSignature[] calldata council) external {
        _byCouncil(council, _threshold, i.nonce, i.notAfter, _digest(keccak256(abi.encode(PAUSE_TYPEHASH, i))));
        if (_pausedUntil != 0 && block.timestamp < _pausedUntil + PAUSE_COOLDOWN) {
            revert Cooldown(_pausedUntil + PAUSE_COOLDOWN);
        }
        _pausedUntil = uint64(block.timestamp + PAUSE_LIFETIME);
        emit PausedUntil(_pausedUntil, i.evidence);
    }

    /// @notice Open the next epoch, or close the oldest once no live claim lacks newer tags.
    /// @param i the statement.
    /// @param council two thirds.
    function changeEpoch(EpochIntent calldata i, CouncilSignature[] calldata council) external {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(EPOCH_TYPEHASH, i))));
        if (i.open) {
            if (i.epoch != _newestEpoch + 1 || _newestEpoch - _oldestEpoch + 1 >= MAX_LIVE_EPOCHS) {
                revert EpochLimit(i.epoch);
            }
            _newestEpoch = i.epoch;
        } else {
            if (i.epoch != _oldestEpoch || _oldestEpoch == _newestEpoch) revert EpochLimit(i.epoch);
            if (_lagging[i.epoch] != 0) revert EpochInUse(i.epoch, _lagging[i.epoch]);
            _oldestEpoch = i.epoch + 1;
        }
        emit EpochChanged(i.epoch, i.open, i.transcript);
    }

    /// @notice Replace the council.
    /// @param i the statement.
    /// @param leaving keys of all present members.
    /// @param joining the new keys, ascending.
    /// @param council two thirds of the present one.
    function changeCouncil(
        CouncilIntent calldata i,
        bytes32[] calldata leaving,
        bytes32[] calldata joining,
        CouncilSignature[] calldata council
    ) external {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(COUNCIL_TYPEHASH, i))));
        if (keccak256(abi.encode(joining)) != i.membersHash || leaving.length != _councilSize) revert BadCouncil();
        for (uint256 n = 0; n < leaving.length; ++n) {
            if (!_council[leaving[n]]) revert BadCouncil();
            delete _council[leaving[n]];
        }
        if (joining.length > 64 || i.threshold < 2 || i.threshold > joining.length) revert BadCouncil();
        bytes32 last = 0;
        for (uint256 n = 0; n < joining.length; ++n) {
            if (joining[n] <= last) revert BadCouncil();
            last = joining[n];
            _council[last] = true;
        }
        _councilSize = uint8(joining.length);
        _threshold = i.threshold;
        emit CouncilChanged(i.membersHash, i.threshold, _councilSize);
    }

    /// @notice Replace the registry's key. Certificates of the old key end with it.
    /// @param i the statement.
    /// @param key the new key.
    /// @param council two thirds.
    function changeRegistry(RegistryIntent calldata i, bytes calldata key, CouncilSignature[] calldata council)
        external
    {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(REGISTRY_TYPEHASH, i))));
        if (key.length < 20 || keccak256(key) != i.keyHash) revert BadCouncil();
        _registryKey = key;
        emit RegistryChanged(i.keyHash);
    }

    /// @notice Allow or refuse an ERC-7913 verifier.
    /// @param i the statement.
    /// @param council two thirds.
    function changeVerifier(VerifierIntent calldata i, CouncilSignature[] calldata council) external {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(VERIFIER_TYPEHASH, i))));
        _verifiers[i.verifier] = i.allowed;
        emit VerifierChanged(i.verifier, i.allowed);
    }

    /// @notice Set the daily quotas of a member.
    /// @param i the statement.
    /// @param council two thirds.
    function changeLimits(LimitsIntent calldata i, CouncilSignature[] calldata council) external {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(LIMITS_TYPEHASH, i))));
        _rootsPerDay = i.roots;
        _leavesPerDay = i.leaves;
        _noticesPerDay = i.notices;
        emit LimitsChanged(i.roots, i.leaves, i.notices);
    }

    /// @notice Name the next version, once. After 14 days new business is refused here for good; what stands
    /// can be released and settled here until it is carried over.
    /// @param i the statement.
    /// @param council two thirds.
    function retire(RetireIntent calldata i, CouncilSignature[] calldata council) external {
        _byCouncil(council, _twoThirds(), i.nonce, i.notAfter, _digest(keccak256(abi.encode(RETIRE_TYPEHASH, i))));
        if (_successor != address(0)) revert Retired(_successor);
        if (i.successor.code.length == 0 || i.successor == address(this)) revert BadCouncil();
        _successor = i.successor;
        _retiredAt = uint64(block.timestamp + RETIRE_NOTICE);
        emit RetiredFrom(i.successor, _retiredAt);
    }
}
