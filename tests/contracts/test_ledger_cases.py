"""Cases of the catalogue that no single rule answers: what the registry says to them, and what it does not say."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from ledger_document import Document
from ledger_moves import (
    add_tags,
    attested,
    confirmed,
    contend,
    dispute,
    freeze,
    pledged,
    transfer,
)
from ledger_world import DAY, World

from ledger.commitments import FULL, NO_CONTRACT
from ledger.signers import Certificate, Party, Role

CONFLICT, DISPUTED, HOLD = 2, 4, 8


def test_case_25_a_pending_red_letter_blocks_pledges_and_no_payment(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 300_000)
    assert freeze(document).ok  # on the tax bureau's notice, until the credit note is there
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"
    assert document.credit_note(500_000).ok
    assert document.settle_lien(lien, 0, 200_000).ok


def test_case_31_an_order_and_its_invoice_meet_only_where_the_obligor_names_the_order(world: World) -> None:
    order = confirmed(world)
    pledged(order, FULL)
    named = Document.new(world, contract_tag=order.tags()[0].tags[0])
    assert named.confirm().refusal.name == "ContractEncumbered"
    # An obligor that signs an explicit "none" is believed: what nobody declares stays undetected.
    silent = confirmed(world, contract_tag=NO_CONTRACT)
    assert silent.pledge(world.party(Role.BANK), FULL).ok


def test_case_33_a_public_registration_is_recorded_with_its_time_and_judges_nothing(world: World) -> None:
    document, evidence = confirmed(world), os.urandom(32)
    place = world.anchor(evidence, kind=3)
    assert world.view("anchoredAt", 3, evidence, 1, place.member) == (world.number, world.time)
    world.pass_time()
    assert document.pledge(world.party(Role.BANK), FULL).ok


def test_case_34_a_term_beyond_a_year_is_refused(world: World) -> None:
    assert Document.new(world, due=world.week(54)).confirm().refusal.name == "DueTooFar"
    # Beyond half a year the contract takes it; to warn is the desk's task.
    assert Document.new(world, due=world.week(53)).confirm().ok


def test_case_53_goods_financed_by_receipt_and_by_invoice_are_linked_by_whoever_compares(
    world: World,
) -> None:
    receipt, invoice = confirmed(world), confirmed(world)
    pledged(receipt, FULL)
    lien = pledged(invoice, FULL)
    # Different documents have different tags: nothing is seen until a holder and a member link them.
    outcome = add_tags(invoice, invoice.tags(names=receipt.names), number=True, member=True, lien=lien)
    assert outcome.ok
    for document in (receipt, invoice):
        assert world.status(document.claim)["flags"] == CONFLICT
        assert document.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"


def test_case_54_an_invoice_voided_afterwards_is_held_as_long_as_it_is_renewed(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, FULL)
    for _ in range(3):
        assert freeze(document).ok
        world.pass_time(6 * DAY)
        assert world.status(document.claim)["flags"] == HOLD
    assert document.release(lien).ok


def test_case_55_a_circle_of_sales_is_one_claim_with_a_history(world: World) -> None:
    document = confirmed(world)
    first = document.owner
    for owner in (world.party(Role.SUPPLIER), world.party(Role.SUPPLIER), first):
        assert transfer(document, owner).ok
    status = world.status(document.claim)
    assert (status["version"], status["grade"], status["flags"]) == (3, 2, 0)
    assert document.pledge(world.party(Role.BANK), FULL).ok
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "OverCapacity"


def test_case_56_an_obligor_that_the_registry_did_not_certify_confirms_nothing(world: World) -> None:
    true = world.party(Role.OBLIGOR)
    forged = Certificate(
        Role.OBLIGOR, true.certificate.key, true.certificate.custodian, bytes(32), world.late()
    )
    for obligor, name in (
        (Party(true.signer, replace(forged, signature=os.urandom(65))), "BadCertificate"),
        (world.party(Role.SUPPLIER), "WrongRole"),
        (world.party(Role.MEMBER), "WrongRole"),
    ):
        assert Document.new(world, obligor=obligor).confirm().refusal.name == name


def test_cases_59_60_waivers_stand_in_the_terms_that_the_obligor_signed(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    # Terms with another waiver have another commitment: the draft does not open, and a consent does not match.
    call = document.confirm_call(draft, terms_hash=os.urandom(32))
    assert world.submit("confirm", *call).refusal.name == "DraftMismatch"
    assert document.confirm().ok
    other = document.pledge(world.party(Role.BANK), 1, terms_hash=os.urandom(32))
    assert other.refusal.name == "BodyMismatch"


def test_case_61_who_lacked_authority_denies_an_attested_claim_with_evidence(world: World) -> None:
    hit, _, _ = attested(world)
    evidence = os.urandom(32)
    outcome = dispute(hit, evidence=evidence)
    assert outcome.ok
    assert evidence in [value for one in outcome.events for value in one.fields.values()]
    assert world.status(hit.claim)["flags"] == DISPUTED
    # What an obligor's certified key confirmed stands; the evidence of its authority is in the documents' root.
    assert dispute(confirmed(world)).refusal.name == "WrongState"


def test_case_63_a_blanket_lien_on_a_pair_blocks_the_invoices_that_name_it(world: World) -> None:
    blanket = confirmed(world, names=[b"all receivables of seller and buyer"])
    pair = blanket.tags()[0].tags[0]
    invoice = confirmed(world, contract_tag=pair)
    pledged(blanket, FULL)
    bank = world.party(Role.BANK)
    assert invoice.pledge(bank, 1).refusal.name == "ContractEncumbered"
    assert Document.new(world, contract_tag=pair).attest(bank).refusal.name == "ContractEncumbered"


@pytest.mark.parametrize("grade", ["attested", "confirmed"])
def test_cases_38_39_what_colluding_parties_sign_is_unique_and_no_more(world: World, grade: str) -> None:
    document, bank = Document.new(world), world.party(Role.BANK)
    assert (document.attest(bank) if grade == "attested" else document.confirm()).ok
    status = world.status(document.claim)
    assert status["grade"] == (1 if grade == "attested" else 2)
    assert not [name for name in status if "genuine" in name or "authentic" in name or "verified" in name]
    again = Document.new(world, names=document.names)
    assert again.confirm().refusal.name == "TagTaken"
    assert contend(again).ok == (grade == "attested")
