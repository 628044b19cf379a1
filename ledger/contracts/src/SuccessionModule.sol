// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signers} from "./Signers.sol";
import "./Intents.sol";
import "./Types.sol";
import "./Errors.sol";

/// @title Who owns a claim and on what terms: transfer, split, amend.
contract SuccessionModule is Signers {
    /// @notice A claim changed hands; its liens stayed.
    event Transferred(bytes32 indexed claimId, bytes32 indexed from, bytes32 indexed to);
    /// @notice A part became a claim of its own.
    event Split(bytes32 indexed claimId, bytes32 indexed child, bytes32 indexed owner, uint24 ppm, uint24 pledged);
    /// @notice Terms changed; `version` links them.
    event Amended(bytes32 indexed claimId, uint16 version, bytes32 termsHash, uint24 cap);

    /// @notice Transfer the whole claim; liens stay on it.
    /// @param i the statement over (id, seq), signed by all.
    /// @param owner the owner.
    /// @param assignee the next.
    /// @param holders all holders while attested; else empty.
    /// @param body what the claim is about.
    function transfer(
        TransferIntent calldata i,
        Signer calldata owner,
        Signer calldata assignee,
        HolderAuth[] calldata holders,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(TRANSFER_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        _running();
        Claim memory c = _movable(i.claimId, i.seq, body);
        if (i.termsHash != body.termsHash || i.docRoot != body.docRoot) revert BodyMismatch(i.claimId);
        _owner(owner, body.owner, digest);
        _named(assignee, ROLES_OWNER, i.counterparty, digest);
        if (c.grade == GRADE_ATTESTED) {
            _allHolders(i.claimId, c.liens, holders, digest);
            _formerOwners[keccak256(abi.encode(i.claimId, body.owner))] = true;
        }
        c.version += 1;
        _setBody(
            i.claimId,
            Body(i.counterparty, body.obligor, body.termsHash, body.docRoot, body.contractTag, body.root)
        );
        _save(i.claimId, c);
        emit Transferred(i.claimId, body.owner, i.counterparty);
    }

    /// @notice Make a part of a confirmed claim a claim of its own, with the liens whose holders sign.
    /// @param i the statement, signed by all.
    /// @param owner the owner.
    /// @param assignee the part's owner.
    /// @param moved the liens that move, ascending by id, with their holders.
    /// @param body what the claim is about.
    /// @return child the part's claim.
    function split(
        SplitIntent calldata i,
        Signer calldata owner,
        Signer calldata assignee,
        HolderAuth[] calldata moved,
        Body calldata body
    ) external returns (bytes32 child) {
        bytes32 digest = _digest(keccak256(abi.encode(SPLIT_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        _running();
        Claim memory c = _movable(i.claimId, i.seq, body);
        if (c.grade != GRADE_CONFIRMED) revert WrongState(i.claimId, c.grade, c.end);
        if (i.termsHash != body.termsHash || i.docRoot != body.docRoot) revert BodyMismatch(i.claimId);
        _owner(owner, body.owner, digest);
        _named(assignee, ROLES_OWNER, i.counterparty, digest);
        child = keccak256(abi.encode(i.claimId, digest));
        uint24 pledged = _moveLiens(i, child, moved, digest);
        if (i.ppm == 0) revert ZeroPpm();
        if (i.ppm < pledged) revert BelowPledged(pledged);
        if (i.ppm - pledged > c.cap - c.pledged) revert OverFree(c.cap - c.pledged);
        _part(i, c, child, uint8(moved.length), pledged, body);
        emit Split(i.claimId, child, i.counterparty, i.ppm, pledged);
    }

    /// @notice Change terms, documents or due week, never upwards; the versions are linked.
    /// @param i the statement, signed by all.
    /// @param owner the owner.
    /// @param obligors the debtor; empty while
    /// attested.
    /// @param holders all holders.
    /// @param body what the claim is about.
    function amend(
        AmendIntent calldata i,
        Signer calldata owner,
        Signer[] calldata obligors,
        HolderAuth[] calldata holders,
        Body calldata body
    ) external {
        bytes32 digest = _digest(keccak256(abi.encode(AMEND_TYPEHASH, i)));
        _spend(owner, i.nonce, i.notAfter, digest);
        Claim memory c = _movable(i.claimId, i.seq, body);
        if (i.newCap > c.cap) revert RaiseNeedsNewClaim(c.cap);
        if (i.dueWeek > _week() + DUE_WEEKS_AHEAD) revert DueTooFar(i.dueWeek);
        _owner(owner, body.owner, digest);
        if (c.grade == GRADE_CONFIRMED) {
            if (obligors.length != 1) revert NotObligor(body.obligor, 0);
            _obligor(obligors[0], body.obligor, digest);
        } else {
            c.lapseWeek = i.dueWeek + ATTESTED_WEEKS;
        }
        _allHolders(i.claimId, c.liens, holders, digest);
        _accounts[i.claimId].credited += c.cap - i.newCap;
        c.cap = i.newCap;
        c.dueWeek = i.dueWeek;
        c.version += 1;
        _setBody(
            i.claimId, Body(body.owner, body.obligor, i.termsHash, i.docRoot, body.contractTag, body.root)
        );
        _save(i.claimId, c);
        emit Amended(i.claimId, c.version, i.termsHash, i.newCap);
    }

    /// @dev A live claim without flags, on itself and on the claim that holds its document's tags.
    function _movable(bytes32 id, uint32 seq, Body calldata body) private view returns (Claim memory c) {
        c = _live(id);
        _shown(id, body);
        _thawed(id, c);
        if (body.root != 0) _thawed(body.root, _claims[body.root]);
        if (c.seq != seq) revert StaleSeq(c.seq, seq);
    }

    /// @dev Move the signed liens to the child.
    /// @return pledged their sum.
    function _moveLiens(SplitIntent calldata i, bytes32 child, HolderAuth[] calldata moved, bytes32 digest)
        private
        returns (uint24 pledged)
    {
        bytes32[] memory ids = new bytes32[](moved.length);
        for (uint256 n = 0; n < moved.length; ++n) {
            ids[n] = moved[n].lienId;
        }
        if (keccak256(abi.encode(ids)) != i.liensHash) revert LiensMismatch(i.claimId);
        for (uint256 n = 0; n < moved.length; ++n) {
            if (n != 0 && ids[n] <= ids[n - 1]) revert LiensMismatch(i.claimId);
            if (moved[n].signers.length == 0) revert MissingHolder(i.claimId, 1);
            Lien memory lien = _holder(i.claimId, moved[n], digest);
            if (lien.frozenUntil > block.timestamp) revert LienFrozen(ids[n], lien.frozenUntil);
            delete _liens[i.claimId][ids[n]];
            _liens[child][ids[n]] = lien;
            pledged += lien.ppm;
            emit LienSet(i.claimId, ids[n], 0, 0, lien.holder);
            emit LienSet(child, ids[n], lien.ppm, LIEN_LIVE, lien.holder);
        }
    }

    /// @dev Book a part out of its parent and open the child.
    function _part(
        SplitIntent calldata i,
        Claim memory c,
        bytes32 child,
        uint8 liens,
        uint24 pledged,
        Body calldata body
    ) private {
        c.cap -= i.ppm;
        c.liens -= liens;
        _setPledged(c, body.contractTag, c.pledged - pledged);
        _accounts[i.claimId].transferred += i.ppm;
        bytes32 rootId = body.root == 0 ? i.claimId : body.root;
        Claim memory root = body.root == 0 ? c : _claims[rootId];
        if (root.children == type(uint8).max) revert TooMany(rootId);
        root.children += 1;
        if (body.root != 0) _write(rootId, root);
        _save(i.claimId, c);
        Claim memory part;
        part.cap = i.ppm;
        part.grade = GRADE_CONFIRMED;
        part.dueWeek = c.dueWeek;
        part.liens = liens;
        _setPledged(part, body.contractTag, pledged);
        _accounts[child].absent = FULL - i.ppm;
        _setBody(
            child, Body(i.counterparty, body.obligor, body.termsHash, body.docRoot, body.contractTag, rootId)
        );
        _save(child, part);
    }
}
