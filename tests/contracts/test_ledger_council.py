"""What council and registry may do, what they may not, and notices."""

from __future__ import annotations

import os

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from ledger_document import Document
from ledger_moves import attested, confirmed, freeze, pause, pledged, resolve, revoke
from ledger_world import DAY, Outcome, World

from ledger import abi
from ledger.commitments import ZERO, key_id
from ledger.eip712 import Intent, new_nonce
from ledger.intents import ReleaseIntent
from ledger.mandates import (
    CouncilIntent,
    FreezeIntent,
    LimitsIntent,
    NoticeIntent,
    RegistryIntent,
    RevokeIntent,
    VerifierIntent,
)
from ledger.signers import AccountKey, Role, council_signatures

HOUR = 3_600


def test_case_67_a_court_order_holds_a_claim_for_seven_days(world: World) -> None:
    document = confirmed(world)
    assert freeze(document, count=2).refusal.name == "CouncilTooFew"
    outcome = freeze(document)
    assert outcome.ok
    assert outcome.events[-1].fields["until"] == world.time + 7 * DAY
    world.pass_time(7 * DAY - 1)
    assert world.status(document.claim)["flags"] == 8
    assert freeze(document).ok  # renewable
    world.pass_time(7 * DAY)
    assert world.status(document.claim)["flags"] == 0
    unknown = Document.new(world, claim=os.urandom(32))
    assert freeze(unknown).refusal.name == "WrongState"


def test_pause_lapses_and_cools_down(world: World) -> None:
    assert pause(world, 2).refusal.name == "CouncilTooFew"
    assert pause(world).ok
    assert pause(world).refusal.name == "Cooldown"
    world.pass_time(72 * HOUR)
    assert confirmed(world).claim
    assert pause(world).refusal.name == "Cooldown"
    world.pass_time(72 * HOUR)
    assert pause(world).ok


def test_council_signatures_are_distinct_members_of_this_statement(world: World) -> None:
    document = confirmed(world)
    intent = FreezeIntent(document.claim, os.urandom(32), new_nonce(), world.late())
    good = world.by_council(intent, 3)
    outsider = council_signatures([AccountKey.new()], world.domain, intent)
    assert world.submit("freeze", intent, [good[0], good[0], good[1]]).refusal.name == "NotCouncil"
    assert world.submit("freeze", intent, good[::-1]).refusal.name == "NotCouncil"
    assert world.submit(
        "freeze", intent, sorted(good[:2] + outsider, key=lambda one: key_id(one[0]))
    ).refusal.name == ("NotCouncil")
    wrong = [good[0], good[1], (good[2][0], good[1][1])]
    assert world.submit("freeze", intent, wrong).refusal.name == "BadSignature"
    assert world.submit("freeze", intent, good).ok
    assert world.submit("freeze", intent, good).refusal.name == "AlreadyApplied"
    late = FreezeIntent(document.claim, os.urandom(32), new_nonce(), world.time - 1)
    assert world.submit("freeze", late, world.by_council(late, 3)).refusal.name == "SignatureExpired"


def _new_council(world: World, keys: list[AccountKey], threshold: int) -> tuple[Intent, list[bytes]]:
    ids = [key_id(key.key) for key in keys]
    members = keccak(encode(["bytes32[]"], [ids]))
    return CouncilIntent(members, threshold, new_nonce(), world.late()), ids


def test_the_council_replaces_itself_by_two_thirds(world: World) -> None:
    document = confirmed(world)
    new = sorted((AccountKey.new() for _ in range(4)), key=lambda key: key_id(key.key))
    old = [key_id(key.key) for key in world.council]
    intent, ids = _new_council(world, new, 2)
    few, all_ = world.by_council(intent, 3), world.by_council(intent, 4)
    assert world.submit("changeCouncil", intent, old, ids, few).refusal.name == "CouncilTooFew"
    assert world.submit("changeCouncil", intent, old[:4], ids, all_).refusal.name == "BadCouncil"
    assert world.submit("changeCouncil", intent, old[:4] + old[:1], ids, all_).refusal.name == "BadCouncil"
    assert world.submit("changeCouncil", intent, old, ids[:3], all_).refusal.name == "BadCouncil"
    for threshold, keys in ((1, new), (5, new), (2, new[::-1]), (2, [new[0], new[0]])):
        bad, bad_ids = _new_council(world, keys, threshold)
        assert (
            world.submit("changeCouncil", bad, old, bad_ids, world.by_council(bad, 4)).refusal.name
            == "BadCouncil"
        )
    assert world.submit("changeCouncil", intent, old, ids, all_).ok
    assert freeze(document).refusal.name == "NotCouncil"
    before, world.council = world.council, new
    try:
        assert freeze(document, count=2).ok
    finally:
        world.council = before


def test_a_new_registry_key_ends_old_certificates(world: World) -> None:
    new = AccountKey.new()
    intent = RegistryIntent(key_id(new.key), new_nonce(), world.late())
    assert (
        world.submit("changeRegistry", intent, os.urandom(20), world.by_council(intent, 4)).refusal.name
        == "BadCouncil"
    )
    assert (
        world.submit("changeRegistry", intent, new.key, world.by_council(intent, 3)).refusal.name
        == "CouncilTooFew"
    )
    document = Document.new(world)
    old_draft = document.draft()
    assert world.submit("changeRegistry", intent, new.key, world.by_council(intent, 4)).ok
    world.pass_time()
    assert world.submit("confirm", *document.confirm_call(old_draft)).refusal.name == "BadCertificate"


@pytest.mark.parametrize(
    ("function", "intent"),
    [
        ("changeVerifier", lambda late: VerifierIntent(bytes(20), True, new_nonce(), late)),
        ("changeLimits", lambda late: LimitsIntent(1, 1, 1, new_nonce(), late)),
    ],
)
def test_settings_need_two_thirds(world: World, function: str, intent: object) -> None:
    one = intent(world.late())  # type: ignore[operator]
    assert world.submit(function, one, world.by_council(one, 3)).refusal.name == "CouncilTooFew"
    assert world.submit(function, one, world.by_council(one, 4)).ok


def test_revocation_is_once_and_keeps_its_time(world: World) -> None:
    party = world.party(Role.BANK)
    assert revoke(world, party).ok
    since = world.view("revokedSince", party.key_id)
    world.pass_time(100)
    assert revoke(world, party).ok
    assert world.view("revokedSince", party.key_id) == since == world.time - 100
    intent = RevokeIntent(party.key_id, ZERO, new_nonce(), world.late())
    signature = world.council[0].sign(world.domain.digest(intent.struct_hash()))
    assert world.submit("revoke", intent, signature).refusal.name == "BadSignature"


def test_nothing_of_the_council_takes_a_lien_or_a_capacity(world: World) -> None:
    document, _, _ = attested(world, 400_000)
    before = world.status(document.claim)
    assert freeze(document).ok
    assert pause(world).ok
    assert resolve(document, 2).refusal.name == "WrongState"
    after = world.status(document.claim)
    for field in ("cap", "pledged", "liens", "grade", "end", "bodyHash"):
        assert before[field] == after[field]


def _notice(world: World, tag: bytes, by: object = None, **other: object) -> Outcome:
    intent = NoticeIntent(
        tag, os.urandom(32), other.get("nonce", new_nonce()), other.get("late", world.late())
    )  # type: ignore[arg-type]
    party = by or world.members[0]
    return world.submit("noticeDuplicate", intent, party.sign(world.domain, intent))  # type: ignore[attr-defined]


def test_case_52_a_later_duplicate_alerts_the_earlier_registrant(world: World) -> None:
    document = confirmed(world)
    tag = document.tags()[0].tags[0]
    outcome = _notice(world, tag)
    assert outcome.ok
    assert [(one.name, one.fields["claimId"]) for one in outcome.events] == [
        ("DuplicateNoticed", document.claim)
    ]
    assert abi.decode_result("noticeDuplicate", outcome.data) == (True,)


def test_a_notice_never_reverts(world: World) -> None:
    limits = LimitsIntent(9, 9, 2, new_nonce(), world.late())
    assert world.submit("changeLimits", limits, world.by_council(limits, 4)).ok
    nonce = new_nonce()
    tries = [
        _notice(world, ZERO, nonce=nonce),
        _notice(world, ZERO, nonce=nonce),
        _notice(world, ZERO, late=world.time - 1),
        _notice(world, ZERO, by=world.party(Role.BANK)),
        _notice(world, ZERO),
        _notice(world, ZERO),
    ]
    assert all(one.ok for one in tries)
    assert [len(one.events) for one in tries] == [1, 0, 0, 0, 1, 0]
    world.pass_time(DAY)
    assert len(_notice(world, ZERO).events) == 1


def test_release_needs_no_council_and_no_running_ledger(world: World) -> None:
    document = confirmed(world)
    lien = pledged(document, 1)
    assert freeze(document).ok
    assert pause(world).ok
    intent = ReleaseIntent(document.claim, lien, new_nonce(), world.late())
    assert world.submit("release", intent, document.holder(lien, intent), document.body).ok


def test_a_ledger_starts_only_with_sound_settings() -> None:
    for bad in ({"oldest_epoch": 0}, {"newest_epoch": 3}, {"oldest_epoch": 2, "newest_epoch": 1}):
        with pytest.raises(RuntimeError, match="Revert"):
            World(**bad)
