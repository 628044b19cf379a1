"""Anchors, drafts and tickets."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest
from ledger_document import Document
from ledger_moves import pause
from ledger_world import DAY, World

from ledger.commitments import ZERO, Opening
from ledger.eip712 import new_nonce
from ledger.mandates import AnchorIntent, LimitsIntent
from ledger.signers import Role


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _tree(leaves: list[bytes], index: int) -> tuple[bytes, list[bytes]]:
    """Root and path of RFC 9162, 2.1.1 and 2.1.3.1, by their recursive definition."""
    if len(leaves) == 1:
        return leaves[0], []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        root, path = _tree(leaves[:k], index)
        other, _ = _tree(leaves[k:], 0)
        return _node(root, other), [*path, other]
    root, path = _tree(leaves[k:], index - k)
    other, _ = _tree(leaves[:k], 0)
    return _node(other, root), [*path, other]


def _anchor(world: World, root: bytes, count: int, kind: int = 1) -> Opening:
    by = world.members[1]  # members[0] anchored each draft for itself
    intent = AnchorIntent(kind, root, count, new_nonce(), world.late())
    assert world.submit("anchor", intent, by.sign(world.domain, intent)).ok
    return Opening(ZERO, by.key_id, root, count, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 13])
def test_a_draft_opens_at_every_position_of_a_tree_of_any_size(world: World, count: int) -> None:
    for index in range(count):
        document = Document.new(world)
        draft, opening = document.draft()
        leaves = [os.urandom(32) for _ in range(count)]
        leaves[index] = draft
        root, path = _tree(leaves, index)
        at = replace(_anchor(world, root, count), salt=opening.salt, index=index, path=tuple(path))
        world.pass_time()
        wrong = [replace(at, index=index + 1 if index + 1 < count else 0), replace(at, index=count)]
        wrong += [replace(at, path=(*path, ZERO)), replace(at, count=count + 1)]
        wrong += [replace(at, path=tuple(path[:-1]))] if path else []
        for bad in wrong:
            if bad != at:
                refusal = world.submit("confirm", *document.confirm_call((draft, bad))).refusal
                assert refusal.name in ("NotIncluded", "NotAnchored"), bad
        assert world.submit("confirm", *document.confirm_call((draft, at))).ok


def test_an_inner_node_is_no_draft(world: World) -> None:
    document = Document.new(world)
    draft, opening = document.draft()
    root, path = _tree([draft, os.urandom(32)], 0)
    upper = _node(root, os.urandom(32))
    at = replace(_anchor(world, upper, 3), salt=opening.salt, path=tuple(path))
    world.pass_time()
    assert world.submit("confirm", *document.confirm_call((draft, at))).refusal.name == "NotIncluded"


def test_a_root_under_a_wrong_count_opens_nothing(world: World) -> None:
    """A path that ends early reaches the root, but not the top of a tree of the stated size."""
    for leaves, count in ((1, 2), (2, 3), (2, 4), (4, 5), (4, 8)):
        document = Document.new(world)
        draft, opening = document.draft()
        root, path = _tree([draft, *(os.urandom(32) for _ in range(leaves - 1))], 0)
        at = replace(_anchor(world, root, count), salt=opening.salt, path=tuple(path))
        world.pass_time()
        assert world.submit("confirm", *document.confirm_call((draft, at))).refusal.name == "NotIncluded"


def test_commit_too_young(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    assert world.submit("confirm", *document.confirm_call(draft)).refusal.name == "CommitTooYoung"
    world.pass_time(blocks=0)
    assert world.submit("confirm", *document.confirm_call(draft)).refusal.name == "CommitTooYoung"
    world.pass_time(0)
    assert world.submit("confirm", *document.confirm_call(draft)).ok


def test_case_35_squatting_drafts_expire_and_exclude_nobody(world: World) -> None:
    squatter, true = Document.new(world), Document.new(world)
    squatter.names = true.names
    draft = squatter.draft()
    assert true.confirm().ok
    world.pass_time(30 * DAY + 1)
    assert world.submit("confirm", *squatter.confirm_call(draft)).refusal.name == "CommitExpired"


def test_a_draft_lives_thirty_days_exactly(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time(30 * DAY)
    assert world.submit("confirm", *document.confirm_call(draft)).ok


def test_a_pending_tag_can_not_be_copied(world: World) -> None:
    # The thief sees tags and draft in a pending transaction; its own draft is in the same block, or another's
    # draft is not its own.
    document, thief = Document.new(world), Document.new(world)
    draft = document.draft()
    world.pass_time()
    thief.names = document.names
    own = thief.draft()
    assert world.submit("confirm", *thief.confirm_call(own)).refusal.name == "CommitTooYoung"
    assert world.submit("confirm", *thief.confirm_call(draft)).refusal.name == "DraftMismatch"
    assert world.submit("confirm", *document.confirm_call(draft)).ok


@pytest.mark.parametrize("field", ["terms_hash", "doc_root", "contract_tag"])
def test_case_41_a_draft_binds_what_is_confirmed(world: World, field: str) -> None:
    document = Document.new(world)
    draft = document.draft(**{field: os.urandom(32)})
    world.pass_time()
    assert world.submit("confirm", *document.confirm_call(draft)).refusal.name == "DraftMismatch"


def test_an_opened_draft_is_not_opened_again(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    assert world.submit("confirm", *document.confirm_call(draft)).ok
    assert world.submit("confirm", *document.confirm_call(draft)).refusal.name == "WrongState"


def test_a_copied_root_is_another_anchor(world: World) -> None:
    document = Document.new(world)
    draft, at = document.draft(member=world.members[0])
    copied = replace(world.anchor(draft, member=world.members[1]), salt=at.salt)
    assert copied.member != at.member
    world.pass_time()
    stranger = replace(at, member=os.urandom(32))
    assert world.submit("confirm", *document.confirm_call((draft, stranger))).refusal.name == "NotAnchored"
    assert world.submit("confirm", *document.confirm_call((draft, at))).ok


def test_root_known(world: World) -> None:
    root, by = os.urandom(32), world.members[0]
    world.anchor(root)
    intent = AnchorIntent(1, root, 1, new_nonce(), world.late())
    assert world.submit("anchor", intent, by.sign(world.domain, intent)).refusal.name == "RootKnown"


@pytest.mark.parametrize(("kind", "count"), [(0, 1), (4, 1), (1, 0)])
def test_bad_anchor(world: World, kind: int, count: int) -> None:
    intent = AnchorIntent(kind, os.urandom(32), count, new_nonce(), world.late())
    outcome = world.submit("anchor", intent, world.members[0].sign(world.domain, intent))
    assert outcome.refusal.name == "BadAnchor"


def test_only_members_anchor(world: World) -> None:
    for role in (Role.SUPPLIER, Role.OBLIGOR, Role.BANK):
        intent = AnchorIntent(1, os.urandom(32), 1, new_nonce(), world.late())
        outcome = world.submit("anchor", intent, world.party(role).sign(world.domain, intent))
        assert outcome.refusal.name == "WrongRole"


def test_case_36_a_flood_meets_the_quota_and_others_are_served(world: World) -> None:
    limits = LimitsIntent(2, 100, 1, new_nonce(), world.late())
    assert world.submit("changeLimits", limits, world.by_council(limits, 4)).ok
    by = world.members[0]

    def anchor(count: int) -> str:
        intent = AnchorIntent(1, os.urandom(32), count, new_nonce(), world.late())
        outcome = world.submit("anchor", intent, by.sign(world.domain, intent))
        return "ok" if outcome.ok else outcome.refusal.name

    assert [anchor(99), anchor(2), anchor(1), anchor(1)] == ["ok", "QuotaExceeded", "ok", "QuotaExceeded"]
    world.anchor(os.urandom(32), member=world.members[1])
    world.pass_time(DAY)
    assert anchor(100) == "ok"


def test_pause_stops_anchors(world: World) -> None:
    assert pause(world).ok
    intent = AnchorIntent(1, os.urandom(32), 1, new_nonce(), world.late())
    outcome = world.submit("anchor", intent, world.members[0].sign(world.domain, intent))
    assert outcome.refusal.name == "Paused"


def test_a_ticket_serves_one_bank_once(world: World) -> None:
    document, bank, other = Document.new(world), world.party(Role.BANK), world.party(Role.BANK)
    draft, ticket = document.draft(), document.ticket(bank)
    world.pass_time()
    # Another bank can't present it.
    call = document.attest_call(draft, ticket, other, 500_000)
    assert world.submit("attest", *call).refusal.name == "NotIncluded"
    assert world.submit("attest", *document.attest_call(draft, ticket, bank, 500_000)).ok
    second = Document.new(world)
    again = second.draft()
    world.pass_time()
    assert world.submit("attest", *second.attest_call(again, ticket, bank, 1)).refusal.name == "NoTicket"


def test_a_ticket_is_anchored_before(world: World) -> None:
    document, bank = Document.new(world), world.party(Role.BANK)
    draft = document.draft()
    world.pass_time()
    ticket = document.ticket(bank)
    call = document.attest_call(draft, ticket, bank, 1)
    assert world.submit("attest", *call).refusal.name == "CommitTooYoung"
    nowhere = (ticket[0], replace(ticket[1], root=os.urandom(32)))
    assert world.submit("attest", *document.attest_call(draft, nowhere, bank, 1)).refusal.name == "NoTicket"
    as_draft = (ticket[0], replace(world.anchor(ticket[1].root, kind=1), salt=ticket[1].salt, count=2))
    assert world.submit("attest", *document.attest_call(draft, as_draft, bank, 1)).refusal.name == "NoTicket"
