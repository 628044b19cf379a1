"""Proof files: what is said of them, and the code under which each wrong one is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_hash.auto import keccak
from proof_chain import MEMBERS, NOW, ProofChain, packed
from typer.testing import CliRunner

from concordat.cli.app import app
from ledger import storage
from ledger.commitments import FULL, NO_CONTRACT, WEEK, ZERO, Body, Draft
from ledger.proofs.claims import CONFLICT, SHORT
from ledger.proofs.fields import SaltedFields
from ledger.proofs.making import encode_header, make
from ledger.proofs.statements import Absence, DocumentLeaf, Presence, Statement, revocation_nonce
from ledger.proofs.trust import Trust
from ledger.proofs.verdict import Grade, Status, Verdict
from ledger.proofs.verifying import Proof, sealed, verify
from protocol import canonical, merkle
from protocol.checkpoint import cosign
from protocol.errors import ConcordatError

WEEKS = NOW // WEEK
OWNER, BANK, CLAIM, TAG, LIEN = (bytes([n]) * 32 for n in range(1, 6))
BODY = Body(OWNER, b"\x77" * 32, b"\x88" * 32, b"\x99" * 32, NO_CONTRACT, ZERO)


def prove(chain: ProofChain, statement: Statement, **how: Any) -> Verdict:
    return verify(make(statement, chain, chain.trust, now=NOW), chain.trust, now=NOW, **how)


def code(chain: ProofChain, data: bytes, trust: Any = None, now: int = NOW, **how: Any) -> str:
    with pytest.raises(ConcordatError) as caught:
        verify(data, trust or chain.trust, now=now, **how)
    return caught.value.code


def claim(chain: ProofChain, **fields: int) -> None:
    held = {
        "cap": FULL,
        "pledged": 400_000,
        "grade": 2,
        "liens": 1,
        "epoch": 1,
        "seq": 3,
        "dueWeek": WEEKS + 9,
    }
    chain.set(storage.mapped("_claims", CLAIM), packed(storage.CLAIM, **{**held, **fields}))
    chain.set(storage.mapped("_bodies", CLAIM), int.from_bytes(BODY.digest(), "big"))
    chain.set(storage.mapped("claimOf", TAG), int.from_bytes(CLAIM, "big"))
    chain.set(storage.mapped("_liens", CLAIM, LIEN), packed(storage.LIEN, ppm=400_000, status=1))


def leaf(chain: ProofChain, values: dict[str, str] | None = None) -> tuple[DocumentLeaf, SaltedFields]:
    held = SaltedFields.of(values or {"amount": "50.00", "number": "INV-1", "seller": "S"})
    draft = Draft(OWNER, b"\x10" * 32, b"\x11" * 32, held.root(), NO_CONTRACT, b"\x12" * 32)
    tree = merkle.MerkleTree([b"\x01" * 32, draft.claim_id(), b"\x02" * 32])
    where = storage.mapped("_anchors", storage.anchor_id(1, tree.root(), 3, BANK))
    chain.set(where, packed(storage.ANCHORED, number=5, time=NOW - 900))
    path = tree.inclusion_proof(1)
    return DocumentLeaf(draft, held.show(["number"]), BANK, tree.root(), 3, 1, path), held


PRESENCE = Presence(CLAIM, BODY, (TAG,), (LIEN,))
ABSENCE = Absence(((TAG,),))


@pytest.fixture
def chain() -> ProofChain:
    return ProofChain()


# ---- what is said


def test_case_57_absence_says_this_registry_and_these_epochs_and_no_more(chain: ProofChain) -> None:
    found = prove(chain, ABSENCE)
    assert (found.status, found.grade) == (Status.ABSENT, Grade.NONE)
    assert "No claim in this registry and these epochs (1 to 1)" in found.proved[0]
    assert "outside this registry" in found.not_proved[0]


@pytest.mark.parametrize("end", ["void", "lapsed"])
def test_tags_of_an_ended_claim_are_free(chain: ProofChain, end: str) -> None:
    claim(chain, **({"end": 2} if end == "void" else {"grade": 1, "lapseWeek": WEEKS - 1}))
    found = prove(chain, ABSENCE)
    assert found.status is Status.ABSENT
    assert found.facts["ended"] == 1


@pytest.mark.parametrize(
    "fields", [{}, {"end": 1}, {"grade": 1, "lapseWeek": WEEKS}], ids=["live", "settled", "last week"]
)
def test_a_held_tag_is_not_absent(chain: ProofChain, fields: dict[str, int]) -> None:
    claim(chain, **fields)
    with pytest.raises(ConcordatError, match="PROOF_CLAIMED"):
        make(ABSENCE, chain, chain.trust, now=NOW)


def test_absence_needs_the_tags_of_every_live_epoch(chain: ProofChain) -> None:
    chain.epochs(1, 2)
    with pytest.raises(ConcordatError, match="PROOF_EPOCHS"):
        make(ABSENCE, chain, chain.trust, now=NOW)
    assert prove(chain, Absence(((TAG,), (LIEN,)))).facts["epochs"] == [1, 2]


def test_absence_says_nothing_across_versions(chain: ProofChain) -> None:
    chain.epochs(1, 1, retired_at=NOW)
    with pytest.raises(ConcordatError, match="PROOF_RETIRED"):
        make(ABSENCE, chain, chain.trust, now=NOW)
    chain.epochs(1, 1, retired_at=NOW + 1)
    assert prove(chain, ABSENCE).status is Status.ABSENT
    chain.set(storage.variable("_predecessor").slot, 99)
    with pytest.raises(ConcordatError, match="PROOF_PREDECESSOR"):
        make(ABSENCE, chain, chain.trust, now=NOW)


STATES = [
    ({}, Status.LIVE, Grade.CONFIRMED, []),
    ({"grade": 1, "lapseWeek": WEEKS}, Status.LIVE, Grade.ATTESTED, []),
    ({"grade": 1, "lapseWeek": WEEKS - 1}, Status.LAPSED, Grade.ATTESTED, []),
    ({"end": 1}, Status.SETTLED, Grade.CONFIRMED, []),
    ({"end": 2}, Status.VOID, Grade.CONFIRMED, []),
    ({"flags": SHORT, "cap": 1}, Status.FROZEN, Grade.CONFIRMED, ["SHORT"]),
    ({"flags": CONFLICT}, Status.FROZEN, Grade.CONFIRMED, ["CONFLICT"]),
    ({"disputeUntil": NOW + 1, "holdUntil": NOW + 1}, Status.FROZEN, Grade.CONFIRMED, ["DISPUTED", "HOLD"]),
    ({"disputeUntil": NOW, "holdUntil": NOW}, Status.LIVE, Grade.CONFIRMED, []),
]


@pytest.mark.parametrize(("fields", "status", "grade", "flags"), STATES)
def test_presence_shows_state_grade_and_flags(
    chain: ProofChain, fields: dict[str, int], status: Status, grade: Grade, flags: list[str]
) -> None:
    claim(chain, **fields)
    found = prove(chain, PRESENCE)
    assert (found.status, found.grade, found.facts["flags"]) == (status, grade, flags)
    assert found.facts["allLiens"]
    assert (found.facts["liens"][0]["ppm"], found.facts["owner"]) == (400_000, OWNER.hex())


@pytest.mark.parametrize(("status", "flags"), [(1, ["CONFLICT"]), (2, ["CONFLICT"]), (3, []), (4, [])])
def test_a_conflict_ends_with_its_contender(chain: ProofChain, status: int, flags: list[str]) -> None:
    claim(chain, flags=CONFLICT)
    chain.set(storage.mapped("_contests", CLAIM), int.from_bytes(LIEN, "big"))
    chain.set(storage.mapped("_contenders", LIEN) + 3, packed(storage.CONTENDER_END, status=status))
    assert prove(chain, PRESENCE).facts["flags"] == flags


def test_presence_says_when_liens_are_missing(chain: ProofChain) -> None:
    claim(chain, liens=2)
    found = prove(chain, PRESENCE)
    assert not found.facts["allLiens"]
    assert any("liens that the file does not show" in each for each in found.not_proved)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (replace(PRESENCE, claim=LIEN), "PROOF_NO_CLAIM"),
        (replace(PRESENCE, body=replace(BODY, owner=BANK)), "PROOF_BODY"),
        (replace(PRESENCE, tags=(LIEN,)), "PROOF_TAG"),
        (replace(PRESENCE, liens=(TAG,)), "PROOF_LIEN"),
        (replace(PRESENCE, tags=()), "PROOF_MALFORMED"),
    ],
)
def test_presence_of_what_is_not_so(chain: ProofChain, statement: Presence, expected: str) -> None:
    claim(chain)
    with pytest.raises(ConcordatError) as caught:
        make(statement, chain, chain.trust, now=NOW)
    assert caught.value.code == expected


def test_a_document_shows_its_fields_and_hides_the_others(chain: ProofChain) -> None:
    statement, _ = leaf(chain)
    data = make(statement, chain, chain.trust, now=NOW)
    found = verify(data, chain.trust, now=NOW)
    assert found.facts["fields"] == {"number": "INV-1"}
    assert b"50.00" not in data
    assert (found.status, found.grade) == (Status.DRAFT, Grade.NONE)
    assert found.facts["anchored"] == {"block": 5, "time": NOW - 900}
    assert any("no exclusivity" in each for each in found.proved)
    assert any("another draft" in each for each in found.not_proved)


def test_a_document_s_text_commands_no_terminal(chain: ProofChain) -> None:
    statement, _ = leaf(chain, {"number": "发票-1\x1b[2J\u202e\nStatus     LIVE", "seller": "S"})
    text = prove(chain, statement).text()
    assert "Field      number = 发票-1\\u001b[2J\\u202e\\u000aStatus     LIVE" in text
    assert "\x1b" not in text


def test_a_document_that_became_a_claim_shows_its_grade(chain: ProofChain) -> None:
    statement, _ = leaf(chain)
    fields = {"cap": FULL, "grade": 1, "liens": 1, "pledged": 5, "lapseWeek": WEEKS + 3}
    chain.set(storage.mapped("_claims", statement.leaf), packed(storage.CLAIM, **fields))
    found = prove(chain, statement)
    assert (found.status, found.grade) == (Status.LIVE, Grade.ATTESTED)
    assert any("obligor has not confirmed" in each for each in found.proved)


@pytest.mark.parametrize(("by", "name"), [(OWNER, "owner"), (BANK, "member")])
def test_one_leaf_is_revoked_and_the_batch_stands(chain: ProofChain, by: bytes, name: str) -> None:
    statement, _ = leaf(chain)
    chain.set(storage.spent_slot(by, revocation_nonce(statement.leaf)), 1)
    found = prove(chain, statement)
    assert (found.status, found.facts["revokedBy"]) == (Status.REVOKED, [name])
    neighbour = replace(statement, draft=replace(statement.draft, salt=b"\x55" * 32))
    tree = merkle.MerkleTree([neighbour.leaf])
    where = storage.mapped("_anchors", storage.anchor_id(1, tree.root(), 1, BANK))
    chain.set(where, packed(storage.ANCHORED, number=5, time=NOW - 900))
    other = replace(neighbour, root=tree.root(), count=1, index=0, path=())
    assert prove(chain, other).status is Status.DRAFT


def test_a_stranger_s_key_revokes_nothing(chain: ProofChain) -> None:
    statement, _ = leaf(chain)
    chain.set(storage.spent_slot(CLAIM, revocation_nonce(statement.leaf)), 1)
    assert prove(chain, statement).status is Status.DRAFT


def test_an_unanchored_document_is_not_proved(chain: ProofChain) -> None:
    statement, _ = leaf(chain)
    for other in (replace(statement, member=OWNER), replace(statement, count=4, index=1)):
        with pytest.raises(ConcordatError) as caught:
            make(other, chain, chain.trust, now=NOW)
        assert caught.value.code in ("PROOF_NOT_ANCHORED", "MERKLE_INCLUSION")


def test_cases_38_39_words_claim_no_more_than_the_registry_knows(chain: ProofChain) -> None:
    claim(chain)
    texts = [prove(chain, PRESENCE).text(), prove(chain, leaf(chain)[0]).text()]
    texts.append(prove(chain, Absence(((b"\x66" * 32,),))).text())
    for text in texts:
        assert "Not proved:" in text
        for word in ("unfinanced", "genuine", "not financed", "unique", "authentic"):
            assert word not in text.lower()


# ---- what is refused


def test_another_consortium(chain: ProofChain) -> None:
    data, other = make(ABSENCE, chain, chain.trust, now=NOW), ProofChain()
    assert code(chain, data, other.trust) == "PROOF_CONSORTIUM"
    assert code(chain, data, other.trust.fingerprint) == "PROOF_LEDGER"
    assert verify(data, chain.trust.fingerprint, now=NOW).fingerprint == chain.trust.fingerprint


def test_another_member_set_contract_or_genesis(chain: ProofChain) -> None:
    data = make(ABSENCE, chain, chain.trust, now=NOW)
    fewer = replace(chain.trust, members=chain.trust.members[:3])
    assert code(chain, data, fewer) == "PROOF_MEMBERS"
    assert code(chain, data, replace(chain.trust, registry=b"\x01" * 20)) == "PROOF_LEDGER"
    assert code(chain, data, replace(chain.trust, genesis=b"\x01" * 32)) == "PROOF_LEDGER"


def test_too_few_cosignatures(chain: ProofChain) -> None:
    proof = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    chain.cosigners = MEMBERS[:2]
    assert code(chain, replace(proof, checkpoint=chain.note()).encode()) == "CHECKPOINT_NOT_FINAL"
    chain.cosigners = ()
    assert code(chain, replace(proof, checkpoint=chain.note()).encode()) == "CHECKPOINT_NOT_FINAL"


def test_a_removed_member_does_not_count(chain: ProofChain) -> None:
    data = make(ABSENCE, chain, chain.trust, now=NOW)
    assert code(chain, data, removed=["bank-a"]) == "PROOF_MEMBER_REMOVED"
    assert verify(data, chain.trust, now=NOW, removed=["bank-d"]).signers == MEMBERS[:3]
    chain.cosigners = MEMBERS
    again = make(ABSENCE, chain, chain.trust, now=NOW)
    assert verify(again, chain.trust, now=NOW, removed=["bank-a"]).signers == MEMBERS[1:]


def test_a_stranger_s_signature_and_a_wrong_one(chain: ProofChain) -> None:
    proof = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    text = chain.checkpoint().text
    stranger = cosign(text, f"{chain.trust.origin}/bank-z", Ed25519PrivateKey.generate(), NOW)
    assert code(chain, replace(proof, checkpoint=chain.note(None, stranger)).encode()) == "PROOF_SIGNER"
    chain.keys["bank-a"] = Ed25519PrivateKey.generate()
    assert code(chain, replace(proof, checkpoint=chain.note()).encode()) == "PROOF_SIGNER"
    chain.keys["operator"] = Ed25519PrivateKey.generate()
    assert code(chain, replace(proof, checkpoint=chain.note()).encode()) == "PROOF_SIGNER"


def test_the_operator_must_have_signed(chain: ProofChain) -> None:
    proof = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    head, _, lines = proof.checkpoint.rpartition("\n\n")
    unsigned = head + "\n\n" + "".join(line + "\n" for line in lines.splitlines()[1:])
    assert code(chain, replace(proof, checkpoint=unsigned).encode()) == "NOTE_UNSIGNED"


@pytest.mark.parametrize(
    "field",
    [
        {"chain_id": 5},
        {"genesis": bytes(32)},
        {"registry": None},
        {"registry": (b"\x01" * 20, bytes(32))},
        {"members": bytes(32)},
        {"origin": "concordat/ledger/other"},
    ],
)
def test_a_checkpoint_that_names_something_else(chain: ProofChain, field: dict[str, Any]) -> None:
    proof = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    note = chain.note(chain.checkpoint(**field))
    assert code(chain, replace(proof, checkpoint=note).encode()) == "PROOF_CHECKPOINT"


def test_age_and_future(chain: ProofChain) -> None:
    claim(chain)
    for statement in (PRESENCE, Absence(((b"\x66" * 32,),)), leaf(chain)[0]):
        data = make(statement, chain, chain.trust, now=NOW)
        assert verify(data, chain.trust, now=NOW + 86_400).status
        assert code(chain, data, now=NOW + 86_401) == "PROOF_STALE"
        assert verify(data, chain.trust, now=NOW + 10**8, max_age=None).status
        assert code(chain, data, now=NOW - 301) == "PROOF_FUTURE"
    chain.cosigned_at = NOW + 1_000
    with pytest.raises(ConcordatError, match="PROOF_FUTURE"):
        make(ABSENCE, chain, chain.trust, now=NOW)


def test_header_and_nodes_of_another_block(chain: ProofChain) -> None:
    before = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    claim(chain)
    now = chain.note()
    assert code(chain, replace(before, checkpoint=now).encode()) == "PROOF_HEADER"
    after = Proof.decode(make(PRESENCE, chain, chain.trust, now=NOW))
    mixed = replace(before, checkpoint=now, header=after.header)
    assert code(chain, mixed.encode()) == "PROOF_NODE_MISSING"
    mixed = replace(before, checkpoint=now, header=after.header, account=after.account)
    assert code(chain, mixed.encode()) == "PROOF_NODE_MISSING"
    mixed = replace(after, statement=ABSENCE)
    assert code(chain, mixed.encode()) == "PROOF_CLAIMED"


@pytest.mark.parametrize(
    ("field", "value"),
    [("gasUsed", "0x5"), ("number", "0x1"), ("timestamp", "0x1"), ("stateRoot", "0x" + "11" * 32)],
)
def test_the_header_is_the_covered_block_s(chain: ProofChain, field: str, value: str) -> None:
    proof = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    header = encode_header({**chain.block(), field: value})
    assert code(chain, replace(proof, header=header).encode()) == "PROOF_HEADER"
    # Not even if the members had signed its hash beside the other block's state root, number and time.
    note = chain.note(chain.checkpoint(block_hash=bytes(keccak(header))))
    forged = replace(proof, header=header, checkpoint=note)
    if field != "gasUsed":
        assert code(chain, forged.encode()) == "PROOF_HEADER"


def test_nodes_that_prove_nothing(chain: ProofChain) -> None:
    proof = Proof.decode(make(ABSENCE, chain, chain.trust, now=NOW))
    for storage_nodes, account in (
        ((*proof.storage, b"\xc0"), proof.account),
        (proof.storage, (*proof.account, proof.account[0])),
        (proof.storage[::-1], proof.account),
    ):
        bad = replace(proof, storage=storage_nodes, account=account)
        if bad != proof:
            assert code(chain, bad.encode()) in ("PROOF_NODE_UNUSED", "PROOF_NODE_MISSING")


def test_other_tags_than_named(chain: ProofChain) -> None:
    data = make(ABSENCE, chain, chain.trust, now=NOW)
    assert verify(data, chain.trust, now=NOW, tags=[TAG]).status is Status.ABSENT
    for tags in ([LIEN], [TAG, LIEN]):
        assert code(chain, data, tags=tags) == "PROOF_OTHER_TAGS"
    assert code(chain, make(leaf(chain)[0], chain, chain.trust, now=NOW), tags=[TAG]) == "PROOF_OTHER_TAGS"


def test_one_key_is_no_two_members(chain: ProofChain) -> None:
    members = chain.trust.members
    for bad in (
        (*members[:3], replace(members[3], checkpoint=members[0].checkpoint)),
        (*members[:3], members[0]),
    ):
        with pytest.raises(ConcordatError, match="PROOF_MALFORMED"):
            Trust.from_json(replace(chain.trust, members=bad).to_json())


def test_what_is_no_proof(chain: ProofChain) -> None:
    data = make(ABSENCE, chain, chain.trust, now=NOW)
    content = canonical.decode(data)
    for name, value in (("version", 2), ("kind", "x"), ("statement", "uniqueness"), ("checkpoint", 3)):
        assert code(chain, canonical.encode(sealed({**content, name: value}))) == "PROOF_MALFORMED"
    assert code(chain, canonical.encode({**content, "header": "00"})) == "PROOF_DIGEST"
    assert code(chain, b"") == "CANONICAL_BYTES"
    assert code(chain, json.dumps(content).encode()) == "CANONICAL_BYTES"
    assert code(chain, b"[" * (5 << 20)) == "PROOF_SIZE"
    subject = {**content["subject"], "tags": [["AB" * 32]]}
    assert code(chain, canonical.encode(sealed({**content, "subject": subject}))) == "PROOF_MALFORMED"


def test_a_replica_that_lies_is_found_out_by_the_maker(chain: ProofChain, monkeypatch: Any) -> None:
    honest = chain.rpc

    def lying(method: str, *params: Any) -> Any:
        answer = honest(method, *params)
        if method == "eth_getProof" and answer["storageProof"]:
            answer["storageProof"][0]["proof"] = ["0xc20080"]
        return answer

    monkeypatch.setattr(chain, "rpc", lying)
    with pytest.raises(ConcordatError, match="PROOF_NODE_MISSING"):
        make(ABSENCE, chain, chain.trust, now=NOW)
    monkeypatch.setattr(chain, "rpc", lambda *asked: {"nonsense": 1})
    with pytest.raises(ConcordatError, match=r"PROOF_(ANSWER|HEADER)"):
        make(ABSENCE, chain, chain.trust, now=NOW)


# ---- the command


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["verify", *words])


def test_the_command_in_words_and_in_json(chain: ProofChain, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    file = tmp_path / "proof.json"
    file.write_bytes(make(ABSENCE, chain, chain.trust, now=NOW))
    told = run(str(file), "--trust", chain.trust.fingerprint)
    assert told.exit_code == 0
    assert "No claim in this registry and these epochs" in told.stdout
    found = json.loads(run(str(file), "--trust", chain.trust.fingerprint, "--format", "json").stdout)
    assert (found["status"], found["issuer"], found["integrity"]) == ("ABSENT", "TRUSTED", "VALID")
    assert found["notProved"]
    refused = run(str(file), "--format", "json")
    assert refused.exit_code == 4
    assert json.loads(refused.stdout)["title"] == "PROOF_NO_TRUST"
    assert chain.trust.fingerprint in json.loads(refused.stdout)["detail"]
    assert run(str(file), "--trust", "f" * 64).exit_code == 4
    assert run(str(file), "--trust", chain.trust.fingerprint, "--tag", "00").exit_code == 2
    assert run(str(file), "--trust", chain.trust.fingerprint, "--max-age", "soon").exit_code == 2
    assert run(str(file), "--trust", chain.trust.fingerprint, "--distrust", "bank-a").exit_code == 4
    assert run(str(file), "--trust", str(file)).exit_code == 4


def test_the_command_ends_with_8_for_a_revoked_document(
    chain: ProofChain, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    statement, _ = leaf(chain)
    chain.set(storage.spent_slot(OWNER, revocation_nonce(statement.leaf)), 1)
    file = tmp_path / "proof.json"
    file.write_bytes(make(statement, chain, chain.trust, now=NOW))
    told = run(str(file), "--trust", chain.trust.fingerprint)
    assert told.exit_code == 8
    assert "Status     REVOKED" in told.stdout
