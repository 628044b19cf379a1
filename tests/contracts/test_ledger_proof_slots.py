"""What a proof reads from storage is what the compiled contract says."""

from __future__ import annotations

import json
from dataclasses import replace

import ledger_moves as moves
import pytest
from ledger_document import Document
from ledger_world import DAY, World

from ledger import storage
from ledger.commitments import FULL, holder_ref
from ledger.mandates import CancelIntent
from ledger.proofs.claims import account_of, read_claim, read_lien, read_version
from ledger.proofs.state import Final, State
from ledger.proofs.statements import revocation_nonce
from ledger.signers import Role
from protocol.checkpoint import Checkpoint

NAMES = [name for name, _ in storage.CLAIM if name not in ("flags", "end", "grade")]


class _Storage(State):
    """The words of a world's ledger, read directly."""

    def __init__(self, world: World) -> None:
        checkpoint = Checkpoint("o", 1, b"", 1, b"", None, 0, b"", b"", world.time, b"", b"")
        super().__init__(Final(checkpoint, (), 0))
        self.world = world

    def word(self, slot: int) -> int:
        found = self.world.evm.storage("0x" + self.world.at["Ledger"].hex(), slot)
        return found if isinstance(found, int) else int.from_bytes(found, "big")


def compare(world: World, document: Document) -> None:
    """Every field of the status, of the account and of the liens."""
    state, status = _Storage(world), world.status(document.claim)
    claim = read_claim(state, document.claim)
    for name in NAMES:
        assert claim.fields[name] == status[name], name
    assert claim.fields["grade"] == status["grade"]
    assert (
        sum({"SHORT": 1, "CONFLICT": 2, "DISPUTED": 4, "HOLD": 8}[one] for one in claim.flags)
        == status["flags"]
    )
    ends = {"LIVE": 0, "FROZEN": 0, "SETTLED": 1, "VOID": 2, "LAPSED": 2}
    assert ends[claim.status] == status["end"]
    assert claim.free == status["free"]
    account = account_of(state, document.claim)
    assert account == {name: status[name] for name in account}
    assert state.word(storage.mapped("_bodies", document.claim)).to_bytes(32, "big") == status["bodyHash"]
    for lien in document.liens:
        found, seen = read_lien(state, document.claim, lien), world.lien(document.claim, lien)
        assert (found.ppm, found.live, found.frozen_until) == (seen[0], seen[1] == 1, seen[2])
    for tags in document.tags():
        for tag in tags.tags:
            held = state.word(storage.mapped("claimOf", tag)).to_bytes(32, "big")
            assert held == world.view("claimOf", tag)
            assert claim.holds_tags == (world.view("holderOf", tag) == document.claim)


def test_every_state_reads_as_the_contract_says(world: World) -> None:
    document = moves.confirmed(world, names=[b"a", b"b"])
    compare(world, document)
    lien = moves.pledged(document, 300_000)
    assert document.settle_free(900_000).ok
    assert document.settle_lien(lien, 200_000, 800_000).ok
    compare(world, document)
    assert document.credit_note(100_000).ok
    compare(world, document)  # SHORT
    other = moves.confirmed(world)
    _, part = moves.split(other, world.party(Role.SUPPLIER), 250_000)
    assert part is not None
    compare(world, other)
    assert read_claim(_Storage(world), part.claim).fields["cap"] == 250_000
    assert moves.freeze(other).ok
    compare(world, other)
    world.pass_time(7 * DAY)
    compare(world, other)
    assert other.settle_free(0).ok
    compare(world, other)


def test_attested_claims_lapse_and_conflicts_end_as_the_contract_says(world: World) -> None:
    hit, _, _ = moves.attested(world)
    assert moves.dispute(hit).ok
    compare(world, hit)
    contender = Document.new(world, names=hit.names)
    assert moves.contend(contender).ok
    compare(world, hit)
    assert moves.withdraw(contender, []).ok
    compare(world, hit)
    world.pass_time(300 * DAY)
    compare(world, hit)


def test_epochs_and_retirement(world: World) -> None:
    version = read_version(_Storage(world))
    settings = world.view("settings")
    assert (version.oldest, version.newest) == (settings[4], settings[5])
    assert (version.retired, version.first) == (False, True)


def test_anchors_and_revocations(world: World) -> None:
    document = Document.new(world)
    leaf, opening = document.draft()
    state = _Storage(world)
    where = storage.anchor_id(1, opening.root, opening.count, opening.member)
    found = storage.unpack(storage.ANCHORED, state.word(storage.mapped("_anchors", where)))
    assert found == {"number": world.number, "time": world.time}
    for by in (document.owner, world.members[0]):
        slot = storage.spent_slot(by.key_id, revocation_nonce(leaf))
        assert state.word(slot) == 0
        intent = CancelIntent(revocation_nonce(leaf), world.late())
        assert world.submit("cancel", intent, by.sign(world.domain, intent)).ok
        assert state.word(slot) != 0
    # A revocation is a word to readers; it takes nothing from whoever claims with the draft.
    world.pass_time()
    assert world.submit("confirm", *document.confirm_call((leaf, opening))).ok


def test_the_holder_of_a_lien_lies_in_its_second_word(world: World) -> None:
    document, bank, lien = moves.attested(world, ppm=FULL)
    slot = storage.mapped("_liens", document.claim, lien) + 1
    assert _Storage(world).word(slot).to_bytes(32, "big") == holder_ref(bank.key_id)


@pytest.mark.parametrize(
    "label", ["claimOf", "_claims", "_bodies", "_accounts", "_liens", "_anchors", "_spent"]
)
def test_the_artifact_names_the_mappings(label: str) -> None:
    assert storage.variable(label).offset == 0
    assert json.dumps(replace(storage.variable(label), offset=1).offset) == "1"
    with pytest.raises(KeyError):
        storage.variable("noSuch")
