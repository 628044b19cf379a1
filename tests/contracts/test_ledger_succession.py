"""Transfer, split, amend, reissue, more tags."""

from __future__ import annotations

import os

import pytest
from ledger_document import Document
from ledger_moves import (
    STRIKE,
    THAW,
    add_tags,
    adopt,
    amend,
    attested,
    confirmed,
    freeze,
    pause,
    pledged,
    reissue,
    resolve,
    split,
    transfer,
    void,
)
from ledger_world import DAY, World

from ledger.commitments import FULL, TagSet
from ledger.eip712 import new_nonce
from ledger.mandates import EpochIntent
from ledger.signers import Role

CONFLICT, SHORT = 2, 1


def _epoch(world: World, epoch: int, opens: bool) -> object:
    intent = EpochIntent(epoch, opens, os.urandom(32), new_nonce(), world.late())
    return world.submit("changeEpoch", intent, world.by_council(intent, 4))


def test_transfer_moves_the_claim_and_leaves_the_liens(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 600_000)
    buyer = world.party(Role.BANK)
    assert transfer(document, buyer).ok
    status = world.status(document.claim)
    assert (status["pledged"], status["version"], status["bodyHash"]) == (600_000, 1, document.body.digest())
    assert document.settle_lien(lien, 0, 400_000).ok
    assert document.pledge(world.party(Role.BANK), 400_000).ok


def test_transfer_refusals(world: World) -> None:
    document, buyer = confirmed(world), world.party(Role.SUPPLIER)
    assert transfer(document, buyer, seq=9).refusal.name == "StaleSeq"
    assert transfer(document, buyer, terms_hash=os.urandom(32)).refusal.name == "BodyMismatch"
    assert transfer(document, buyer, doc_root=os.urandom(32)).refusal.name == "BodyMismatch"
    assert transfer(document, buyer, signer=buyer).refusal.name == "NotOwner"
    assert transfer(document, buyer, counterparty=os.urandom(32)).refusal.name == "WrongCounterparty"
    assert transfer(document, world.party(Role.OBLIGOR)).refusal.name == "WrongRole"
    assert freeze(document).ok
    assert transfer(document, buyer).refusal.name == "Frozen"
    other = confirmed(world)
    assert pause(world).ok
    assert transfer(other, buyer).refusal.name == "Paused"


def test_a_transfer_signed_before_a_pledge_is_stale(world: World) -> None:
    document = confirmed(world)
    seq = world.status(document.claim)["seq"]
    pledged(document, 1)
    assert transfer(document, world.party(Role.SUPPLIER), seq=seq).refusal.name == "StaleSeq"


def test_an_attested_claim_is_transferred_with_all_holders(world: World) -> None:
    document, _, _ = attested(world, 100_000)
    pledged(document, 100_000)
    assert transfer(document, world.party(Role.SUPPLIER)).refusal.name == "MissingHolder"
    assert transfer(document, world.party(Role.SUPPLIER), holders=True).ok


def test_case_27_children_inherit(world: World) -> None:
    document = confirmed(world)
    stays, moves = pledged(document, 300_000), pledged(document, 200_000)
    outcome, child = split(document, world.party(Role.SUPPLIER), 500_000, [moves])
    assert outcome.ok, outcome.refusal
    assert child is not None
    parent, part = world.status(document.claim), world.status(child.claim)
    assert (parent["cap"], parent["pledged"], parent["transferred"], parent["children"]) == (
        500_000,
        300_000,
        500_000,
        1,
    )
    assert (part["cap"], part["pledged"], part["original"], part["grade"]) == (500_000, 200_000, 500_000, 2)
    assert part["dueWeek"] == parent["dueWeek"]
    assert world.lien(document.claim, moves)[1] == 0
    assert world.lien(child.claim, moves)[:2] == (200_000, 1)
    # The child's document is the root's.
    assert child.pledge(world.party(Role.BANK), 300_001).refusal.arguments == {"free": 300_000}
    assert child.pledge(world.party(Role.BANK), 300_000).ok
    assert child.settle_lien(moves, 0, 300_000).ok
    assert document.settle_lien(stays, 0, 200_000).ok
    assert Document.new(world, names=document.names).confirm().refusal.name == "TagTaken"


@pytest.mark.parametrize(("ppm", "name"), [(0, "ZeroPpm"), (1, ""), (400_000, ""), (400_001, "OverFree")])
def test_a_part_is_at_most_what_is_free(world: World, ppm: int, name: str) -> None:
    document = confirmed(world)
    pledged(document, 600_000)
    outcome, _ = split(document, world.party(Role.SUPPLIER), ppm)
    assert outcome.ok if not name else outcome.refusal.name == name


def test_encumbered_parts_need_their_holders(world: World) -> None:
    document, to = confirmed(world), world.party(Role.SUPPLIER)
    lien, other = pledged(document, 600_000), pledged(document, 1)
    assert split(document, to, 700_000, [lien], unsigned=True)[0].refusal.name == "MissingHolder"
    assert split(document, to, 700_000, [lien], liens_hash=os.urandom(32))[0].refusal.name == "LiensMismatch"
    assert split(document, to, 599_999, [lien])[0].refusal.name == "BelowPledged"
    bank, document.liens[lien] = document.liens[lien], world.party(Role.BANK)
    assert split(document, to, 700_000, [lien])[0].refusal.name == "NotHolder"
    document.liens[lien] = bank
    assert split(document, to, 600_000, seq=1, moved=[lien])[0].refusal.name == "StaleSeq"
    outcome, child = split(document, to, FULL - 1, [lien])
    assert outcome.ok
    assert child is not None
    assert world.status(document.claim)["pledged"] == 1
    assert document.release(other).ok
    assert child.release(lien).ok


def test_everything_may_move_and_the_parent_ends(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 10)
    outcome, child = split(document, world.party(Role.SUPPLIER), FULL, [lien])
    assert outcome.ok
    assert child is not None
    assert world.status(document.claim)["end"] == 1
    assert child.pledge(world.party(Role.BANK), 5).ok
    outcome, grandchild = split(child, world.party(Role.SUPPLIER), 100)
    assert outcome.ok
    assert grandchild is not None
    assert grandchild.body.root == document.claim
    assert world.status(document.claim)["children"] == 2


def test_split_is_stopped_by_freeze_and_pause(world: World) -> None:
    document, to = confirmed(world), world.party(Role.SUPPLIER)
    _, child = split(document, to, 100_000)
    assert child is not None
    assert freeze(document).ok
    assert split(document, to, 1)[0].refusal.name == "Frozen"
    # A freeze of the document freezes its parts.
    assert child.pledge(world.party(Role.BANK), 1).refusal.name == "Frozen"
    assert split(child, to, 1)[0].refusal.name == "Frozen"
    world.pass_time(7 * DAY)
    assert pause(world).ok
    assert split(document, to, 1)[0].refusal.name == "Paused"


def test_case_29_58_amend_needs_obligor_and_holders_and_never_raises(world: World) -> None:
    document = confirmed(world)
    pledged(document, 500_000)
    assert amend(document, FULL, obligors=[]).refusal.name == "NotObligor"
    assert amend(document, FULL, holders=False).refusal.name == "MissingHolder"
    assert amend(document, FULL, seq=1).refusal.name == "StaleSeq"
    assert amend(document, FULL, due=world.week(54)).refusal.name == "DueTooFar"
    assert document.settle_free(900_000).ok
    assert amend(document, 900_001).refusal.name == "RaiseNeedsNewClaim"
    before = document.body
    outcome = amend(document, 900_000, due=world.week(20))
    assert outcome.ok
    assert document.body != before
    status = world.status(document.claim)
    assert (status["version"], status["dueWeek"], status["credited"]) == (1, world.week(20), 0)
    assert amend(document, 400_000).ok
    status = world.status(document.claim)
    assert (status["flags"], status["credited"]) == (SHORT, 500_000)
    assert amend(document, 400_000).refusal.name == "Frozen"


def test_an_attested_claim_is_amended_by_owner_and_holders(world: World) -> None:
    document, _, _ = attested(world, 100_000)
    assert amend(document, FULL, holders=False).refusal.name == "MissingHolder"
    assert amend(document, FULL, due=world.week(30)).ok
    assert world.status(document.claim)["lapseWeek"] == world.week(56)


def test_case_26_the_lien_follows_a_red_letter_and_reissue(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 600_000)
    old = list(document.names)
    assert reissue(document, holders=False).refusal.name == "MissingHolder"
    assert reissue(document, seq=1).refusal.name == "StaleSeq"
    assert reissue(document, new_cap=FULL + 1).refusal.name == "RaiseNeedsNewClaim"
    assert reissue(document, new_cap=500_000).ok
    status = world.status(document.claim)
    assert (status["pledged"], status["cap"], status["flags"], status["version"]) == (
        600_000,
        500_000,
        SHORT,
        1,
    )
    for names in (old, document.names[1:]):
        assert Document.new(world, names=names).confirm().refusal.name == "TagTaken"
    assert document.settle_lien(lien, 100_000, 500_000).ok
    assert document.pledge(world.party(Role.BANK), 400_000).ok


def test_reissue_opens_a_draft_and_takes_only_free_tags(world: World) -> None:
    document, other = confirmed(world), confirmed(world)
    assert reissue(document, draft=os.urandom(32)).refusal.name == "DraftMismatch"
    assert reissue(document, name=other.names[0]).refusal.name == "TagTaken"
    assert freeze(other).ok
    assert reissue(other).refusal.name == "Frozen"


def test_case_28_a_merge_with_an_encumbered_claim_is_blocked(world: World) -> None:
    one, two = confirmed(world), confirmed(world)
    pledged(two, 1)
    merged = os.urandom(32)
    assert reissue(one, name=merged).ok
    assert reissue(two, name=merged).refusal.name == "TagTaken"
    assert void(two).refusal.name == "Encumbered"


def test_a_document_with_parts_is_not_reissued(world: World) -> None:
    document = confirmed(world)
    _, child = split(document, world.party(Role.SUPPLIER), 1)
    assert child is not None
    assert reissue(document).refusal.name == "Encumbered"
    assert reissue(child).refusal.name == "NotRoot"


def test_case_51_an_epoch_boundary_hides_no_duplicate(world: World) -> None:
    document = confirmed(world)
    assert _epoch(world, 2, True).ok
    # A duplicate carries the tags of both epochs, and the old one is taken.
    other = Document.new(world, names=document.names)
    assert other.confirm().refusal.name == "TagTaken"
    half = Document.new(world, names=document.names)
    draft = half.draft(half.tags(epochs=[2]))
    world.pass_time()
    refusal = world.submit("confirm", *half.confirm_call(draft, half.tags(epochs=[2]))).refusal
    assert refusal.name == "EpochMismatch"
    # The old epoch stays open until the claim has newer tags.
    refusal = _epoch(world, 1, False).refusal
    assert (refusal.name, refusal.arguments["claims"]) == ("EpochInUse", 1)
    assert add_tags(document, document.tags(epochs=[2]), number=False).ok
    assert _epoch(world, 1, False).ok
    assert Document.new(world, names=document.names).confirm().refusal.name == "TagTaken"


def test_epochs_open_in_order_and_at_most_two(world: World) -> None:
    assert _epoch(world, 3, True).refusal.name == "EpochLimit"
    assert _epoch(world, 1, False).refusal.name == "EpochLimit"
    assert _epoch(world, 2, True).ok
    assert _epoch(world, 3, True).refusal.name == "EpochLimit"
    assert _epoch(world, 2, False).refusal.name == "EpochLimit"
    assert _epoch(world, 1, False).ok


def test_a_pledge_with_all_tags_moves_a_claim_to_the_new_epoch(world: World) -> None:
    document = confirmed(world)
    assert _epoch(world, 2, True).ok
    pledged(document, 1)
    assert world.status(document.claim)["epoch"] == 2
    assert _epoch(world, 1, False).ok


def test_settled_claims_keep_no_epoch_open_unless_parts_live(world: World) -> None:
    plain, parent = confirmed(world), confirmed(world)
    assert plain.settle_free(0).ok
    outcome, child = split(parent, world.party(Role.SUPPLIER), FULL)
    assert outcome.ok
    assert child is not None
    assert _epoch(world, 2, True).ok
    assert _epoch(world, 1, False).refusal.arguments["claims"] == 1
    # A paid document may still be carried into the new epoch.
    assert add_tags(plain, plain.tags(epochs=[2]), number=False).ok
    assert add_tags(parent, parent.tags(epochs=[2]), number=False).ok
    assert _epoch(world, 1, False).ok
    assert Document.new(world, names=plain.names).confirm().refusal.name == "TagTaken"


def test_retag_takes_exactly_the_claim_s_names(world: World) -> None:
    document = confirmed(world, names=[b"x", b"y"])
    assert add_tags(document, document.tags(epochs=[1]), number=False).refusal.name == "EpochMismatch"
    assert _epoch(world, 2, True).ok
    one = document.tags(epochs=[2], names=[b"x"])
    assert add_tags(document, one, number=False).refusal.name == "TagsMalformed"
    assert add_tags(document, document.tags(), number=False).refusal.name == "EpochMismatch"
    assert add_tags(document, document.tags(epochs=[2]), number=False).ok


def test_another_official_number_is_an_alias(world: World) -> None:
    document = confirmed(world, names=[b"1", b"2", b"3"])
    assert add_tags(document, document.tags(names=[b"4"]), number=True).ok
    assert Document.new(world, names=[b"4"]).confirm().refusal.name == "TagTaken"
    assert add_tags(document, document.tags(names=[b"5"]), number=True).refusal.name == "TooManyTags"


def test_a_taken_alias_is_a_conflict_not_a_revert(world: World) -> None:
    document, other = confirmed(world), confirmed(world)
    outcome = add_tags(document, document.tags(names=other.names), number=True, member=True)
    assert outcome.ok
    assert "TagCollision" in [one.name for one in outcome.events]
    assert [world.status(one.claim)["flags"] for one in (document, other)] == [CONFLICT, CONFLICT]
    assert world.view("claimOf", other.tags()[0].tags[0]) == other.claim
    assert adopt(document, other).refusal.name == "NoContender"
    world.pass_time(14 * DAY)
    for one in (document, other):
        # The council closes no lien of a claim that its obligor confirmed, contended or not.
        assert resolve(one, STRIKE).refusal.name == "WrongState"
        assert resolve(one, THAW).ok
        assert world.status(one.claim)["flags"] == 0


def test_an_owner_alone_freezes_no_stranger(world: World) -> None:
    # Tags are public: a copied one as an alias must not freeze whoever holds it.
    attacker, victim = confirmed(world), confirmed(world)
    assert add_tags(attacker, victim.tags(), number=True).ok
    assert world.status(attacker.claim)["flags"] == CONFLICT
    assert world.status(victim.claim)["flags"] == 0


def test_a_holder_adds_tags_with_a_second_member(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 1)
    sets = document.tags(names=[b"other number"])
    assert add_tags(document, sets, number=True, lien=lien).refusal.name == "NotMember"
    assert add_tags(document, sets, number=True, member=True, lien=lien).ok


def test_added_tags_come_from_a_draft(world: World) -> None:
    document = confirmed(world)
    document.draft = lambda *_, **__: (  # type: ignore[method-assign]
        os.urandom(32),
        world.anchor(os.urandom(32)),
    )
    outcome = add_tags(document, document.tags(names=[b"new"]), number=True)
    assert outcome.refusal.name == "DraftMismatch"


def test_void_claims_and_parts_take_no_tags(world: World) -> None:
    document, gone = confirmed(world), confirmed(world)
    _, child = split(document, world.party(Role.SUPPLIER), 1)
    assert child is not None
    sets = [TagSet.of(1, [os.urandom(32)])]
    assert add_tags(child, sets, number=True).refusal.name == "NotRoot"
    assert void(gone).ok
    assert add_tags(gone, sets, number=True).refusal.name == "WrongState"
