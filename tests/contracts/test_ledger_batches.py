"""Batches: a result per item, and no item starves another."""

from __future__ import annotations

from ledger_document import Document
from ledger_moves import confirmed, pledged
from ledger_world import World

from ledger import abi
from ledger.signers import Role


def test_each_item_stands_or_falls_alone(world: World) -> None:
    document = confirmed(world)
    calls = [
        abi.encode_call("pledge", document.pledge_call(world.party(Role.BANK), ppm))
        for ppm in (600_000, 600_000, 400_000)
    ]
    outcome = world.submit("batch", [*calls, b"\1\2\3\4", b""], 2_000_000)
    assert outcome.ok
    applied, results = abi.decode_result("batch", outcome.data)
    assert applied == (True, False, True, False, False)
    assert abi.decode_refusal(results[1]).arguments == {"free": 400_000}
    assert abi.decode_refusal(results[3]).name == "UnknownSelector"
    items = [one for one in outcome.events if one.name == "ItemResult"]
    assert [one.fields["applied"] for one in items] == list(applied)
    assert world.status(document.claim)["pledged"] == 1_000_000


def test_a_batch_holds_no_batch(world: World) -> None:
    inner = abi.encode_call("batch", [[], 1])
    outcome = world.submit("batch", [inner], 1_000_000)
    applied, results = abi.decode_result("batch", outcome.data)
    assert applied == (False,)
    assert abi.decode_refusal(results[0]).name == "UnknownSelector"


def test_an_item_gets_its_cap_and_not_more(world: World) -> None:
    one, two = Document.new(world), confirmed(world)
    draft = one.draft()
    world.pass_time()
    confirm = abi.encode_call("confirm", one.confirm_call(draft))
    pledge = abi.encode_call("pledge", two.pledge_call(world.party(Role.BANK), 1))
    outcome = world.submit("batch", [confirm, pledge], 30_000)
    applied, _ = abi.decode_result("batch", outcome.data)
    assert applied == (False, False)  # both ran out of their own gas, the batch did not
    assert abi.decode_result("batch", world.submit("batch", [confirm, pledge], 500_000).data)[0] == (
        True,
        True,
    )


def test_a_batch_without_gas_for_its_items_is_refused_whole(world: World) -> None:
    document = confirmed(world)
    call = abi.encode_call("pledge", document.pledge_call(world.party(Role.BANK), 1))
    assert world.submit("batch", [call] * 3, 1_000_000, gas=1_050_000).refusal.name == "InsufficientGas"
    assert world.status(document.claim)["pledged"] == 0


def test_batches_are_bounded(world: World) -> None:
    assert world.submit("batch", [b""] * 201, 1).refusal.name == "TooMany"
    assert world.submit("batch", [b""] * 200, 1).ok


def test_views_may_be_batched(world: World) -> None:
    document = confirmed(world)
    pledged(document, 7)
    outcome = world.submit("batch", [abi.encode_call("statusOf", [document.claim])], 500_000)
    _, results = abi.decode_result("batch", outcome.data)
    assert abi.decode_result("statusOf", results[0])[0][5] == 7
