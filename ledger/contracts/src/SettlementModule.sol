// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signers} from "./Signers.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title Payments, credit notes and the void: capacity only ever falls.
/// @notice No flag and no pause stops a payment or a credit note.
contract SettlementModule is Signers {
    /// @notice Part of the free capacity was paid.
    event FreeSettled(bytes32 indexed claimId, uint24 cap);
    /// @notice A payment reached a holder.
    event LienSettled(bytes32 indexed claimId, bytes32 indexed lienId, uint24 lien, uint24 cap);
    /// @notice The payable was reduced (red letter, return, set-off).
    event Credited(bytes32 indexed claimId, uint24 cap, bytes32 evidence);
    /// @notice A claim was voided and its tags are free.
    event Voided(bytes32 indexed claimId);

    /// @notice Lower the capacity by what was paid to the owner. Liens stay covered.
    /// @param i the statement.
    /// @param owner the owner.
    /// @param obligors the debtor; empty while attested.
    /// @param body what the claim is about.
    function settleFree(
        SettleFreeIntent calldata i,
        Signer calldata owner,
        Signer[] calldata obligors,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(SETTLE_FREE_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        Claim memory c = _at(i.claimId, i.version, body);
        _owner(owner, body.owner, digest);
        _debtor(c, obligors, body, digest);
        if (i.newCap >= c.cap) revert NotLower(c.cap);
        if (i.newCap < c.pledged) revert BelowPledged(c.pledged);
        _accounts[i.claimId].settled += c.cap - i.newCap;
        c.cap = i.newCap;
        _save(i.claimId, c);
        emit FreeSettled(i.claimId, i.newCap);
    }

    /// @notice Lower one lien and the capacity by a payment to its holder. Two numbers, since a single one is
    /// wrong: the lien's remainder, and the floor of what remains of the payable.
    /// @param i the statement, signed by all.
    /// @param payer the obligor; the owner while attested.
    /// @param holder the holder.
    /// @param body what the claim is about.
    function settleLien(
        SettleLienIntent calldata i,
        Signer calldata payer,
        HolderAuth calldata holder,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(SETTLE_LIEN_TYPEHASH, i)));
        _spend(payer, i.nonce, i.notAfter, digest);
        Claim memory c = _at(i.claimId, i.version, body);
        if (c.grade == GRADE_CONFIRMED) _obligor(payer, body.obligor, digest);
        else _owner(payer, body.owner, digest);
        if (holder.lienId != i.lienId) revert NotHolder(i.lienId);
        Lien storage lien = _holder(i.claimId, holder, digest);
        if (lien.frozenUntil > block.timestamp) revert LienFrozen(i.lienId, lien.frozenUntil);
        uint24 before = lien.ppm;
        if (i.newLien > before) revert OverLien(before);
        uint24 pledged = c.pledged - (before - i.newLien);
        uint24 cap = _capAfter(c.cap, pledged, i.newCap, c.pledged > c.cap);
        if (i.newLien == before && cap == c.cap) revert NotLower(c.cap);
        _accounts[i.claimId].settled += c.cap - cap;
        c.cap = cap;
        lien.ppm = i.newLien;
        if (i.newLien == 0) {
            lien.status = LIEN_SETTLED;
            c.liens -= 1;
        }
        _setPledged(c, body.contractTag, pledged);
        _save(i.claimId, c);
        emit LienSet(i.claimId, i.lienId, i.newLien, lien.status, lien.holder);
        emit LienSettled(i.claimId, i.lienId, i.newLien, cap);
    }

    /// @notice Reduce the payable. Liens may end up above it: that is SHORT, and frozen.
    /// @param i the statement.
    /// @param signer the obligor; the owner while attested.
    /// @param holders all holders while attested; empty otherwise.
    /// @param body what the claim is about.
    function creditNote(
        CreditNoteIntent calldata i,
        Signer calldata signer,
        HolderAuth[] calldata holders,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(CREDIT_NOTE_TYPEHASH, i)));
        _spend(signer, i.nonce, i.notAfter, digest);
        Claim memory c = _at(i.claimId, i.version, body);
        if (c.grade == GRADE_CONFIRMED) {
            _obligor(signer, body.obligor, digest);
        } else {
            _owner(signer, body.owner, digest);
            _allHolders(i.claimId, c.liens, holders, digest);
        }
        if (i.newCap >= c.cap) revert NotLower(c.cap);
        _accounts[i.claimId].credited += c.cap - i.newCap;
        c.cap = i.newCap;
        _save(i.claimId, c);
        emit Credited(i.claimId, i.newCap, i.evidence);
    }

    /// @notice End a claim without liens and children, and free its tags. A frozen claim stays.
    /// @param i the statement.
    /// @param owner the owner.
    /// @param obligors the debtor; empty while attested.
    /// @param body what the claim is about.
    function voidClaim(
        VoidIntent calldata i,
        Signer calldata owner,
        Signer[] calldata obligors,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(VOID_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        Claim memory c = _live(i.claimId);
        _shown(i.claimId, body);
        if (c.seq != i.seq) revert StaleSeq(c.seq, i.seq);
        _owner(owner, body.owner, digest);
        _debtor(c, obligors, body, digest);
        _thawed(i.claimId, c);
        if (c.pledged != 0 || c.children != 0) revert Encumbered(i.claimId, c.pledged, c.children);
        c.end = END_VOID;
        _leaveEpoch(c);
        _write(i.claimId, c);
        if (body.root != 0) {
            Claim memory root = _claims[body.root];
            root.children -= 1;
            if (root.children == 0 && root.end == END_SETTLED) _leaveEpoch(root);
            _write(body.root, root);
        }
        emit Voided(i.claimId);
    }

    /// @dev Capacity after a payment: the remainder's floor, but never below what is still pledged, unless the
    /// claim is SHORT already.
    function _capAfter(uint24 cap, uint24 pledged, uint24 remainder, bool short) private pure returns (uint24) {
        uint24 floor = !short && pledged > remainder ? pledged : remainder;
        return floor < cap ? floor : cap;
    }

    /// @dev Load a live claim at the version that was signed.
    function _at(bytes32 id, uint16 version, Body calldata body) private view returns (Claim memory c) {
        c = _live(id);
        _shown(id, body);
        if (c.version != version) revert StaleVersion(c.version, version);
    }

    /// @dev A confirmed claim needs its obligor, an attested one has none.
    function _debtor(Claim memory c, Signer[] calldata obligors, Body calldata body, bytes32 digest) private view {
        if (c.grade != GRADE_CONFIRMED) return;
        if (obligors.length != 1) revert NotObligor(body.obligor, 0);
        _obligor(obligors[0], body.obligor, digest);
    }
}
