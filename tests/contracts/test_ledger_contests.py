"""Contend, adopt, withdraw, dispute, resolve."""

from __future__ import annotations

import pytest
from ledger_document import Document
from ledger_moves import (
    EMPTY,
    OPEN,
    RENEW,
    STRIKE,
    THAW,
    WITHDRAW,
    adopt,
    amend,
    attested,
    confirmed,
    contend,
    dispute,
    freeze,
    pause,
    pledged,
    resolve,
    split,
    transfer,
    upgrade,
    withdraw,
)
from ledger_world import DAY, World

from ledger.commitments import FULL
from ledger.signers import Role

CONFLICT, DISPUTED = 2, 4


def _contended(world: World) -> tuple[Document, Document, bytes]:
    hit, _, lien = attested(world, 400_000)
    contender = Document.new(world, names=hit.names)
    outcome = contend(contender)
    assert outcome.ok, outcome.refusal
    return hit, contender, lien


def test_contend_freezes_and_gives_nothing_yet(world: World) -> None:
    hit, contender, lien = _contended(world)
    status = world.status(hit.claim)
    assert (status["flags"], status["contender"]) == (CONFLICT, contender.claim)
    assert not world.status(contender.claim)["known"]
    assert world.view("holderOf", hit.tags()[0].tags[0]) == hit.claim
    assert hit.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"
    assert amend(hit, FULL, obligors=[]).refusal.name == "Frozen"
    assert transfer(hit, world.party(Role.SUPPLIER), holders=True).refusal.name == "Frozen"
    assert upgrade(hit).refusal.name == "Frozen"
    assert hit.settle_lien(lien, 300_000, 900_000, payer=hit.owner).ok
    assert hit.release(lien).ok


def test_contend_refusals(world: World) -> None:
    hit, _, _ = _contended(world)
    assert contend(Document.new(world, names=hit.names)).refusal.name == "ContenderExists"
    assert contend(Document.new(world)).refusal.name == "NothingContended"
    assert contend(Document.new(world, names=confirmed(world).names)).refusal.name == "TagTaken"
    sold, _, _ = attested(world)
    former = sold.owner
    assert transfer(sold, world.party(Role.SUPPLIER), holders=True).ok
    assert contend(Document.new(world, names=sold.names, owner=former)).refusal.name == "FormerOwner"
    assert contend(Document.new(world, names=sold.names)).ok


def test_every_claim_hit_is_in_conflict(world: World) -> None:
    one, _, _ = attested(world)
    two, _, _ = attested(world)
    contender = Document.new(world, names=[*one.names, *two.names])
    assert contend(contender).ok
    assert [world.status(hit.claim)["flags"] for hit in (one, two)] == [CONFLICT, CONFLICT]
    # While the other claim stands, neither can be adopted whole.
    assert adopt(one, contender).refusal.name == "TagTaken"


def test_a_settled_attested_claim_can_be_contended_and_struck(world: World) -> None:
    hit, _, lien = attested(world, FULL)
    assert hit.settle_lien(lien, 0, 0, payer=hit.owner).ok
    contender = Document.new(world, names=hit.names)
    assert contend(contender).ok
    assert world.status(hit.claim)["flags"] == CONFLICT
    assert adopt(hit, contender).refusal.name == "WrongState"
    world.pass_time(14 * DAY)
    assert resolve(hit, STRIKE, contender).ok
    assert world.status(contender.claim)["grade"] == 2
    assert world.view("holderOf", hit.tags()[0].tags[0]) == contender.claim


def test_adopt_keeps_the_liens_under_the_contender(world: World) -> None:
    hit, contender, lien = _contended(world)
    assert adopt(hit, contender, holders=False).refusal.name == "MissingHolder"
    assert adopt(hit, contender).ok
    status = world.status(hit.claim)
    assert (status["grade"], status["flags"], status["pledged"]) == (2, 0, 400_000)
    hit.owner, hit.obligor, hit.body = contender.owner, contender.obligor, contender.body
    assert hit.settle_lien(lien, 0, 600_000).ok
    assert hit.pledge(world.party(Role.BANK), 1).ok
    assert adopt(hit, contender).refusal.name == "NoContender"


def test_withdraw_thaws(world: World) -> None:
    hit, contender, _ = _contended(world)
    stranger = Document.new(world)
    stranger.claim, stranger.body = contender.claim, contender.body
    assert withdraw(stranger, [hit]).refusal.name == "NotOwner"
    assert withdraw(contender, [confirmed(world)]).refusal.name == "NoContender"
    assert withdraw(contender, [hit]).ok
    assert world.status(hit.claim)["flags"] == 0
    assert withdraw(contender, []).refusal.name == "NoContender"
    assert hit.pledge(world.party(Role.BANK), 1).ok


def test_a_withdrawn_contention_clears_when_touched(world: World) -> None:
    hit, contender, _ = _contended(world)
    assert withdraw(contender, []).ok
    assert world.status(hit.claim)["flags"] == 0
    assert hit.pledge(world.party(Role.BANK), 1).ok
    assert contend(Document.new(world, names=hit.names)).ok


def test_a_contended_claim_released_leaves_its_tags_to_the_contender(world: World) -> None:
    hit, contender, lien = _contended(world)
    assert hit.release(lien).ok
    assert confirmed(world, names=hit.names, owner=contender.owner, obligor=contender.obligor).claim


def test_dispute_freezes_lapses_renews_and_is_taken_back(world: World) -> None:
    document, _, lien = attested(world, 400_000)
    assert dispute(document, members=[]).refusal.name == "NotMember"
    assert dispute(document, no_interest=False).refusal.name == "InterestNotExcluded"
    assert dispute(document, version=3).refusal.name == "StaleVersion"
    assert dispute(document, RENEW).refusal.name == "NotObligor"
    assert dispute(document).ok
    assert world.status(document.claim)["flags"] == DISPUTED
    assert document.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"
    assert dispute(document, obligor=world.party(Role.OBLIGOR)).refusal.name == "DisputeUsed"
    world.pass_time(29 * DAY)
    assert dispute(document, RENEW, obligor=world.party(Role.OBLIGOR)).refusal.name == "NotObligor"
    assert dispute(document, RENEW).ok
    world.pass_time(30 * DAY - 1)
    assert world.status(document.claim)["flags"] == DISPUTED
    world.pass_time(1)
    assert world.status(document.claim)["flags"] == 0
    assert dispute(document).refusal.name == "DisputeUsed"
    other = world.party(Role.OBLIGOR)
    assert dispute(document, obligor=other).ok
    assert dispute(document, WITHDRAW, obligor=other).ok
    assert dispute(document, 4, obligor=other).refusal.name == "BadVerdict"
    assert world.status(document.claim)["flags"] == 0
    assert document.release(lien).ok


def test_a_confirmed_claim_is_not_disputed(world: World) -> None:
    assert dispute(confirmed(world), OPEN).refusal.name == "WrongState"


def test_resolve_waits_fourteen_days_and_needs_two_thirds(world: World) -> None:
    hit, contender, _ = _contended(world)
    world.pass_time(14 * DAY - 1)
    assert resolve(hit, THAW).refusal.name == "TooEarly"
    world.pass_time(1)
    assert resolve(hit, THAW, count=3).refusal.name == "CouncilTooFew"
    assert resolve(hit, THAW, no_interest=False).refusal.name == "InterestNotExcluded"
    assert resolve(hit, 3).refusal.name == "BadVerdict"
    assert resolve(hit, THAW, seq=1).refusal.name == "StaleSeq"
    assert resolve(hit, STRIKE, contender, liens=[]).refusal.name == "LiensMismatch"
    assert resolve(hit, STRIKE).refusal.name == "BodyMismatch"
    assert resolve(hit, THAW).ok
    assert world.status(hit.claim)["flags"] == 0
    assert resolve(hit, THAW).refusal.name == "WrongState"
    assert adopt(hit, contender).refusal.name == "NoContender"


def test_strike_closes_liens_and_gives_the_tags_to_the_contender(world: World) -> None:
    hit, contender, lien = _contended(world)
    second = world.party(Role.BANK)
    world.pass_time(14 * DAY)
    outcome = resolve(hit, STRIKE, contender)
    assert outcome.ok
    assert world.lien(hit.claim, lien)[:2] == (0, 4)
    status = world.status(hit.claim)
    assert (status["end"], status["pledged"], status["liens"], status["flags"]) == (2, 0, 0, 0)
    assert world.status(contender.claim)["cap"] == FULL
    assert contender.pledge(second, FULL).ok
    assert hit.release(lien).refusal.name == "WrongState"


def test_strike_of_a_dispute_frees_the_tags(world: World) -> None:
    document, _, _ = attested(world)
    assert dispute(document).ok
    world.pass_time(14 * DAY)
    assert resolve(document, STRIKE).ok
    assert confirmed(world, names=document.names).claim


def test_the_last_strike_gives_the_tags(world: World) -> None:
    one, _, _ = attested(world)
    two, _, _ = attested(world)
    contender = Document.new(world, names=[*one.names, *two.names])
    assert contend(contender).ok
    world.pass_time(14 * DAY)
    assert resolve(one, STRIKE, contender).ok
    assert not world.status(contender.claim)["known"]
    assert resolve(two, STRIKE, contender).ok
    assert world.status(contender.claim)["grade"] == 2


def test_a_dispute_that_lapsed_is_not_resolved(world: World) -> None:
    document, _, _ = attested(world)
    assert dispute(document).ok
    world.pass_time(30 * DAY)
    assert resolve(document, STRIKE).refusal.name == "WrongState"


def test_the_council_never_strikes_a_confirmed_claim(world: World) -> None:
    document = confirmed(world)
    assert resolve(document, STRIKE).refusal.name == "WrongState"
    assert resolve(document, THAW).refusal.name == "WrongState"


def test_resolve_takes_what_the_contender_said(world: World) -> None:
    hit, contender, _ = _contended(world)
    world.pass_time(14 * DAY)
    contender.names.append(b"more")
    assert resolve(hit, STRIKE, contender).refusal.name == "DraftMismatch"
    contender.body = EMPTY
    assert resolve(hit, STRIKE, contender).refusal.name == "BodyMismatch"


@pytest.mark.parametrize("stop", ["freeze", "pause"])
def test_freeze_and_pause_leave_contests_alone(world: World, stop: str) -> None:
    hit, _, _ = attested(world)
    assert (freeze(hit) if stop == "freeze" else pause(world)).ok
    contender = Document.new(world, names=hit.names)
    if stop == "pause":
        assert dispute(hit).ok
        return
    assert contend(contender).ok
    assert adopt(hit, contender).ok


def test_a_split_claim_is_not_attested(world: World) -> None:
    document, _, lien = attested(world)
    assert split(document, world.party(Role.SUPPLIER), 1)[0].refusal.name == "WrongState"
    assert pledged(document, 1) != lien
