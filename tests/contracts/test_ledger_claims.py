"""Confirm, attest, upgrade: who signs, what is refused."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from ledger_document import Document
from ledger_moves import attested, confirmed, dispute, pause, pledged, renew, revoke, upgrade
from ledger_world import DAY, World

from ledger.commitments import FULL, WEEK, ZERO, TagSet
from ledger.mandates import CancelIntent
from ledger.signers import AccountKey, Custodian, Party, Role, certify


def _refused(document: Document, **other: object) -> str:
    return document.confirm(**other).refusal.name


def test_case_10_another_seller_s_number_is_another_tag(world: World) -> None:
    assert confirmed(world).claim != confirmed(world).claim


def test_case_14_a_claim_blocks_another_applicant(world: World) -> None:
    first = confirmed(world)
    other = Document.new(world, names=first.names)
    refusal = other.confirm().refusal
    assert refusal.name == "TagTaken"
    assert refusal.arguments == {"tag": first.tags()[0].tags[0], "claimId": first.claim}
    bank = world.party(Role.BANK)
    assert other.attest(bank).refusal.name == "TagTaken"


def test_case_64_an_alias_is_the_same_debt(world: World) -> None:
    first = confirmed(world, names=[b"invoice", b"voucher"])
    assert _refused(Document.new(world, names=[b"voucher"])) == "TagTaken"
    assert world.status(first.claim)["aliases"] == 2


@pytest.mark.parametrize("missing", ["owner", "obligor"])
def test_confirm_needs_both_signatures(world: World, missing: str) -> None:
    document = Document.new(world)
    stranger = world.party(Role.SUPPLIER if missing == "owner" else Role.OBLIGOR)
    expected = {"owner": "DraftMismatch", "obligor": "WrongCounterparty"}[missing]
    assert _refused(document, **{missing: stranger}) == expected


def test_confirm_needs_real_signatures(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    for at in (1, 2):
        call = document.confirm_call(draft)
        call[at] = (*call[at][:6], AccountKey.new().sign(os.urandom(32)))
        assert world.submit("confirm", *call).refusal.name == "BadSignature"
        for broken in (b"", bytes(64), bytes(65)):
            call[at] = (*call[at][:6], broken)
            assert world.submit("confirm", *call).refusal.name == "BadSignature"


def test_case_37_fake_lookalike_and_revoked_obligors(world: World) -> None:
    # A key that another registry certified.
    fake_registry = AccountKey.new()
    key = AccountKey.new()
    fake = Party(key, certify(fake_registry, world.domain, Role.OBLIGOR, key.key, world.late()))
    assert _refused(Document.new(world, obligor=fake)) == "BadCertificate"
    # A certificate changed after its signature.
    good = world.party(Role.SUPPLIER)
    lookalike = Party(good.signer, replace(good.certificate, role=Role.OBLIGOR))
    assert _refused(Document.new(world, obligor=lookalike)) == "BadCertificate"
    # A certified key of another role.
    assert _refused(Document.new(world, obligor=world.party(Role.SUPPLIER))) == "WrongRole"
    assert _refused(Document.new(world, obligor=world.party(Role.OBLIGOR | Role.BANK))) == "WrongRole"
    # Revoked, expired.
    revoked = world.party(Role.OBLIGOR)
    assert revoke(world, revoked).ok
    assert _refused(Document.new(world, obligor=revoked)) == "CertificateRevoked"
    old = world.party(Role.OBLIGOR, expiry=world.time + 5)
    assert _refused(Document.new(world, obligor=old)) == "CertificateExpired"


def test_case_42_a_key_revoked_later_keeps_what_it_signed_and_signs_no_more(world: World) -> None:
    document = confirmed(world)
    assert revoke(world, document.obligor).ok
    assert world.status(document.claim)["grade"] == 2
    assert document.settle_free(500_000).refusal.name == "CertificateRevoked"
    assert document.pledge(world.party(Role.BANK), 1).ok


def test_only_the_registry_revokes(world: World) -> None:
    document = confirmed(world)
    world.registry, true = AccountKey.new(), world.registry
    try:
        assert revoke(world, document.owner).refusal.name == "BadSignature"
    finally:
        world.registry = true


def test_a_supplier_s_key_kept_by_a_bank_is_refused(world: World) -> None:
    owner = world.party(Role.SUPPLIER, Custodian.BANK)
    assert _refused(Document.new(world, owner=owner)) == "CustodianConflict"
    assert confirmed(world, owner=world.party(Role.SUPPLIER, Custodian.NEUTRAL)).claim


def test_case_40_a_confirmation_counts_once_here_and_now(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    # Another chain, contract or consortium.
    true = world.domain
    for domain in (
        replace(true, chain_id=true.chain_id + 1),
        replace(true, contract=os.urandom(20)),
        replace(true, consortium=os.urandom(32)),
    ):
        world.domain = domain
        call = document.confirm_call(draft)
        world.domain = true
        assert world.submit("confirm", *call).refusal.name == "BadSignature"
    # Too late.
    call = document.confirm_call(draft, not_after=world.time - 1)
    assert world.submit("confirm", *call).refusal.name == "SignatureExpired"
    assert world.submit("confirm", *document.confirm_call(draft, not_after=world.time)).ok


def test_case_15_the_same_statement_again_is_already_applied(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    assert world.submit("confirm", *call).ok
    before = world.view("packedOf", draft[0])
    world.pass_time(20_000 * DAY)
    again = world.submit("confirm", *call)
    assert again.refusal.name == "AlreadyApplied"
    assert again.refusal.arguments["digest"] == world.domain.digest(call[0].struct_hash())
    assert world.view("packedOf", draft[0]) == before


def test_a_nonce_serves_one_statement(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    assert world.submit("confirm", *call).ok
    other = Document.new(world, owner=document.owner)
    again = other.draft()
    world.pass_time()
    refusal = world.submit("confirm", *other.confirm_call(again, nonce=call[0].nonce)).refusal
    assert refusal.name == "NonceUsed"
    # The same nonce under another key is another nonce.
    third = Document.new(world)
    assert third.confirm(nonce=call[0].nonce).ok


def test_a_cancelled_nonce_is_used_up(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    cancel = CancelIntent(call[0].nonce, world.late())
    stranger = world.party(Role.SUPPLIER)
    assert world.submit("cancel", cancel, stranger.sign(world.domain, cancel)).ok
    assert world.submit("cancel", cancel, document.owner.sign(world.domain, cancel)).ok
    assert world.submit("confirm", *call).refusal.name == "NonceUsed"


def test_tags_are_canonical(world: World) -> None:
    document = Document.new(world, names=[b"a", b"b"])

    def refused(sets: list[TagSet]) -> str:
        draft = document.draft(sets)
        world.pass_time()
        return world.submit("confirm", *document.confirm_call(draft, sets)).refusal.name

    one, two = document.tags()[0].tags
    assert refused([TagSet(1, (two, one))]) == "TagsMalformed"
    assert refused([TagSet(1, (one, one))]) == "TagsMalformed"
    assert refused([TagSet(1, ())]) == "TagsMalformed"
    assert refused([TagSet(1, (ZERO, one))]) == "TagsMalformed"
    assert refused([TagSet(2, (one,))]) == "EpochMismatch"
    assert refused([]) == "EpochMismatch"
    assert refused([TagSet(1, (one,)), TagSet(2, (two,))]) == "EpochMismatch"
    assert refused(document.tags(names=[bytes([n]) for n in range(5)])) == "TooManyTags"
    document.names = [bytes([n]) for n in range(4)]
    assert document.confirm().ok


def test_tags_are_those_that_were_signed(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    call[4] = document.tags(names=[b"other"])
    assert world.submit("confirm", *call).refusal.name == "DraftMismatch"


@pytest.mark.parametrize(("ahead", "name"), [(53, ""), (54, "DueTooFar"), (200, "DueTooFar")])
def test_due_week_is_near(world: World, ahead: int, name: str) -> None:
    outcome = Document.new(world, due=world.week(ahead)).confirm()
    assert outcome.ok if not name else outcome.refusal.name == name


def test_pause_stops_confirm_and_attest(world: World) -> None:
    document, bank = Document.new(world), world.party(Role.BANK)
    draft, ticket = document.draft(), document.ticket(bank)
    world.pass_time()
    assert pause(world).ok
    assert world.submit("confirm", *document.confirm_call(draft)).refusal.name == "Paused"
    call = document.attest_call(draft, ticket, bank, 1)
    assert world.submit("attest", *call).refusal.name == "Paused"
    world.pass_time(72 * 3600)
    assert world.submit("confirm", *document.confirm_call(draft)).ok


def test_attest_takes_the_first_lien(world: World) -> None:
    document, _, lien = attested(world, 300_000)
    status = world.status(document.claim)
    assert (status["grade"], status["pledged"], status["liens"]) == (1, 300_000, 1)
    assert status["lapseWeek"] == status["dueWeek"] + 26
    assert world.lien(document.claim, lien)[0] == 300_000


@pytest.mark.parametrize(("ppm", "name"), [(0, "ZeroPpm"), (FULL + 1, "OverCapacity"), (1, ""), (FULL, "")])
def test_attest_takes_between_one_ppm_and_all(world: World, ppm: int, name: str) -> None:
    outcome = Document.new(world).attest(world.party(Role.BANK), ppm)
    assert outcome.ok if not name else outcome.refusal.name == name


def test_attest_refuses_its_bank_as_custodian_and_overdue(world: World) -> None:
    bank = world.party(Role.BANK)
    assert Document.new(world).attest(bank, custodian=bank.key_id).refusal.name == "CustodianConflict"
    assert Document.new(world, due=world.week(-1)).attest(bank).refusal.name == "Overdue"
    assert Document.new(world, due=world.week()).attest(bank).ok
    late = Document.new(world, due=world.week(-1))
    assert late.confirm().ok  # confirmed, but nobody can pledge it
    assert late.pledge(bank, 1).refusal.name == "Overdue"


def test_attest_needs_owner_and_bank(world: World) -> None:
    document, bank = Document.new(world), world.party(Role.BANK)
    member = world.party(Role.MEMBER)
    assert Document.new(world).attest(member).refusal.name == "WrongRole"
    assert document.attest(bank, owner=world.party(Role.SUPPLIER)).refusal.name == "DraftMismatch"
    assert document.attest(bank, counterparty=os.urandom(32)).refusal.name == "WrongCounterparty"


def test_an_attested_claim_lapses_and_frees_its_tags(world: World) -> None:
    document, _, lien = attested(world)
    tag = document.tags()[0].tags[0]
    last = world.status(document.claim)["lapseWeek"]
    world.pass_time(last * WEEK + WEEK - 1 - world.time)
    assert world.view("holderOf", tag) == document.claim
    world.pass_time(1)
    assert world.view("holderOf", tag) == ZERO
    assert world.status(document.claim)["end"] == 2
    assert document.release(lien).refusal.name == "WrongState"
    assert renew(document, lien).refusal.name == "WrongState"
    assert confirmed(world, names=document.names).claim != document.claim
    assert world.submit("sweep", document.claim, document.body).ok
    assert world.submit("sweep", document.claim, document.body).refusal.name == "WrongState"


def test_a_live_claim_is_not_swept(world: World) -> None:
    document, _, _ = attested(world)
    assert world.submit("sweep", document.claim, document.body).refusal.name == "WrongState"


def test_a_holder_renews_an_attested_claim(world: World) -> None:
    document, _, lien = attested(world)
    world.pass_time((world.status(document.claim)["lapseWeek"]) * WEEK - world.time)
    assert renew(document, lien).ok
    assert world.status(document.claim)["lapseWeek"] == world.week(26)
    other = confirmed(world)
    assert renew(other, pledged(other, 1)).refusal.name == "WrongState"


def _only(document: Document) -> bytes:
    return next(iter(document.liens))


def test_case_30_a_contract_pledged_whole_blocks_its_invoices(world: World) -> None:
    contract = confirmed(world)
    tag = contract.tags()[0].tags[0]
    invoice = confirmed(world, contract_tag=tag)  # nothing pledged on the contract yet
    assert pledged(contract, 10)
    refusal = Document.new(world, contract_tag=tag).confirm().refusal
    assert (refusal.name, refusal.arguments["claimId"]) == ("ContractEncumbered", contract.claim)
    bank = world.party(Role.BANK)
    assert Document.new(world, contract_tag=tag).attest(bank).refusal.name == "ContractEncumbered"
    assert invoice.pledge(bank, 1).refusal.name == "ContractEncumbered"
    assert contract.release(_only(contract)).ok
    assert invoice.pledge(bank, 1).ok


def test_case_65_invoices_financed_block_a_lien_on_their_contract(world: World) -> None:
    contract = confirmed(world)
    invoice = confirmed(world, contract_tag=contract.tags()[0].tags[0])
    lien = pledged(invoice, FULL)
    bank = world.party(Role.BANK)
    assert contract.pledge(bank, 1).refusal.name == "ContractEncumbered"
    assert world.view("encumberedUnder", contract.tags()[0].tags[0]) == 1
    assert invoice.release(lien).ok
    assert contract.pledge(bank, 1).ok


def test_the_contract_tag_is_named_or_denied(world: World) -> None:
    assert Document.new(world, contract_tag=ZERO).confirm().refusal.name == "ContractTagMissing"


def test_upgrade_by_holder_or_member(world: World) -> None:
    for by in ("holder", "member"):
        document, _, _ = attested(world, 400_000)
        assert upgrade(document, 900_000, by).ok
        status = world.status(document.claim)
        assert (status["grade"], status["cap"], status["flags"], status["credited"]) == (
            2,
            900_000,
            0,
            100_000,
        )
        assert status["lapseWeek"] == 0


def test_upgrade_refusals(world: World) -> None:
    document, _, _ = attested(world)
    assert upgrade(document, by="nobody").refusal.name == "MissingHolder"
    assert upgrade(document, seq=7).refusal.name == "StaleSeq"
    assert upgrade(document, contract_tag=ZERO).refusal.name == "ContractTagMissing"
    assert upgrade(document, counterparty=os.urandom(32)).refusal.name == "WrongCounterparty"
    assert upgrade(document, 900_000).ok
    assert upgrade(document, 900_000).refusal.name == "WrongState"
    lower, _, lien = attested(world, 100_000)
    assert lower.settle_lien(lien, 50_000, 800_000, payer=lower.owner).ok
    assert upgrade(lower, 800_001).refusal.name == "NotLower"
    assert upgrade(lower, 800_000).ok


def test_upgrade_clears_a_dispute_and_may_fall_short(world: World) -> None:
    document, _, lien = attested(world, 400_000)
    assert dispute(document).ok
    assert world.status(document.claim)["flags"] == 4
    assert upgrade(document, 300_000).ok
    status = world.status(document.claim)
    assert (status["grade"], status["flags"], status["free"]) == (2, 1, 0)
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"
    assert document.release(lien).ok
    assert world.status(document.claim)["flags"] == 0


def test_council_keys_do_not_confirm_attest_or_pledge(world: World) -> None:
    key = world.council[0]
    for role, act in ((Role.SUPPLIER, "owner"), (Role.OBLIGOR, "obligor")):
        document = Document.new(world, **{act: world.party(role, key=key)})
        assert document.confirm().refusal.name == "CouncilKey"
    bank = world.party(Role.BANK, key=key)
    assert Document.new(world).attest(bank).refusal.name == "CouncilKey"
    assert confirmed(world).pledge(bank, 1).refusal.name == "CouncilKey"
