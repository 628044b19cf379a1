"""Attacks on the compute party's share: asked for early, late, twice, over other rosters, with other products.

Each attack has a planted bug beside it that turns it red.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from joint_sessions import (
    COMPUTE,
    PARTNER,
    Event,
    Joint,
    Market,
    charges_of,
)

from coordinator.compute import ComputeSession
from node.keep import MemoryKeep
from node.privacy import PrivacyBook
from protocol import vertical
from protocol.errors import Unavailable
from protocol.partner_opening import ComputeShares, ReleaseRoster

BANK = "bank-1"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return Market.open(tmp_path_factory.mktemp("market"))


class Desk:
    """What T finds in its mailbox, and what it answers; nothing else of a channel."""

    def __init__(self, world: Joint) -> None:
        self.mail: dict[tuple[str, str], bytes] = {}
        self.answers: list[bytes] = []
        self._world, self._inner = world, world.channels[COMPUTE]

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        if (sender, step) not in self.mail:
            raise Unavailable("EXCHANGE_TIMEOUT", f"nothing came from {sender} in time")
        roster = self._world.job(COMPUTE).roster
        said = self.mail[sender, step]
        return vertical.seal(self._world.manifest, roster, step, sender, COMPUTE, said)

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        assert recipient == PARTNER
        self.answers.append(self._world.content(Event(COMPUTE, recipient, step, payload)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TestAskingCompute:
    """Test 5 in T's own session: before the roster is complete, twice, after a drop, over another roster."""

    @pytest.fixture
    def world(self, market: Market) -> Joint:
        return market.joint((1.0, 1.0, 1.0, 1.0), epsilon=1.0)

    @staticmethod
    def _fill(desk: Desk, world: Joint) -> None:
        """Everything of the attempt, complete; products are uniform, as all products are."""
        manifest, roster = world.manifest, world.job(COMPUTE).roster
        terms = vertical.terms_of(manifest, PARTNER)
        seeds = b"".join(sha256(bank.encode()).digest() for bank in roster.banks)
        desk.mail = {(PARTNER, vertical.STATE): b"new", (PARTNER, vertical.SHARE_SEEDS): seeds}
        signed = vertical.release_roster(roster, world.proposal.vertical, PARTNER)  # type: ignore[arg-type]
        for bank in roster.banks:
            shape = vertical.product_of(vertical.join_table(roster, bank, PARTNER, terms))
            draw = np.random.Generator(np.random.PCG64([7, roster.attempt, int(bank[-1])]))
            dense = draw.bytes(sum(vertical.dense_lengths(shape)))
            desk.mail[bank, vertical.named(vertical.DENSE, PARTNER, 0)] = dense
            desk.mail[bank, vertical.named(vertical.SIGNATURE, PARTNER)] = _signature(world, bank, signed)

    @staticmethod
    def _ask(desk: Desk, world: Joint) -> dict[str, Any]:
        """Ask T's session as it stands after a restart: nothing but its keep and its channel."""
        assert world.proposal.vertical is not None
        job, terms = world.job(COMPUTE), world.proposal.vertical
        ComputeSession(job, desk, world.keeps[COMPUTE], terms, None).toward(PARTNER)  # type: ignore[arg-type]
        return dict(json.loads(desk.answers[-1]))

    def test_the_complete_roster_gets_one_share_however_often(self, world: Joint) -> None:
        desk = Desk(world)
        self._fill(desk, world)
        assert "share" in self._ask(desk, world)
        for _ in range(2):
            self._ask(desk, world)
        assert len({json.loads(one)["share"] for one in desk.answers}) == 1
        assert len(charges_of(world, COMPUTE)) == 1

    def test_red_a_t_that_draws_anew(self, world: Joint, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two shares with other noise each: the partner averages the noise away."""
        monkeypatch.setattr(ComputeShares, "restore", lambda *_: None)
        desk = Desk(world)
        desk.keep = lambda name, make: make()  # type: ignore[attr-defined]
        self._fill(desk, world)
        for _ in range(2):
            self._ask(desk, world)
        assert len({json.loads(one)["share"] for one in desk.answers}) == 2

    @pytest.mark.parametrize("late", ["signature", "product", "seeds", "state"])
    def test_before_everything_is_there_nothing(self, world: Joint, late: str) -> None:
        desk = Desk(world)
        self._fill(desk, world)
        place = {
            "signature": ("bank-3", vertical.named(vertical.SIGNATURE, PARTNER)),
            "product": ("bank-3", vertical.named(vertical.DENSE, PARTNER, 0)),
            "seeds": (PARTNER, vertical.SHARE_SEEDS),
            "state": (PARTNER, vertical.STATE),
        }[late]
        held = desk.mail.pop(place)
        assert self._ask(desk, world) == {"code": "EXCHANGE_TIMEOUT"}
        desk.mail[place] = held
        assert "share" in self._ask(desk, world)

    def test_red_a_t_that_does_not_wait_for_signatures(
        self, world: Joint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unchecked(signed: Any, keys: Any) -> ReleaseRoster:
            return ReleaseRoster.from_body(signed["body"])

        monkeypatch.setattr(ReleaseRoster, "verified", unchecked)
        desk = Desk(world)
        self._fill(desk, world)
        body = vertical.release_roster(world.job(COMPUTE).roster, world.proposal.vertical, PARTNER)  # type: ignore[arg-type]
        forged = _signature(world, "bank-1", body)
        desk.mail["bank-3", vertical.named(vertical.SIGNATURE, PARTNER)] = forged
        assert "share" in self._ask(desk, world)

    @pytest.mark.parametrize("who", ["bank-1", PARTNER, "nobody"])
    def test_a_signature_in_anothers_name_opens_nothing(self, world: Joint, who: str) -> None:
        desk = Desk(world)
        self._fill(desk, world)
        place = ("bank-3", vertical.named(vertical.SIGNATURE, PARTNER))
        signed = json.loads(desk.mail[place])
        if who == "nobody":
            signed["signatures"] = []
        else:
            roster = vertical.release_roster(world.job(COMPUTE).roster, world.proposal.vertical, PARTNER)  # type: ignore[arg-type]
            signed = json.loads(_signature(world, who, roster))
            signed["signatures"][0]["signer"] = "bank-3"
        desk.mail[place] = json.dumps(signed).encode()
        assert set(self._ask(desk, world)) == {"code"}

    def test_after_a_drop_nothing_and_then_the_next_attempt_only(self, world: Joint) -> None:
        desk = Desk(world)
        self._fill(desk, world)
        late = dict(desk.mail)
        desk.mail["bank-4", vertical.named(vertical.DENSE, PARTNER, 0)] = b""
        assert self._ask(desk, world) == {"code": "OPENING_INCOMPLETE"}
        world.again(["bank-1", "bank-2", "bank-3"])
        self._fill(desk, world)
        given = self._ask(desk, world)
        assert given["roster"]["body"]["banks"] == ["bank-1", "bank-2", "bank-3"]
        # The relay held the first attempt's messages back; bank-4 stands in them.
        world.again(attempt=0)
        desk.mail = late
        assert self._ask(desk, world) == {"code": "ROSTER_SECOND"}

    def test_another_roster_gets_nothing(self, world: Joint) -> None:
        desk = Desk(world)
        self._fill(desk, world)
        first = self._ask(desk, world)
        world.again(["bank-1", "bank-2", "bank-3"])
        self._fill(desk, world)
        assert self._ask(desk, world) == {"code": "ROSTER_SECOND"}
        assert "share" in first

    def test_red_a_t_that_forgets_what_it_gave(self, world: Joint, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ComputeShares, "restore", lambda *_: None)
        desk = Desk(world)
        self._fill(desk, world)
        assert "share" in self._ask(desk, world)
        world.again(["bank-1", "bank-2", "bank-3"])
        self._fill(desk, world)
        assert "share" in self._ask(desk, world)

    def test_a_second_product_opens_nothing(self, world: Joint) -> None:
        desk = Desk(world)
        self._fill(desk, world)
        missing = desk.mail.pop(("bank-4", vertical.named(vertical.SIGNATURE, PARTNER)))
        assert self._ask(desk, world) == {"code": "EXCHANGE_TIMEOUT"}
        place = ("bank-1", vertical.named(vertical.DENSE, PARTNER, 0))
        desk.mail[place] = bytes(len(desk.mail[place]))
        desk.mail["bank-4", vertical.named(vertical.SIGNATURE, PARTNER)] = missing
        assert self._ask(desk, world) == {"code": "PRODUCT_SECOND"}


def _signature(world: Joint, party: str, roster: ReleaseRoster) -> bytes:
    return PrivacyBook(MemoryKeep()).sign(world.channels[party], roster, "cohort", 0.2)  # type: ignore[arg-type]
