"""The usual actions of the ledger, one after the other, with the gas of each: in memory or on a chain."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import ledger_moves as moves
from ledger_document import Document
from ledger_world import Outcome, World

from ledger import abi
from ledger.commitments import FULL
from ledger.eip712 import new_nonce
from ledger.mandates import AnchorIntent, NoticeIntent
from ledger.signers import P256Key, Role

SNAPSHOT = Path(__file__).parent / "contracts" / "gas.json"


def against_snapshot(kind: str, measured: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What moved by more than a percent; ``CONCORDAT_GAS_WRITE=1`` writes the snapshot anew."""
    committed = json.loads(SNAPSHOT.read_text())
    if os.environ.get("CONCORDAT_GAS_WRITE"):
        committed[kind] = measured
        SNAPSHOT.write_text(json.dumps(committed, indent=1) + "\n")
    assert measured.keys() == committed[kind].keys()
    return {
        name: (committed[kind][name], gas)
        for name, gas in measured.items()
        # What a P-256 check costs depends on the bits of the signature, which is another one each time.
        if abs(gas / committed[kind][name] - 1) > (0.05 if "P-256" in name else 0.01)
    }


class _Meter:
    """Takes the gas of actions."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.measured: dict[str, int] = {}

    def take(self, name: str, act: Callable[[], Outcome], applied: bool = True) -> Outcome:
        """Measure the last transaction of an action."""
        outcome = act()
        assert outcome.ok == applied
        self.measured[name] = outcome.gas
        return outcome


def measure(world: World) -> dict[str, int]:
    """Gas by action, intrinsic cost included."""
    meter = _Meter(world)
    w = meter.world
    w.anchor(os.urandom(32))  # a member's first root of a day also opens its quota slot

    def anchor() -> Outcome:
        intent = AnchorIntent(1, os.urandom(32), 1_000, new_nonce(), w.late())
        return w.submit("anchor", intent, w.members[0].sign(w.domain, intent))

    meter.take("anchor a root of 1,000 drafts", anchor)
    document = Document.new(w)
    meter.take("confirm, one tag", document.confirm)
    meter.take("confirm, two tags", Document.new(w, names=[b"a", b"b"]).confirm)
    verifier = w.at["ERC7913P256Verifier"]
    passkeys = Document.new(w, owner=w.party(Role.SUPPLIER, key=P256Key.new(verifier)))
    meter.take("confirm, owner with a P-256 key", passkeys.confirm)
    attested, bank = Document.new(w), w.party(Role.BANK)
    meter.take("attest, one tag", lambda: attested.attest(bank, 500_000))
    lien = meter.take("pledge", lambda: document.pledge(bank, 300_000)).data
    meter.take("pledge, refused: over capacity", lambda: document.pledge(bank, FULL), applied=False)
    meter.take("settle a lien", lambda: document.settle_lien(lien, 100_000, 800_000))
    meter.take("release", lambda: document.release(lien))
    meter.take("settle free capacity", lambda: document.settle_free(700_000))
    meter.take("credit note", lambda: document.credit_note(600_000))
    meter.take("transfer", lambda: moves.transfer(document, w.party(Role.SUPPLIER)))
    meter.take("split", lambda: moves.split(document, w.party(Role.SUPPLIER), 1)[0])
    meter.take("upgrade", lambda: moves.upgrade(attested, FULL))
    meter.take("noticeDuplicate", lambda: _notice(w, document))
    calls = [abi.encode_call("pledge", document.pledge_call(bank, 1_000)) for _ in range(10)]
    outcome = meter.take("batch of 10 pledges", lambda: w.submit("batch", calls, 1_000_000))
    assert sum(one.name == "Pledged" for one in outcome.events) == 10
    return meter.measured


def _notice(world: World, document: Document) -> Outcome:
    intent = NoticeIntent(document.tags()[0].tags[0], os.urandom(32), new_nonce(), world.late())
    return world.submit("noticeDuplicate", intent, world.members[0].sign(world.domain, intent))
