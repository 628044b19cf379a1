"""From a draft to a settled claim, with real signatures."""

from __future__ import annotations

from ledger_document import Document
from ledger_world import World

from ledger.commitments import FULL, holder_ref
from ledger.signers import Role


def test_anchor_confirm_pledge_release_settle(world: World) -> None:
    document = Document.new(world)
    assert document.confirm().ok
    status = world.status(document.claim)
    assert (status["grade"], status["cap"], status["pledged"], status["free"]) == (2, FULL, 0, FULL)
    assert world.view("claimOf", document.tags()[0].tags[0]) == document.claim

    first, second = world.party(Role.BANK), world.party(Role.BANK)
    assert document.pledge(first, 600_000).ok
    assert document.pledge(second, 400_000).ok
    one, two = document.liens
    assert world.lien(document.claim, one) == (600_000, 1, 0, holder_ref(first.key_id))
    assert world.status(document.claim)["free"] == 0

    assert document.release(one).ok
    assert document.settle_free(400_000).ok
    assert document.settle_lien(two, 100_000, 100_000).ok
    assert document.settle_lien(two, 0, 0).ok
    status = world.status(document.claim)
    assert (status["end"], status["cap"], status["settled"], status["liens"]) == (1, 0, FULL, 0)
    # The tags stay: a paid invoice is not claimed again.
    assert world.view("holderOf", document.tags()[0].tags[0]) == document.claim
    assert Document.new(world, names=document.names).confirm().refusal.name == "TagTaken"
