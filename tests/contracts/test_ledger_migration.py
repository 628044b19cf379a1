"""A new version takes over: named by the council, after notice, claim by claim."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from eth_abi.abi import decode
from eth_utils.crypto import keccak
from ledger_document import Document
from ledger_moves import add_tags, attested, confirmed, contend, freeze, pledged, revoke, split
from ledger_world import DAY, Outcome, World

from ledger.commitments import FULL, ZERO
from ledger.eip712 import Domain, new_nonce
from ledger.mandates import RetireIntent
from ledger.signers import Party, Role, certify


class Versions:
    """Two versions of one ledger; `new()` speaks to the second."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.old = (world.at, world.domain)
        genesis = replace(world.genesis, predecessor=world.at["Ledger"])
        at = world.deploy(genesis)
        self.next = (at, Domain(world.chain_id, at["Ledger"], genesis.consortium))

    def retire(self, count: int = 4) -> Outcome:
        """The council names the successor."""
        intent = RetireIntent(self.next[0]["Ledger"], new_nonce(), self.world.late())
        return self.world.submit("retire", intent, self.world.by_council(intent, count))

    @contextmanager
    def new(self) -> Iterator[None]:
        """Speak to the new version."""
        self.world.at, self.world.domain = self.next
        try:
            yield
        finally:
            self.world.at, self.world.domain = self.old

    def again(self, party: Party) -> Party:
        """The registry certifies a key for the new version."""
        c = party.certificate
        return Party(
            party.signer,
            certify(self.world.registry, self.next[1], c.role, c.key, c.expiry, c.custodian, c.key_set),
        )

    def carry(self, document: Document) -> Outcome:
        """Import one claim; its parties get new certificates."""
        liens = sorted(document.liens)
        tags = document.tags() if document.body.root == ZERO else []  # a part holds none
        outcome = self.world.submit("importClaim", document.claim, document.body, liens, tags)
        if outcome.ok:
            document.owner, document.obligor = self.again(document.owner), self.again(document.obligor)
            document.liens = {one: self.again(bank) for one, bank in document.liens.items()}
        return outcome


def test_a_claim_goes_on_in_the_next_version(world: World) -> None:
    versions = Versions(world)
    document, waiting = confirmed(world), confirmed(world)
    lien = pledged(document, 600_000)
    assert document.settle_free(900_000).ok
    assert freeze(document).ok
    with versions.new():
        assert versions.carry(document).refusal.name == "NotRetired"
    assert versions.retire(3).refusal.name == "CouncilTooFew"
    assert versions.retire().ok
    assert versions.retire().refusal.name == "Retired"
    # During the notice the old version works on, and nothing is carried over.
    assert confirmed(world).claim
    with versions.new():
        assert versions.carry(document).refusal.name == "NotRetired"
    world.pass_time(14 * DAY)
    before = world.status(document.claim)
    with versions.new():
        assert versions.carry(document).ok
        assert versions.carry(document).refusal.name == "AlreadyImported"
        after = world.status(document.claim)
        for field in before:
            if field != "seq":
                assert before[field] == after[field], field
        assert world.view("claimOf", document.tags()[0].tags[0]) == document.claim
        assert document.pledge(_bank(world), 300_001).refusal.arguments == {"free": 300_000}
        assert document.pledge(_bank(world), 300_000).ok
        assert document.release(lien).ok
    # The old version lets go of what was carried over, and keeps serving what was not.
    old_version = Document(world, waiting.owner, waiting.obligor, names=waiting.names)
    old_version.claim, old_version.body = waiting.claim, waiting.body
    assert old_version.settle_free(500_000).ok
    document.owner, document.obligor = _old(world, document.owner), _old(world, document.obligor)
    assert document.settle_free(0).refusal.name == "Moved"


def _bank(world: World) -> Party:
    """A bank certified where the world speaks to."""
    return world.party(Role.BANK)


def _old(world: World, party: Party) -> Party:
    c = party.certificate
    return Party(party.signer, certify(world.registry, world.domain, c.role, c.key, c.expiry))


def test_tags_of_the_old_version_are_taken_in_the_new_one(world: World) -> None:
    versions = Versions(world)
    stays, gone = confirmed(world), confirmed(world)
    assert gone.settle_free(0).ok
    with versions.new():
        for claim in (stays, gone):
            other = Document.new(world, names=claim.names)
            world.members = [versions.again(one) for one in world.members]
            refusal = other.confirm().refusal
            assert (refusal.name, refusal.arguments["claimId"]) == ("TagTaken", claim.claim)
    world.members = [_old(world, one) for one in world.members]


def test_a_contract_s_liens_in_the_old_version_block_its_invoices_in_the_new(world: World) -> None:
    versions = Versions(world)
    contract, idle = confirmed(world), confirmed(world)
    pledged(contract, 1)
    tags = [one.tags()[0].tags[0] for one in (contract, idle)]
    with versions.new():
        before, world.members = world.members, [versions.again(one) for one in world.members]
        refusal = Document.new(world, contract_tag=tags[0]).confirm().refusal
        assert (refusal.name, refusal.arguments["claimId"]) == ("ContractEncumbered", contract.claim)
        assert Document.new(world, contract_tag=tags[1]).confirm().ok
        world.members = before


def test_new_business_ends_in_the_old_version(world: World) -> None:
    versions = Versions(world)
    document = confirmed(world)
    lien = pledged(document, 10)
    draft = Document.new(world)
    anchored = draft.draft()
    assert versions.retire().ok
    world.pass_time(14 * DAY)
    assert world.submit("confirm", *draft.confirm_call(anchored)).refusal.name == "Retired"
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "Retired"
    assert document.release(lien).ok
    assert document.settle_free(0).ok


def test_import_shows_body_liens_and_tags_as_they_are(world: World) -> None:
    versions = Versions(world)
    document, other = confirmed(world), confirmed(world)
    one, two = pledged(document, 10), pledged(document, 20)
    hit, _, _ = attested(world)
    assert contend(Document.new(world, names=hit.names)).ok
    _, child = split(other, world.party(Role.SUPPLIER), 100)
    assert child is not None
    assert versions.retire().ok
    world.pass_time(14 * DAY)
    with versions.new():

        def refused(claim: Document, liens: list[bytes], body: object = None, tags: object = None) -> str:
            outcome = world.submit("importClaim", claim.claim, body or claim.body, liens, tags or [])
            return outcome.refusal.name

        both = sorted([one, two])
        assert refused(document, both[:1]) == "LiensMismatch"
        assert refused(document, both[::-1]) == "LiensMismatch"
        assert refused(document, [both[0], both[0]]) == "LiensMismatch"
        assert refused(document, both, body=replace(document.body, owner=ZERO)) == "BodyMismatch"
        assert refused(document, both, tags=list(other.tags())) == "TagMismatch"
        assert refused(hit, sorted(hit.liens)) == "Frozen"
        assert refused(child, []) == "NotRoot"
        unknown = Document.new(world, claim=os.urandom(32))
        unknown.body = document.body
        assert refused(unknown, []) == "WrongState"
        assert versions.carry(other).ok
        assert versions.carry(child).ok
        assert child.pledge(_bank(world), 100).ok
        # Tags that nobody wrote down here are still judged by the claim's state here.
        assert world.submit("importClaim", document.claim, document.body, both, []).ok
        assert world.view("claimOf", document.tags()[0].tags[0]) == ZERO
        world.members = [versions.again(member) for member in world.members]
        assert Document.new(world, names=document.names).confirm().refusal.name == "TagTaken"
    world.members = [_old(world, one) for one in world.members]


def test_a_successor_is_a_contract(world: World) -> None:
    for address in (os.urandom(20), world.at["Ledger"]):
        intent = RetireIntent(address, new_nonce(), world.late())
        assert world.submit("retire", intent, world.by_council(intent, 4)).refusal.name == "BadCouncil"


def test_the_address_book_follows_the_ledgers_themselves(world: World) -> None:
    versions = Versions(world)
    book = world.at["AddressBook"]
    advance, latest = keccak(text="advance()")[:4], keccak(text="latest()")[:4]

    def newest() -> tuple[int, str]:
        number, version = decode(["uint256", "(address,bytes32,uint64)"], world.raw(book, latest).data)
        return number, version[0]

    assert newest() == (1, "0x" + world.at["Ledger"].hex())
    assert not world.raw(book, advance).ok
    assert versions.retire().ok
    assert world.raw(book, advance).ok
    assert newest() == (2, "0x" + versions.next[0]["Ledger"].hex())
    assert not world.raw(book, advance).ok


def test_a_version_without_predecessor_imports_nothing(world: World) -> None:
    document = confirmed(world)
    assert world.submit("importClaim", document.claim, document.body, [], []).refusal.name == "NotRetired"
    assert revoke(world, document.owner).ok
    assert add_tags(document, document.tags(names=[b"n"]), number=True).refusal.name == "CertificateRevoked"
    assert world.status(document.claim)["cap"] == FULL
