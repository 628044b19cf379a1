"""Proof files of a real ledger: contracts, gateway and three members as processes; also under the second engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from engine_processes import eventually, needs_engine
from ledger_document import Document
from ledger_gateway import BANKS, GatewayWorld, genesis_of, running
from ledger_moves import confirmed

from ledger.commitments import Draft, tags_hash
from ledger.eip712 import new_nonce
from ledger.mandates import AnchorIntent, CancelIntent
from ledger.proofs.fields import SaltedFields
from ledger.proofs.making import MemberSource, make
from ledger.proofs.statements import Absence, DocumentLeaf, Presence, revocation_nonce
from ledger.proofs.trust import Trust
from ledger.proofs.verdict import Grade, Status
from ledger.proofs.verifying import verify
from ledger.signers import Role
from protocol.errors import ConcordatError
from protocol.merkle import MerkleTree

pytestmark = [pytest.mark.integration, needs_engine]


@pytest.mark.parametrize("engine", ["edr", "anvil"])
def test_a_file_for_each_statement(tmp_path: Path, engine: str) -> None:
    with running(tmp_path, BANKS, engine) as (world, urls):
        trust = Trust.of(genesis_of(tmp_path))
        with httpx.Client(trust_env=False, timeout=60) as client:
            source = MemberSource(urls["bank-b"], client)
            _follow(world, urls, trust, source, tmp_path)


def _covered(world: GatewayWorld, url: str) -> None:
    """Wait until a member calls everything final that the operator has."""
    size = world.client.get(f"{world.url}/health").json()["records"]

    def final() -> bool:
        answer = httpx.get(f"{url}/final", trust_env=False)
        return answer.status_code == 200 and answer.json()["size"] >= size

    eventually(final, 60)


def _follow(
    world: GatewayWorld, urls: dict[str, str], trust: Trust, source: MemberSource, folder: Path
) -> None:
    now = int(time.time())
    held = SaltedFields.of({"amount": "1000.00", "number": "INV-7", "seller": "S"})
    document = Document.new(world, doc_root=held.root())
    salt = os.urandom(32)
    fields = (document.owner.key_id, tags_hash(document.tags()), document.terms, document.doc_root)
    draft = Draft(*fields, document.contract_tag, salt)
    other = Draft(*fields, document.contract_tag, os.urandom(32))
    tree, member = MerkleTree([os.urandom(32), draft.claim_id(), other.claim_id()]), world.members[0]
    intent = AnchorIntent(1, tree.root(), 3, new_nonce(), world.late())
    assert world.submit("anchor", intent, member.sign(world.domain, intent)).ok
    shown = held.show(["number", "seller"])
    leaf = DocumentLeaf(draft, shown, member.key_id, tree.root(), 3, 1, tree.inclusion_proof(1))
    second = replace(leaf, draft=other, index=2, path=tree.inclusion_proof(2))
    tags = tuple(each.tags for each in document.tags())

    _covered(world, urls["bank-b"])
    file = folder / "absence.json"
    file.write_bytes(make(Absence(tags), source, trust, now=now))
    assert verify(file.read_bytes(), trust, now=now, tags=tags[0]).status is Status.ABSENT
    drafted = verify(make(leaf, source, trust, now=now), trust, now=now)
    assert (drafted.status, drafted.grade) == (Status.DRAFT, Grade.NONE)

    # The claim, two liens, and the words about them.
    confirmed_document = confirmed(world, names=document.names)
    bank = world.party(Role.BANK)
    liens = tuple(sorted(confirmed_document.pledge(bank, ppm).data for ppm in (600_000, 250_000)))
    cancel = CancelIntent(revocation_nonce(second.leaf), world.late())
    assert world.submit("cancel", cancel, document.owner.sign(world.domain, cancel)).ok
    _covered(world, urls["bank-b"])
    assert confirmed_document.body is not None
    claim = Presence(confirmed_document.claim, confirmed_document.body, tags[0], liens)
    found = verify(make(claim, source, trust, now=now), trust, now=now)
    assert (found.status, found.grade) == (Status.LIVE, Grade.CONFIRMED)
    status = world.status(confirmed_document.claim)
    for name in ("cap", "pledged", "free", "original", "settled", "transferred", "credited", "dueWeek"):
        assert found.facts[name] == status[name]
    assert sorted(one["ppm"] for one in found.facts["liens"]) == [250_000, 600_000]
    assert found.facts["allLiens"]
    with pytest.raises(ConcordatError, match="PROOF_CLAIMED"):
        make(Absence(tags), source, trust, now=now)

    # One leaf of the batch is revoked by its owner, the other stands.
    assert verify(make(second, source, trust, now=now), trust, now=now).status is Status.REVOKED
    assert verify(make(leaf, source, trust, now=now), trust, now=now).status is Status.DRAFT

    # Offline, in a process of its own, with nothing but the file and the genesis document.
    command = [sys.executable, "-c", "from concordat.cli.app import main; main()", "verify", str(file)]
    command += ["--format", "json"]
    genesis = folder / "operator" / "genesis.json"
    ran = subprocess.run([*command, "--trust", str(genesis)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["status"] == "ABSENT"
    ran = subprocess.run([*command, "--trust", "0" * 64], capture_output=True, text=True, check=False)
    assert (ran.returncode, json.loads(ran.stdout)["title"]) == (4, "PROOF_LEDGER")
