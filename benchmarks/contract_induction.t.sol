// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../src/Types.sol";
import "../src/Intents.sol";
import {LienModule} from "../src/LienModule.sol";
import {SettlementModule} from "../src/SettlementModule.sol";
import {SuccessionModule} from "../src/SuccessionModule.sol";

// One step of the induction: from any state of a claim that satisfies the invariants, whatever the arguments, an
// action that is applied leaves a state that satisfies them.
//
//   I1  pledged <= cap, or SHORT is up
//   I2  cap + settled + transferred + credited + absent = 1,000,000
//   I3  the sum of the live liens is what is pledged, their number is what is counted
//
// I3 speaks of unboundedly many liens; it is shown as a difference: what `pledged` and `liens` change by is what the
// touched lien changes by, and no other lien changes. Signatures are stubbed (the build replaces `_signedBy` by
// `true`), so what is proved is the arithmetic and the state machine for signers who agree to anything. Time is
// arbitrary below 2^32.

interface Vm {
    function assume(bool) external;
    function warp(uint256) external;
}

contract Holder is LienModule, SettlementModule, SuccessionModule {
    function begin() external {
        _oldestEpoch = 1;
        _newestEpoch = 1;
        _registryKey = hex"0000000000000000000000000000000000000000ff";
    }

    function put(bytes32 id, Claim calldata c, Account calldata a, bytes32 bodyHash, bytes32 tag) external {
        _claims[id] = c;
        _accounts[id] = a;
        _bodies[id] = bodyHash;
        claimOf[tag] = id;
        _lagging[c.epoch] = 1;
    }

    function putLien(bytes32 id, bytes32 lienId, uint24 ppm, uint8 status, uint40 frozen, bytes32 key) external {
        _liens[id][lienId] = Lien(ppm, status, frozen, _holderRef(key, 0));
    }

    function digestOf(PledgeConsent calldata consent) external view returns (bytes32) {
        return _digest(keccak256(abi.encode(PLEDGE_CONSENT_TYPEHASH, consent)));
    }

    function claim(bytes32 id) external view returns (Claim memory) {
        return _claims[id];
    }

    function account(bytes32 id) external view returns (Account memory) {
        return _accounts[id];
    }

    function lien(bytes32 id, bytes32 lienId) external view returns (Lien memory) {
        return _liens[id][lienId];
    }
}

contract InductionTest {
    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bytes32 internal constant ID = bytes32(uint256(1));
    bytes32 internal constant TAG = bytes32(uint256(2));
    bytes32 internal constant LIEN = bytes32(uint256(3));
    bytes32 internal constant OTHER = bytes32(uint256(4));
    bytes32 internal constant NONCE = bytes32(uint256(5));
    uint64 internal constant LATE = type(uint64).max;
    bytes internal constant KEY = hex"1111111111111111111111111111111111111111";

    Holder internal h;
    Body internal body;

    struct Any {
        uint32 time;
        uint24 cap;
        uint24 pledged;
        uint24 settled;
        uint24 transferred;
        uint24 credited;
        uint16 dueWeek;
        uint16 lapseWeek;
        uint8 grade;
        uint8 flags;
        uint8 end;
        uint8 liens;
        uint32 holdUntil;
        uint32 disputeUntil;
        uint24 lienPpm;
        uint24 otherPpm;
        uint40 frozen;
    }

    function setUp() public {
        h = new Holder();
        h.begin();
        body = Body(keccak256(KEY), keccak256(KEY), bytes32(uint256(6)), bytes32(uint256(7)), NO_CONTRACT, 0);
    }

    // ---- any state that satisfies the invariants, with two of its liens named

    function _begin(Any memory s) internal {
        unchecked {
            uint256 total = uint256(s.cap) + s.settled + s.transferred + s.credited;
            VM.assume(s.time > 1 weeks);
            VM.assume(_or(s.grade == GRADE_ATTESTED, s.grade == GRADE_CONFIRMED));
            VM.assume(s.end <= END_VOID);
            VM.assume(s.flags & ~(FLAG_SHORT | FLAG_CONFLICT) == 0);
            VM.assume(_or(s.pledged <= s.cap, s.flags & FLAG_SHORT != 0));
            VM.assume(s.pledged <= FULL);
            VM.assume(total <= FULL);
            VM.assume(s.lienPpm >= 1);
            VM.assume(s.otherPpm >= 1);
            VM.assume(uint256(s.lienPpm) + s.otherPpm <= s.pledged);
            VM.assume(s.liens >= 2);
            VM.assume(s.liens < type(uint8).max);
        }
        VM.warp(s.time);
        Claim memory c;
        c.cap = s.cap;
        c.pledged = s.pledged;
        c.seq = 9;
        c.version = 3;
        c.dueWeek = s.dueWeek;
        c.lapseWeek = s.lapseWeek;
        c.grade = s.grade;
        c.flags = s.flags;
        c.end = s.end;
        c.liens = s.liens;
        c.aliases = 1;
        c.epoch = 1;
        c.holdUntil = s.holdUntil;
        c.disputeUntil = s.disputeUntil;
        Account memory a;
        unchecked {
            a = Account(FULL - s.cap - s.settled - s.transferred - s.credited, s.settled, s.transferred, s.credited, 0);
        }
        h.put(ID, c, a, keccak256(abi.encode(body)), TAG);
        h.putLien(ID, LIEN, s.lienPpm, LIEN_LIVE, s.frozen, keccak256(KEY));
        h.putLien(ID, OTHER, s.otherPpm, LIEN_LIVE, 0, keccak256(KEY));
    }

    function _holds(bytes32 id) internal view returns (Claim memory c) {
        c = h.claim(id);
        Account memory a = h.account(id);
        assert(_or(c.pledged <= c.cap, c.flags & FLAG_SHORT != 0));
        unchecked {
            assert(uint256(c.cap) + a.settled + a.transferred + a.credited + a.absent == FULL);
        }
    }

    /// @dev What pledged and liens changed by is what one lien changed by; the other one stands.
    function _sums(Any memory s, bytes32 touched, uint24 before, bool wasLive) internal view {
        Claim memory c = _holds(ID);
        Lien memory now_ = h.lien(ID, touched);
        unchecked {
            uint256 lives = _bit(now_.status == LIEN_LIVE);
            uint256 lived = _bit(wasLive);
            assert(uint256(s.pledged) + lives * now_.ppm == uint256(c.pledged) + lived * before);
            assert(uint256(s.liens) + lives == uint256(c.liens) + lived);
            assert(_or(lives == 0, now_.ppm > 0));
        }
        Lien memory other = h.lien(ID, OTHER);
        assert(other.ppm == s.otherPpm);
        assert(other.status == LIEN_LIVE);
    }

    /// @dev Without a branch, so that a path stays one path.
    function _or(bool a, bool b) internal pure returns (bool c) {
        assembly ("memory-safe") {
            c := or(a, b)
        }
    }

    function _bit(bool a) internal pure returns (uint256 c) {
        assembly ("memory-safe") {
            c := a
        }
    }

    function _signer(uint8 role) internal pure returns (Signer memory) {
        return Signer(role, CUSTODIAN_SELF, LATE, 0, KEY, "", "");
    }

    function _holder(bytes32 lienId) internal pure returns (HolderAuth memory auth) {
        auth.lienId = lienId;
        auth.holder = keccak256(KEY);
        auth.signers = new Signer[](1);
        auth.signers[0] = _signer(ROLE_BANK);
    }

    function _one(uint8 role) internal pure returns (Signer[] memory found) {
        found = new Signer[](1);
        found[0] = _signer(role);
    }

    // ---- the actions

    function check_pledge(Any memory s, uint24 ppm, uint24 maxPpm) public {
        _begin(s);
        TagSet[] memory sets = new TagSet[](1);
        sets[0].epoch = 1;
        sets[0].tags = new bytes32[](1);
        sets[0].tags[0] = TAG;
        PledgeConsent memory consent = PledgeConsent(
            ID, 3, body.termsHash, body.docRoot, NO_CONTRACT, keccak256(KEY), maxPpm, 0, 0, 0, NONCE, LATE
        );
        bytes32 lienId = h.digestOf(consent);
        // A digest is none of the ids on record: the solver knows the hash as some function, not as a good one.
        VM.assume(lienId != LIEN);
        VM.assume(lienId != OTHER);
        PledgeIntent memory i = PledgeIntent(ID, lienId, ppm, keccak256(abi.encode(sets)), LATE);
        try h.pledge(consent, i, _signer(ROLE_SUPPLIER), _signer(ROLE_BANK), body, sets) {
            assert(s.flags == 0);
            assert(s.end == END_LIVE);
            assert(ppm >= 1);
            assert(ppm <= maxPpm);
            assert(uint256(s.pledged) + ppm <= s.cap);
            _sums(s, lienId, 0, false);
        } catch {}
    }

    function check_release(Any memory s) public {
        _begin(s);
        try h.release(ReleaseIntent(ID, LIEN, NONCE, LATE), _holder(LIEN), body) {
            assert(s.end == END_LIVE);
            _sums(s, LIEN, s.lienPpm, true);
            assert(h.claim(ID).cap == s.cap);
        } catch {}
    }

    function check_settleFree(Any memory s, uint24 newCap) public {
        _begin(s);
        SettleFreeIntent memory i = SettleFreeIntent(ID, 3, newCap, NONCE, LATE);
        try h.settleFree(i, _signer(ROLE_SUPPLIER), _one(ROLE_OBLIGOR), body) {
            assert(newCap < s.cap);
            assert(newCap >= s.pledged);
            _sums(s, LIEN, s.lienPpm, true);
        } catch {}
    }

    function check_settleLien(Any memory s, uint24 newLien, uint24 newCap) public {
        _begin(s);
        SettleLienIntent memory i = SettleLienIntent(ID, 3, LIEN, newLien, newCap, NONCE, LATE);
        uint8 payer = s.grade == GRADE_CONFIRMED ? ROLE_OBLIGOR : ROLE_SUPPLIER;
        try h.settleLien(i, _signer(payer), _holder(LIEN), body) {
            assert(newLien <= s.lienPpm);
            _sums(s, LIEN, s.lienPpm, true);
            Claim memory c = h.claim(ID);
            assert(c.cap <= s.cap);
            // A payment never makes a claim SHORT that was not.
            assert(_or(c.pledged <= c.cap, s.pledged > s.cap));
        } catch {}
    }

    function check_creditNote(Any memory s, uint24 newCap) public {
        VM.assume(s.grade == GRADE_CONFIRMED);
        _begin(s);
        CreditNoteIntent memory i = CreditNoteIntent(ID, 3, newCap, 0, NONCE, LATE);
        try h.creditNote(i, _signer(ROLE_OBLIGOR), new HolderAuth[](0), body) {
            assert(newCap < s.cap);
            _sums(s, LIEN, s.lienPpm, true);
        } catch {}
    }

    function check_amend(Any memory s, uint24 newCap, uint16 dueWeek) public {
        VM.assume(s.grade == GRADE_CONFIRMED && s.liens == 2);
        _begin(s);
        AmendIntent memory i;
        i.claimId = ID;
        i.seq = 9;
        i.newCap = newCap;
        i.dueWeek = dueWeek;
        i.nonce = NONCE;
        i.notAfter = LATE;
        HolderAuth[] memory holders = new HolderAuth[](2);
        (holders[0], holders[1]) = (_holder(LIEN), _holder(OTHER));
        try h.amend(i, _signer(ROLE_SUPPLIER), _one(ROLE_OBLIGOR), holders, body) {
            assert(newCap <= s.cap);
            _sums(s, LIEN, s.lienPpm, true);
        } catch {}
    }

    function check_split(Any memory s, uint24 ppm, bool moves) public {
        _begin(s);
        HolderAuth[] memory moved = new HolderAuth[](moves ? 1 : 0);
        bytes32[] memory ids = new bytes32[](moved.length);
        if (moves) (moved[0], ids[0]) = (_holder(LIEN), LIEN);
        SplitIntent memory i;
        i.claimId = ID;
        i.seq = 9;
        i.ppm = ppm;
        i.termsHash = body.termsHash;
        i.docRoot = body.docRoot;
        i.counterparty = keccak256(KEY);
        i.liensHash = keccak256(abi.encode(ids));
        i.nonce = NONCE;
        i.notAfter = LATE;
        try h.split(i, _signer(ROLE_SUPPLIER), _signer(ROLE_SUPPLIER), moved, body) returns (bytes32 child) {
            VM.assume(child != ID); // a hash is no id on record
            Claim memory parent = _holds(ID);
            Claim memory part = _holds(child);
            assert(uint256(parent.cap) + part.cap == s.cap);
            assert(uint256(parent.pledged) + part.pledged == s.pledged);
            assert(uint256(parent.liens) + part.liens == s.liens);
            assert(part.pledged == (moves ? s.lienPpm : 0));
            assert(h.lien(moves ? child : ID, LIEN).ppm == s.lienPpm);
            assert(h.lien(moves ? ID : child, LIEN).ppm == 0);
        } catch {}
    }
}
