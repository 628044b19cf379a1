"""Payments, credit notes, the void."""

from __future__ import annotations

import pytest
from ledger_moves import attested, confirmed, freeze, pause, pledged, split, void
from ledger_world import World

from ledger.commitments import FULL, ZERO
from ledger.signers import Role

SETTLED, VOID = 1, 2


def _sums(world: World, claim: bytes) -> None:
    s = world.status(claim)
    assert s["cap"] + s["settled"] + s["transferred"] + s["credited"] == s["original"]


def test_case_20_a_partial_payment_lowers_capacity_first(world: World) -> None:
    document = confirmed(world)
    assert document.settle_free(700_000).ok
    assert document.pledge(world.party(Role.BANK), 700_001).refusal.arguments == {"free": 700_000}
    _sums(world, document.claim)


@pytest.mark.parametrize(
    ("new_cap", "name"),
    [(FULL, "NotLower"), (999_999, ""), (400_000, ""), (399_999, "BelowPledged"), (0, "BelowPledged")],
)
def test_free_settlement_stays_above_the_liens(world: World, new_cap: int, name: str) -> None:
    document = confirmed(world)
    pledged(document, 400_000)
    outcome = document.settle_free(new_cap)
    assert outcome.ok if not name else outcome.refusal.name == name


def test_free_settlement_needs_owner_and_obligor(world: World) -> None:
    document = confirmed(world)
    assert document.settle_free(1, signers=[]).refusal.name == "NotObligor"
    assert document.settle_free(1, signers=[world.party(Role.OBLIGOR)]).refusal.name == "NotObligor"
    owner, document.owner = document.owner, world.party(Role.SUPPLIER)
    assert document.settle_free(1).refusal.name == "NotOwner"
    document.owner = owner
    assert document.settle_free(0).ok
    assert world.status(document.claim)["end"] == SETTLED


def test_an_attested_claim_is_settled_by_its_owner(world: World) -> None:
    document, _, lien = attested(world, 300_000)
    assert document.settle_free(300_000, signers=[]).ok
    assert document.settle_lien(lien, 0, 0).refusal.name == "WrongRole"
    assert document.settle_lien(lien, 0, 0, payer=document.owner).ok
    assert world.status(document.claim)["end"] == SETTLED
    assert world.view("holderOf", document.tags()[0].tags[0]) == document.claim


def test_case_22_a_payment_to_the_pledgee_lowers_lien_and_capacity(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 600_000)
    assert document.settle_lien(lien, 400_000, 800_000).ok
    status = world.status(document.claim)
    assert (status["cap"], status["pledged"], status["settled"]) == (800_000, 400_000, 200_000)
    assert world.lien(document.claim, lien)[:2] == (400_000, 1)
    assert document.settle_lien(lien, 0, 400_000).ok
    assert world.lien(document.claim, lien)[:2] == (0, 3)
    assert document.settle_free(0).ok
    _sums(world, document.claim)


@pytest.mark.parametrize(
    ("new_lien", "remainder", "cap"),
    [
        (500_000, 999_000, 999_000),  # capacity falls first
        (500_000, 500_000, 500_000),
        (500_000, 0, 500_000),  # never below what is still pledged
        (100_000, 50_000, 100_000),
        (499_999, FULL, FULL),  # capacity never rises
        (0, 0, 0),
    ],
)
def test_capacity_after_a_payment(world: World, new_lien: int, remainder: int, cap: int) -> None:
    document = confirmed(world)
    lien = pledged(document, 500_000)
    assert document.settle_lien(lien, new_lien, remainder).ok
    status = world.status(document.claim)
    assert (status["cap"], status["pledged"], status["flags"]) == (cap, new_lien, 0)
    _sums(world, document.claim)


def test_a_payment_never_raises_a_lien_and_says_something(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 500_000)
    assert document.settle_lien(lien, 500_001, 0).refusal.arguments == {"lien": 500_000}
    assert document.settle_lien(lien, 500_000, FULL).refusal.name == "NotLower"


def test_under_short_a_payment_lowers_capacity_to_the_floor(world: World) -> None:
    document = confirmed(world)
    one, two = pledged(document, 500_000), pledged(document, 500_000)
    assert document.credit_note(600_000).ok
    assert document.settle_lien(one, 300_000, 400_000).ok
    status = world.status(document.claim)
    assert (status["cap"], status["pledged"], status["flags"]) == (400_000, 800_000, 1)
    assert document.settle_lien(two, 100_000, 400_000).ok
    assert world.status(document.claim)["flags"] == 0


def test_a_payment_needs_obligor_and_holder(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 10)
    assert document.settle_lien(lien, 0, 0, payer=document.owner).refusal.name == "WrongRole"
    assert document.settle_lien(lien, 0, 0, payer=world.party(Role.OBLIGOR)).refusal.name == "NotObligor"
    bank, document.liens[lien] = document.liens[lien], world.party(Role.BANK)
    assert document.settle_lien(lien, 0, 0).refusal.name == "NotHolder"
    document.liens[lien] = bank
    assert document.settle_lien(lien, 0, 0).ok


def test_paying_the_last_lien_off_ends_an_attested_claim(world: World) -> None:
    # Its lien was what it lived by: with capacity left it is void and the tags are free.
    document, _, lien = attested(world, 300_000)
    assert document.settle_lien(lien, 0, 700_000, payer=document.owner).ok
    assert world.status(document.claim)["end"] == VOID
    assert world.view("holderOf", document.tags()[0].tags[0]) == ZERO


def test_case_24_a_red_letter_after_the_pledge_falls_short_and_freezes(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 600_000)
    outcome = document.credit_note(500_000)
    assert outcome.ok
    assert [one.name for one in outcome.events] == ["State", "Credited"]
    status = world.status(document.claim)
    assert (status["flags"], status["free"], status["credited"]) == (1, 0, 500_000)
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"
    assert document.settle_free(0).refusal.name == "BelowPledged"
    assert document.release(lien).ok
    assert world.status(document.claim)["flags"] == 0
    _sums(world, document.claim)


@pytest.mark.parametrize(("new_cap", "short"), [(600_001, 0), (600_000, 0), (599_999, 1), (0, 1)])
def test_short_begins_below_the_liens(world: World, new_cap: int, short: int) -> None:
    document = confirmed(world)
    pledged(document, 600_000)
    assert document.credit_note(new_cap).ok
    assert world.status(document.claim)["flags"] == short


def test_credit_notes_need_the_obligor_or_owner_and_all_holders(world: World) -> None:
    document = confirmed(world)
    assert document.credit_note(1, signer=world.party(Role.OBLIGOR)).refusal.name == "NotObligor"
    assert document.credit_note(FULL).refusal.name == "NotLower"
    assert document.credit_note(0).ok
    assert world.status(document.claim)["end"] == SETTLED
    other, _, _ = attested(world, 300_000)
    pledged(other, 100_000)
    assert other.credit_note(1, signer=other.owner).refusal.name == "MissingHolder"
    assert other.credit_note(399_999, signer=other.owner, holders=True).ok
    assert world.status(other.claim)["flags"] == 1


def test_payments_and_credit_notes_go_on_under_freeze_and_pause(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 100_000)
    assert freeze(document).ok
    assert pause(world).ok
    assert document.settle_free(900_000).ok
    assert document.credit_note(800_000).ok
    assert document.settle_lien(lien, 50_000, 50_000).ok


def test_a_statement_over_an_older_version_is_stale(world: World) -> None:
    document = confirmed(world)
    true = document.version
    document.version = lambda: true() + 1  # type: ignore[method-assign]
    assert document.settle_free(0).refusal.name == "StaleVersion"


def test_void_frees_the_tags(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 1)
    assert void(document).refusal.name == "Encumbered"
    assert document.release(lien).ok
    assert void(document, []).refusal.name == "NotObligor"
    assert freeze(document).ok
    assert void(document).refusal.name == "Frozen"
    world.pass_time(7 * 86_400)
    assert void(document).ok
    assert world.status(document.claim)["end"] == VOID
    assert void(document).refusal.name == "WrongState"
    assert confirmed(world, names=document.names).claim


def test_a_claim_with_children_is_not_voided(world: World) -> None:
    document = confirmed(world)
    outcome, child = split(document, world.party(Role.SUPPLIER), 200_000)
    assert outcome.ok
    assert child is not None
    refusal = void(document).refusal
    assert (refusal.name, refusal.arguments["children"]) == ("Encumbered", 1)
    assert void(child).ok
    assert void(document).ok
