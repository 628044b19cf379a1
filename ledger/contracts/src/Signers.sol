// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IERC7913SignatureVerifier} from "@openzeppelin/contracts/interfaces/IERC7913.sol";
import "./Intents.sol";
import {LedgerStorage} from "./LedgerStorage.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title Who signed: EIP-712 digests, certificates, nonces, council, holders.
/// @notice msg.sender never matters: whoever submits, only signatures count.
abstract contract Signers is LedgerStorage {
    bytes32 private constant NAME_HASH = keccak256("Concordat");
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// @dev EIP-712 domain: name, version, chain id, this contract, and the consortium as salt.
    function _domain() internal view returns (bytes32) {
        return MessageHashUtils.toDomainSeparator(
            0x1f, NAME_HASH, VERSION_HASH, block.chainid, address(this), _consortium
        );
    }

    /// @dev Digest of a statement from its struct hash.
    function _digest(bytes32 structHash) internal view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_domain(), structHash);
    }

    /// @dev Use a nonce up under the first signer's key. The statement's own repetition is told apart.
    function _spend(Signer calldata first, bytes32 nonce, uint64 notAfter, bytes32 digest)
        internal
        returns (bytes32 keyId)
    {
        keyId = keccak256(first.key);
        _spendSlot(keyId, nonce, notAfter, digest);
    }

    /// @dev The same for any first signer.
    function _spendSlot(bytes32 keyId, bytes32 nonce, uint64 notAfter, bytes32 digest) internal {
        bytes32 slot = keccak256(abi.encode(keyId, nonce));
        bytes32 before = _spent[slot];
        if (before == digest) revert AlreadyApplied(digest);
        if (before != 0) revert NonceUsed(nonce);
        if (block.timestamp > notAfter) revert SignatureExpired(notAfter);
        _spent[slot] = digest;
    }

    /// @dev Check certificate, revocation, role and signature of one signer.
    /// @return keyId keccak256 of the key's bytes.
    function _certified(Signer calldata s, uint8 roles, bytes32 digest) internal view returns (bytes32 keyId) {
        keyId = keccak256(s.key);
        if (s.role & roles == 0 || s.role & (s.role - 1) != 0) revert WrongRole(s.role, roles);
        if (_revoked[keyId] != 0) revert CertificateRevoked(keyId, _revoked[keyId]);
        if (block.timestamp > s.expiry) revert CertificateExpired(keyId, s.expiry);
        // The council never confirms, attests or pledges.
        if (_council[keyId]) revert CouncilKey(keyId);
        // A bank that keeps a supplier's key could consent to its own pledge.
        if (s.role == ROLE_SUPPLIER && s.custodian == CUSTODIAN_BANK) revert CustodianConflict(keyId);
        bytes32 certificate =
            _digest(keccak256(abi.encode(CERTIFICATE_TYPEHASH, s.role, keyId, s.custodian, s.keySet, s.expiry)));
        if (!_signedBy(_registryKey, certificate, s.certificate)) revert BadCertificate(keyId);
        if (!_signedBy(s.key, digest, s.signature)) revert BadSignature(keyId);
    }

    /// @dev Check the owner on record.
    function _owner(Signer calldata s, bytes32 owner, bytes32 digest) internal view {
        bytes32 keyId = _certified(s, ROLES_OWNER, digest);
        if (keyId != owner) revert NotOwner(owner, keyId);
    }

    /// @dev Check the obligor on record; an attested claim has none and asks for none.
    function _obligor(Signer calldata s, bytes32 obligor, bytes32 digest) internal view {
        bytes32 keyId = _certified(s, ROLE_OBLIGOR, digest);
        if (keyId != obligor) revert NotObligor(obligor, keyId);
    }

    /// @dev Check a signer against the key that a statement names.
    function _named(Signer calldata s, uint8 roles, bytes32 named, bytes32 digest) internal view {
        bytes32 keyId = _certified(s, roles, digest);
        if (keyId != named) revert WrongCounterparty(named, keyId);
    }

    /// @dev Check the holder of a live lien: its key, or two of its key set.
    function _holder(bytes32 id, HolderAuth calldata h, bytes32 digest) internal view returns (Lien storage lien) {
        lien = _liens[id][h.lienId];
        if (lien.status != LIEN_LIVE) revert LienEnded(h.lienId, lien.status);
        bytes32 set = h.keySet.length == 0 ? bytes32(0) : keccak256(abi.encode(h.keySet));
        if (_holderRef(h.holder, set) != lien.holder) revert NotHolder(h.lienId);
        if (h.signers.length != (set == 0 ? 1 : 2)) revert NotHolder(h.lienId);
        bytes32 first = _certified(h.signers[0], ROLE_BANK, digest);
        if (set == 0) {
            if (first != h.holder) revert NotHolder(h.lienId);
            return lien;
        }
        bytes32 second = _certified(h.signers[1], ROLE_BANK, digest);
        if (first >= second || !_among(h.keySet, first) || !_among(h.keySet, second)) revert NotHolder(h.lienId);
    }

    /// @dev Check the holders of all live liens of a claim, given in ascending order of lien id.
    function _allHolders(bytes32 id, uint8 live, HolderAuth[] calldata hs, bytes32 digest) internal view {
        bytes32 last = 0;
        for (uint256 i = 0; i < hs.length; ++i) {
            if (hs[i].lienId <= last) revert LiensMismatch(id);
            last = hs[i].lienId;
            _holder(id, hs[i], digest);
        }
        // Distinct and live, so an equal count means all of them.
        if (hs.length < live) revert MissingHolder(id, live - hs.length);
    }

    /// @dev How a lien names its holder.
    function _holderRef(bytes32 keyId, bytes32 keySet) internal pure returns (bytes32) {
        return keccak256(abi.encode(keyId, keySet));
    }

    function _among(bytes32[] calldata set, bytes32 keyId) private pure returns (bool) {
        for (uint256 i = 0; i < set.length; ++i) {
            if (set[i] == keyId) return true;
        }
        return false;
    }

    /// @dev Check `needed` signatures of distinct council members, ascending by key id, and use the nonce up.
    function _byCouncil(CouncilSignature[] calldata signatures, uint256 needed, bytes32 nonce, uint64 notAfter, bytes32 digest)
        internal
    {
        _spendSlot("council", nonce, notAfter, digest);
        if (signatures.length < needed) revert CouncilTooFew(signatures.length, needed);
        bytes32 last = 0;
        for (uint256 i = 0; i < signatures.length; ++i) {
            bytes32 keyId = keccak256(signatures[i].key);
            if (keyId <= last || !_council[keyId]) revert NotCouncil(keyId);
            last = keyId;
            if (!_signedBy(signatures[i].key, digest, signatures[i].signature)) revert BadSignature(keyId);
        }
    }

    /// @dev Two thirds of the council, rounded up.
    function _twoThirds() internal view returns (uint256) {
        return (uint256(_councilSize) * 2 + 2) / 3;
    }

    /// @dev Whether a key signed a digest. A signing contract is asked once, with capped gas, and can't write.
    function _signedBy(bytes memory key, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        if (key.length < 20) return false;
        address account = address(bytes20(key));
        if (key.length > 20) {
            if (!_verifiers[account]) revert VerifierNotAllowed(account);
            bytes memory rest = new bytes(key.length - 20);
            assembly ("memory-safe") {
                mcopy(add(rest, 32), add(key, 52), mload(rest))
            }
            bytes memory call_ = abi.encodeCall(IERC7913SignatureVerifier.verify, (rest, digest, signature));
            return _asks(account, call_, IERC7913SignatureVerifier.verify.selector);
        }
        if (account.code.length != 0) {
            bytes memory call_ = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
            return _asks(account, call_, IERC1271.isValidSignature.selector);
        }
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        return problem == ECDSA.RecoverError.NoError && signer == account;
    }

    /// @dev Static call with capped gas that reads one word back, whatever the callee returns.
    function _asks(address target, bytes memory data, bytes4 magic) private view returns (bool) {
        // 1/64 of the gas stays here: without this check a submitter could starve the callee on purpose.
        uint256 needed = SIGNATURE_GAS + SIGNATURE_GAS / 32 + 10_000;
        if (gasleft() < needed) revert InsufficientGas(needed);
        bool success;
        bytes32 word;
        uint256 size;
        assembly ("memory-safe") {
            mstore(0, 0)
            success := staticcall(SIGNATURE_GAS, target, add(data, 32), mload(data), 0, 32)
            size := returndatasize()
            word := mload(0)
        }
        return success && size >= 32 && bytes4(word) == magic && uint256(word) << 32 == 0;
    }
}
