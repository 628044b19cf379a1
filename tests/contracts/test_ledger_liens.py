"""Pledge, release, assign, freeze a lien."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from ledger_document import Document
from ledger_moves import (
    amend,
    assign_lien,
    attested,
    confirmed,
    digest,
    freeze,
    freeze_lien,
    pause,
    pledged,
    revoke,
    transfer,
)
from ledger_world import DAY, World

from ledger.commitments import FULL, WEEK, ZERO, TagSet, holder_ref
from ledger.eip712 import new_nonce
from ledger.intents import ReleaseIntent
from ledger.mandates import CancelIntent
from ledger.signers import Custodian, Party, Role, holder_auth


def test_case_16_sixty_and_forty_percent_fit_and_no_more(world: World) -> None:
    document = confirmed(world)
    pledged(document, 600_000)
    pledged(document, 400_000)
    refusal = document.pledge(world.party(Role.BANK), 1).refusal
    assert (refusal.name, refusal.arguments) == ("OverCapacity", {"free": 0})


@pytest.mark.parametrize(("ppm", "fits"), [(399_999, True), (400_000, True), (400_001, False), (FULL, False)])
def test_a_bank_may_take_exactly_what_is_free(world: World, ppm: int, fits: bool) -> None:
    document = confirmed(world)
    pledged(document, 600_000)
    outcome = document.pledge(world.party(Role.BANK), ppm)
    assert outcome.ok if fits else outcome.refusal.arguments == {"free": 400_000}


def test_case_17_of_a_hundred_pledges_of_sixty_percent_one_wins(world: World) -> None:
    document = confirmed(world)
    calls = [document.pledge_call(world.party(Role.BANK), 600_000) for _ in range(100)]
    outcomes = [world.submit("pledge", *call) for call in calls]
    assert sum(one.ok for one in outcomes) == 1
    assert {one.refusal.name for one in outcomes if not one.ok} == {"OverCapacity"}


def test_case_47_the_second_of_one_block_reads_why(world: World) -> None:
    document = confirmed(world)
    first = document.pledge_call(world.party(Role.BANK), FULL)
    second = document.pledge_call(world.party(Role.BANK), FULL)
    number = world.number
    assert world.submit("pledge", *first).ok
    assert world.submit("pledge", *second).refusal.name == "OverCapacity"
    assert world.number == number


def test_case_50_a_stale_check_is_checked_again(world: World) -> None:
    document = confirmed(world)
    call = document.pledge_call(world.party(Role.BANK), FULL)
    assert document.settle_free(999_999).ok
    assert world.submit("pledge", *call).refusal.arguments == {"free": 999_999}


def test_case_21_nothing_is_pledged_after_settlement(world: World) -> None:
    document = confirmed(world)
    assert document.settle_free(0).ok
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "WrongState"


def test_a_pledge_needs_the_owner_s_consent(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    thief = world.party(Role.SUPPLIER)
    assert document.pledge(bank, 1, signer=thief).refusal.name == "NotOwner"
    call = document.pledge_call(bank, 1)
    call[2] = (*call[2][:6], bank.signer.sign(digest(world, call[0])))
    assert world.submit("pledge", *call).refusal.name == "BadSignature"


def test_a_pledge_needs_the_bank_named(world: World) -> None:
    document, bank, other = confirmed(world), world.party(Role.BANK), world.party(Role.BANK)
    assert document.pledge(bank, 1, holder=other.key_id).refusal.name == "WrongCounterparty"
    assert document.pledge(world.party(Role.MEMBER), 1).refusal.name == "WrongRole"


def test_the_custodian_is_never_the_pledgee(world: World) -> None:
    document, bank, neutral = confirmed(world), world.party(Role.BANK), os.urandom(32)
    assert document.pledge(bank, 1, custodian=bank.key_id).refusal.name == "CustodianConflict"
    assert document.pledge(bank, 1, custodian=neutral).ok
    kept = Document.new(world)
    assert kept.confirm().ok
    kept.owner = Party(
        kept.owner.signer, world.party(Role.SUPPLIER, Custodian.BANK, key=kept.owner.signer).certificate
    )
    assert kept.pledge(bank, 1).refusal.name == "CustodianConflict"


def test_a_consent_is_used_once(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    call = document.pledge_call(bank, 200_000, bank_ppm=100_000)
    assert world.submit("pledge", *call).ok
    again = world.submit("pledge", *call)
    assert again.refusal.name == "AlreadyApplied"
    assert again.refusal.arguments["digest"] == digest(world, call[0])
    other = replace(call[1], ppm=50_000)
    call[1], call[3] = other, bank.sign(world.domain, other)
    assert world.submit("pledge", *call).refusal.name == "ConsentUsed"
    assert world.status(document.claim)["pledged"] == 100_000


def test_a_consent_has_a_ceiling_a_start_and_an_end(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    assert document.pledge(bank, 10, bank_ppm=11).refusal.name == "OverConsent"
    assert document.pledge(bank, 10, bank_ppm=0).refusal.name == "ZeroPpm"
    assert document.pledge(bank, 10, not_after=world.time - 1).refusal.name == "ConsentExpired"
    assert document.pledge(bank, 10, not_before=world.time + 1).refusal.name == "ConsentNotYet"
    assert document.pledge(bank, 10, bank_not_after=world.time - 1).refusal.name == "SignatureExpired"
    assert document.pledge(bank, 10, not_before=world.time, not_after=world.time).ok


def test_a_consent_can_be_withdrawn(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    call = document.pledge_call(bank, 10)
    cancel = CancelIntent(call[0].nonce, world.late())
    assert world.submit("cancel", cancel, document.owner.sign(world.domain, cancel)).ok
    assert world.submit("pledge", *call).refusal.name == "ConsentUsed"


def test_the_bank_s_statement_belongs_to_the_consent(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    one, two = document.pledge_call(bank, 10), document.pledge_call(bank, 10)
    mixed = [one[0], two[1], one[2], two[3], one[4], one[5]]
    assert world.submit("pledge", *mixed).refusal.name == "ConsentMismatch"


@pytest.mark.parametrize("field", ["terms_hash", "doc_root", "contract_tag"])
def test_case_66_the_consent_names_the_stored_version(world: World, field: str) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    assert document.pledge(bank, 10, **{field: os.urandom(32)}).refusal.name == "BodyMismatch"
    shown = replace(document.body, **{field: os.urandom(32)})
    assert document.pledge(bank, 10, body=shown).refusal.name == "BodyMismatch"
    assert document.pledge(bank, 10, version=9).refusal.name == "StaleVersion"


def test_case_29_a_consent_to_older_terms_is_stale(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    call = document.pledge_call(bank, 10)
    assert amend(document, FULL).ok
    assert world.submit("pledge", *call).refusal.name == "BodyMismatch"
    call[4] = document.body
    assert world.submit("pledge", *call).refusal.name == "StaleVersion"


def test_case_32_a_former_owner_pledges_no_more(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    a, b = document.owner, world.party(Role.SUPPLIER)
    stale = document.pledge_call(bank, 10)
    assert transfer(document, b).ok
    assert transfer(document, world.party(Role.BANK)).ok
    assert document.pledge(bank, 10, signer=a).refusal.name == "NotOwner"
    assert document.pledge(bank, 10, signer=b).refusal.name == "NotOwner"
    stale[4] = document.body
    assert world.submit("pledge", *stale).refusal.name == "StaleVersion"
    assert document.pledge(bank, 10).ok


def test_case_44_tags_that_the_bank_derived_must_be_the_claim_s(world: World) -> None:
    document, other, bank = confirmed(world), confirmed(world), world.party(Role.BANK)
    refusal = document.pledge(bank, 10, tags=other.tags()).refusal
    assert (refusal.name, refusal.arguments["claimId"]) == ("TagMismatch", other.claim)
    bogus = [TagSet.of(1, [os.urandom(32)])]
    assert document.pledge(bank, 10, tags=bogus).refusal.name == "TagMismatch"
    call = document.pledge_call(bank, 10)
    call[5] = bogus
    assert world.submit("pledge", *call).refusal.name == "TagsMalformed"
    assert document.pledge(bank, 10, tags=document.tags(epochs=[2])).refusal.name == "EpochMismatch"


def test_free_tags_are_added_by_a_pledge(world: World) -> None:
    document = confirmed(world, names=[b"one"])
    document.names.append(b"two")
    pledged(document, 10)
    assert world.status(document.claim)["aliases"] == 2
    assert Document.new(world, names=[b"two"]).confirm().refusal.name == "TagTaken"
    document.names += [b"three", b"four"]
    pledged(document, 10)
    five = document.tags(names=[b"one", b"five"])
    assert document.pledge(world.party(Role.BANK), 10, tags=five).refusal.name == "TooManyTags"


def test_pledge_is_refused_when_overdue_frozen_or_paused(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    assert freeze(document).ok
    assert document.pledge(bank, 1).refusal.arguments["flags"] == 8
    world.pass_time(7 * DAY)
    assert document.pledge(bank, 1).ok
    assert pause(world).ok
    assert document.pledge(bank, 1).refusal.name == "Paused"
    world.pass_time((world.status(document.claim)["dueWeek"] + 1) * WEEK - world.time - 1)
    assert document.pledge(bank, 1).ok
    world.pass_time(1)
    assert document.pledge(bank, 1).refusal.name == "Overdue"


def test_case_23_only_the_holder_releases_and_once(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 500_000)
    bank, stranger = document.liens[lien], world.party(Role.BANK)
    document.liens[lien] = stranger
    assert document.release(lien).refusal.name == "NotHolder"
    document.liens[lien] = bank
    intent = ReleaseIntent(document.claim, lien, new_nonce(), world.late())
    forged = holder_auth(lien, bank.key_id, [stranger.sign(world.domain, intent)])
    assert world.submit("release", intent, forged, document.body).refusal.name == "NotHolder"
    empty = holder_auth(lien, bank.key_id, [])
    assert world.submit("release", intent, empty, document.body).refusal.name == "NotHolder"
    auth = document.holder(lien, intent)
    assert world.submit("release", intent, auth, document.body).ok
    assert world.submit("release", intent, auth, document.body).refusal.name == "AlreadyApplied"
    assert document.release(lien).refusal.name == "LienEnded"
    assert world.status(document.claim)["pledged"] == 0


def test_release_names_its_lien(world: World) -> None:
    document = confirmed(world)
    one, two = pledged(document, 1), pledged(document, 2)
    intent = ReleaseIntent(document.claim, one, new_nonce(), world.late())
    outcome = world.submit("release", intent, document.holder(two, intent), document.body)
    assert outcome.refusal.name == "NotHolder"


def test_neither_freeze_nor_pause_stops_a_release(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 1)
    assert freeze(document).ok
    assert pause(world).ok
    assert document.release(lien).ok


def test_the_last_release_voids_an_attested_claim(world: World) -> None:
    document, bank, lien = attested(world, 100_000)
    second = pledged(document, 100_000)
    assert document.release(lien).ok
    assert world.status(document.claim)["end"] == 0
    assert document.release(second).ok
    assert world.status(document.claim)["end"] == 2
    assert world.view("holderOf", document.tags()[0].tags[0]) == ZERO
    other = Document.new(world, names=document.names)
    assert other.attest(bank).ok


def _set_pledge(world: World) -> tuple[Document, bytes, list[Party], list[bytes]]:
    keys, shown = world.key_set(3)
    document = confirmed(world)
    assert document.pledge(keys[0], 700_000).ok
    return document, next(iter(document.liens)), keys, shown


def test_case_62_a_release_needs_two_of_the_key_set(world: World) -> None:
    document, lien, keys, shown = _set_pledge(world)
    intent = ReleaseIntent(document.claim, lien, new_nonce(), world.late())
    signed = [one.sign(world.domain, intent) for one in keys]
    holder = keys[0].key_id
    # Signatures come in the order of key ids: an outsider before the member of the set, and one behind it.
    outsiders = [world.party(Role.BANK, key_set=keys[0].certificate.key_set) for _ in range(2)]
    while not outsiders[0].key_id < holder < outsiders[1].key_id:
        outsiders = [world.party(Role.BANK, key_set=keys[0].certificate.key_set) for _ in range(2)]
    first, second = (one.sign(world.domain, intent) for one in outsiders)
    for bad in (
        holder_auth(lien, holder, signed[:1]),
        holder_auth(lien, holder, signed[:1], shown),
        holder_auth(lien, holder, [signed[0], signed[0]], shown),
        holder_auth(lien, holder, [signed[0], first], shown),
        holder_auth(lien, holder, [signed[0], second], shown),
        holder_auth(lien, holder, signed, shown),
        holder_auth(lien, holder, signed[:2], shown[:2]),
        holder_auth(lien, keys[1].key_id, signed[:2], shown),
    ):
        assert world.submit("release", intent, bad, document.body).refusal.name == "NotHolder"
    assert world.submit("release", intent, holder_auth(lien, holder, signed[1:], shown), document.body).ok


def test_case_43_a_stolen_key_is_frozen_out_and_replaced(world: World) -> None:
    document, lien, keys, shown = _set_pledge(world)
    stolen = keys[0]
    stranger = world.party(Role.BANK)
    assert freeze_lien(document, lien, stolen.key_id, shown, stranger).refusal.name == "NotHolder"
    assert freeze_lien(document, lien, stolen.key_id, shown, stolen).refusal.name == "NotHolder"
    assert freeze_lien(document, lien, keys[1].key_id, shown, keys[1]).refusal.name == "NotHolder"
    assert freeze_lien(document, lien, stolen.key_id, shown, keys[1]).ok
    intent = ReleaseIntent(document.claim, lien, new_nonce(), world.late())
    auth = holder_auth(lien, stolen.key_id, [one.sign(world.domain, intent) for one in keys[:2]], shown)
    assert world.submit("release", intent, auth, document.body).refusal.name == "LienFrozen"
    assert revoke(world, stolen).ok
    assert world.submit("release", intent, auth, document.body).refusal.name == "CertificateRevoked"
    new, _ = world.key_set(3)

    def two(statement: object) -> object:
        signed = [one.sign(world.domain, statement) for one in keys[1:]]
        return holder_auth(lien, stolen.key_id, signed, shown)

    assert assign_lien(document, lien, new[0], two).ok
    assert world.lien(document.claim, lien) == (
        700_000,
        1,
        0,
        holder_ref(new[0].key_id, new[0].certificate.key_set),
    )


def test_a_lien_s_freeze_lapses_in_seven_days_and_touches_no_other(world: World) -> None:
    document, lien, keys, shown = _set_pledge(world)
    other = pledged(document, 1)
    assert freeze_lien(document, lien, keys[0].key_id, shown, keys[2]).ok
    assert document.release(other).ok
    intent = ReleaseIntent(document.claim, lien, new_nonce(), world.late())
    auth = holder_auth(lien, keys[0].key_id, [one.sign(world.domain, intent) for one in keys[:2]], shown)
    world.pass_time(7 * DAY - 1)
    assert world.submit("release", intent, auth, document.body).refusal.name == "LienFrozen"
    world.pass_time(1)
    assert world.submit("release", intent, auth, document.body).ok


def test_assign_needs_holder_and_new_holder(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 5)
    old, new, thief = document.liens[lien], world.party(Role.BANK), world.party(Role.BANK)
    by_thief = lambda one: holder_auth(lien, old.key_id, [thief.sign(world.domain, one)])  # noqa: E731
    assert assign_lien(document, lien, new, by_thief).refusal.name == "NotHolder"
    assert assign_lien(document, lien, new, counterparty=thief.key_id).refusal.name == "WrongCounterparty"
    assert assign_lien(document, lien, new, key_set=os.urandom(32)).refusal.name == "NotHolder"
    assert assign_lien(document, lien, world.party(Role.OBLIGOR)).refusal.name == "WrongRole"
    assert freeze(document).ok
    assert assign_lien(document, lien, new).ok
    document.liens[lien] = old
    assert document.release(lien).refusal.name == "NotHolder"
    document.liens[lien] = new
    assert document.release(lien).ok


def test_a_claim_carries_at_most_255_liens(world: World) -> None:
    document, bank = confirmed(world), world.party(Role.BANK)
    for _ in range(255):
        assert document.pledge(bank, 1).ok
    assert document.pledge(bank, 1).refusal.name == "TooMany"
