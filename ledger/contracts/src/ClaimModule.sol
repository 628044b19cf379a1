// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Anchors} from "./Anchors.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title How a draft becomes a claim: confirmed by the obligor, or attested by a bank; and the way up.
contract ClaimModule is Anchors {
    /// @notice A claim signed by owner and obligor (确权).
    event Confirmed(bytes32 indexed claimId, bytes32 indexed owner, bytes32 indexed obligor, bytes32 tagsHash);
    /// @notice A claim signed by owner and a member bank, with its first lien.
    event Attested(bytes32 indexed claimId, bytes32 indexed owner, bytes32 tagsHash, bytes32 ticket);
    /// @notice An attested claim that its obligor has confirmed since.
    event Upgraded(bytes32 indexed claimId, bytes32 indexed obligor, uint24 cap);
    /// @notice A lien was taken.
    event Pledged(bytes32 indexed claimId, bytes32 indexed lienId, uint24 ppm, bytes32 loanRef);

    /// @notice Claim a draft's tags with the owner's and the obligor's signatures.
    /// @param i the statement, signed by both.
    /// @param owner the supplier.
    /// @param obligor the debtor.
    /// @param place where the draft was anchored.
    /// @param sets the tags of every live epoch.
    function confirm(
        ConfirmIntent calldata i,
        Signer calldata owner,
        Signer calldata obligor,
        Opening calldata place,
        TagSet[] calldata sets
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(CONFIRM_TYPEHASH, i)));
        bytes32 ownerKey = _spend(owner, i.nonce, i.notAfter, digest);
        _running();
        _certified(owner, ROLE_SUPPLIER, digest);
        _named(obligor, ROLE_OBLIGOR, i.counterparty, digest);
        _openDraft(i.claimId, ownerKey, i.tagsHash, i.termsHash, i.docRoot, i.contractTag, place);
        Body memory body = Body(ownerKey, i.counterparty, i.termsHash, i.docRoot, i.contractTag, 0);
        uint256 perEpoch = _checkNew(i.claimId, i.tagsHash, i.dueWeek, i.contractTag, sets);
        _open(i.claimId, GRADE_CONFIRMED, i.dueWeek, perEpoch, body, sets, 0);
        emit Confirmed(i.claimId, ownerKey, i.counterparty, i.tagsHash);
    }

    /// @notice Claim a draft's tags with the owner's and a bank's signatures; the bank takes the first lien.
    /// @param i the statement, signed by both.
    /// @param owner the supplier.
    /// @param bank the first holder.
    /// @param place where the draft was anchored.
    /// @param ticketPlace where the bank's ticket was anchored.
    /// @param sets the tags of every live epoch.
    function attest(
        AttestIntent calldata i,
        Signer calldata owner,
        Signer calldata bank,
        Opening calldata place,
        Opening calldata ticketPlace,
        TagSet[] calldata sets
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(ATTEST_TYPEHASH, i)));
        bytes32 ownerKey = _spend(owner, i.nonce, i.notAfter, digest);
        _running();
        _certified(owner, ROLE_SUPPLIER, digest);
        _named(bank, ROLE_BANK, i.counterparty, digest);
        if (i.custodian == i.counterparty) revert CustodianConflict(i.custodian);
        if (i.ppm == 0) revert ZeroPpm();
        if (i.ppm > FULL) revert OverCapacity(FULL);
        if (_week() > i.dueWeek) revert Overdue(i.dueWeek);
        _openDraft(i.claimId, ownerKey, i.tagsHash, i.termsHash, i.docRoot, i.contractTag, place);
        _useTicket(i.ticket, i.counterparty, ticketPlace);
        _openAttested(i, ownerKey, sets);
        _firstLien(i, _holderRef(i.counterparty, bank.keySet), digest);
        emit Attested(i.claimId, ownerKey, i.tagsHash, i.ticket);
    }

    /// @notice Raise an attested claim to confirmed. Clears DISPUTED; SHORT if the liens exceed the new capacity.
    /// @param i the statement, signed by all.
    /// @param owner the owner.
    /// @param obligor the debtor.
    /// @param members one member that compared document and certificate; empty if a holder signs instead.
    /// @param holders one holder; empty if a member signs instead.
    /// @param body what the claim is about.
    function upgrade(
        UpgradeIntent calldata i,
        Signer calldata owner,
        Signer calldata obligor,
        Signer[] calldata members,
        HolderAuth[] calldata holders,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(UPGRADE_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        Claim memory c = _live(i.claimId);
        _shown(i.claimId, body);
        if (c.grade != GRADE_ATTESTED) revert WrongState(i.claimId, c.grade, c.end);
        if (c.flags & FLAG_CONFLICT != 0) revert Frozen(i.claimId, _flags(c));
        if (c.seq != i.seq) revert StaleSeq(c.seq, i.seq);
        if (i.contractTag == 0) revert ContractTagMissing();
        if (i.newCap > c.cap) revert NotLower(c.cap);
        _owner(owner, body.owner, digest);
        _named(obligor, ROLE_OBLIGOR, i.counterparty, digest);
        if (members.length == 0 && holders.length == 0) revert MissingHolder(i.claimId, 1);
        if (members.length != 0) _certified(members[0], ROLE_MEMBER, digest);
        else _holder(i.claimId, holders[0], digest);
        c.grade = GRADE_CONFIRMED;
        c.lapseWeek = 0;
        c.disputeUntil = 0;
        c.version += 1;
        _accounts[i.claimId].credited += c.cap - i.newCap;
        c.cap = i.newCap;
        uint24 pledged = c.pledged;
        _setPledged(c, body.contractTag, 0);
        _setPledged(c, i.contractTag, pledged);
        _setBody(i.claimId, Body(body.owner, i.counterparty, i.termsHash, i.docRoot, i.contractTag, 0));
        _save(i.claimId, c);
        emit Upgraded(i.claimId, i.counterparty, i.newCap);
    }

    /// @dev Tags as signed, of every live epoch; a near due week; a framework contract that is free.
    function _checkNew(bytes32 id, bytes32 tagsHash, uint16 dueWeek, bytes32 contractTag, TagSet[] calldata sets)
        private
        view
        returns (uint256 perEpoch)
    {
        if (keccak256(abi.encode(sets)) != tagsHash) revert DraftMismatch(id);
        _checkDue(dueWeek);
        _checkContract(contractTag);
        return _checkSets(sets);
    }

    /// @dev Open the attested claim, with its first lien counted.
    function _openAttested(AttestIntent calldata i, bytes32 ownerKey, TagSet[] calldata sets) private {
        _checkUnder(sets);
        uint256 perEpoch = _checkNew(i.claimId, i.tagsHash, i.dueWeek, i.contractTag, sets);
        Body memory body = Body(ownerKey, 0, i.termsHash, i.docRoot, i.contractTag, 0);
        _open(i.claimId, GRADE_ATTESTED, i.dueWeek, perEpoch, body, sets, i.ppm);
    }

    /// @dev Record the attesting bank's lien; its id is the digest that owner and bank signed.
    function _firstLien(AttestIntent calldata i, bytes32 holder, bytes32 lienId) private {
        _liens[i.claimId][lienId] = Lien(i.ppm, LIEN_LIVE, 0, holder);
        emit LienSet(i.claimId, lienId, i.ppm, LIEN_LIVE, holder);
        emit Pledged(i.claimId, lienId, i.ppm, i.loanRef);
    }
}
