"""Attacks on what is counted: privacy that is spent, enterprises that a bank asks about.

Each attack has a planted bug beside it that turns it red.
"""

from __future__ import annotations

import time
from typing import Any

import joint_sessions
import numpy as np
import pytest
from joint_sessions import (
    COMPUTE,
    PARTNER,
    TRAINED,
    Crash,
    Event,
    Joint,
    Market,
    charges_of,
)

from coordinator.compute import ComputeSession
from data_partner_node.vertical import PartnerSession
from node.keep import MemoryKeep
from node.privacy import PrivacyBook
from protocol import vertical
from protocol.errors import NotApproved
from protocol.join import bucketed
from protocol.release import SpentPrivacy

BANK = "bank-1"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return Market.open(tmp_path_factory.mktemp("market"))


class TestCharges:
    """ε is never under-counted: the charge is kept before the signature leaves, and stays, opened or not."""

    @staticmethod
    def _unpaid(world: Joint) -> list[str]:
        """Parties whose signature, or T's share, left before their charge was kept."""
        paid: set[str] = set()
        found = []
        for event in world.log:
            if event.kept and event.step == "privacy/spent":
                paid.add(event.party)
            signed = event.step.startswith((vertical.SIGNATURE, vertical.OPENING)) and not event.kept
            if signed and event.party not in paid:
                found.append(event.party)
        return found

    def test_every_charge_is_kept_before_its_signature_leaves(self, market: Market) -> None:
        world = market.joint(epsilon=1.0)
        world.run()
        assert self._unpaid(world) == []
        for party in (*world.proposal.banks, COMPUTE):
            assert [charge.partner for charge in charges_of(world, party)] == [PARTNER]
        shares = [
            e for e in world.log if e.party == COMPUTE and e.step.startswith(("compute/shares", "opening"))
        ]
        assert [event.kept for event in shares] == [True, False]

    def test_red_a_book_that_charges_once_the_release_is_read(
        self, market: Market, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SpentPrivacy, "charge", lambda *_: None)
        real = PrivacyBook.sign

        def later(book: PrivacyBook, channel: Any, roster: Any, cohort: str, mu: float | None) -> bytes:
            return real(book, channel, roster, cohort, None)

        monkeypatch.setattr(PrivacyBook, "sign", later)
        world = market.joint(epsilon=1.0)
        world.run()
        assert sorted(self._unpaid(world)) == sorted((*world.proposal.banks, COMPUTE))

    def test_a_crash_between_charge_and_signature_has_charged(self, market: Market) -> None:
        world = market.joint(epsilon=1.0)

        def dies(event: Event, content: bytes) -> bytes:
            if event.party == BANK and event.step.startswith(vertical.SIGNATURE):
                raise Crash
            return content

        world.change = dies
        told = world.run()
        assert isinstance(told[BANK], Crash)
        assert len(charges_of(world, BANK)) == 1
        world.change = lambda event, content: content
        world.resume()
        assert world.run()[COMPUTE] == {"given": [PARTNER]}
        assert len(charges_of(world, BANK)) == 1  # the same release
        world.again()
        world.run()
        assert len(charges_of(world, BANK)) == 1  # read already: no second release

    def test_a_void_attempt_stays_charged_and_the_next_is_charged_too(self, market: Market) -> None:
        world = market.joint(epsilon=1.0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ComputeSession, "_given", lambda *_: (_ for _ in ()).throw(Crash()))
            assert isinstance(world.run()[COMPUTE], Crash)
        world.again()
        world.run()
        for party in (*world.proposal.banks, COMPUTE):
            assert len(charges_of(world, party)) == 2
        mu = charges_of(world, BANK)[0].mu
        assert PrivacyBook(world.keeps[BANK]).spent().spent(PARTNER) == pytest.approx(mu * np.sqrt(2))

    def test_what_can_not_be_kept_is_not_signed(
        self, market: Market, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = market.joint(epsilon=1.0)
        real = joint_sessions.Keep.put

        def full(keep: Any, shelf: str, name: str, data: bytes) -> None:
            if shelf == "privacy":
                raise Crash
            real(keep, shelf, name, data)

        monkeypatch.setattr(joint_sessions.Keep, "put", full)
        world.run()
        assert not any(event.step.startswith(vertical.SIGNATURE) for event in world.log if not event.kept)
        assert world.channels[PARTNER].recall("opened") is None


class TestQuota:
    """Step B2: a bank asks for no more enterprises than its quota, over all jobs, attempts and epochs."""

    @staticmethod
    def _session(world: Joint, quota: int, keep: MemoryKeep) -> PartnerSession:
        role = world.roles[PARTNER]
        return PartnerSession(world.job(PARTNER), world.channels[PARTNER], role._table(), keep, quota)  # type: ignore[union-attr]

    def test_a_bank_beyond_its_quota_gets_no_answer(self, market: Market) -> None:
        asked = bucketed(TRAINED)
        for quota, fine in ((asked - 1, False), (bucketed(TRAINED + joint_sessions.HELD), True)):
            world = market.joint()
            world.roles[PARTNER]._quota = quota  # type: ignore[union-attr]
            told = world.run()
            answers = [e for e in world.sent(PARTNER) if e.step.startswith(vertical.ANSWER)]
            assert bool(answers) is fine
            assert getattr(told[PARTNER], "code", "") == ("" if fine else "VOPRF_QUOTA")

    def test_an_attempt_counts_once_and_the_next_one_too(self, market: Market) -> None:
        world, keep = market.joint(), MemoryKeep()
        session = self._session(world, 100, keep)
        for _ in range(3):
            session._charge(BANK, vertical.TRAINING, 60)
        session._charge("bank-2", vertical.TRAINING, 100)
        session._charge(BANK, vertical.SERVING, 100)
        world.again()
        with pytest.raises(NotApproved, match="VOPRF_QUOTA"):
            self._session(world, 100, keep)._charge(BANK, vertical.TRAINING, 41)
        self._session(world, 100, keep)._charge(BANK, vertical.TRAINING, 40)

    def test_an_announcement_of_less_takes_nothing_back(self, market: Market) -> None:
        world, keep = market.joint(), MemoryKeep()
        self._session(world, 100, keep)._charge(BANK, vertical.TRAINING, 100)
        self._session(world, 100, keep)._charge(BANK, vertical.TRAINING, 1)
        with pytest.raises(NotApproved, match="VOPRF_QUOTA"):
            self._session(market.joint(), 100, keep)._charge(BANK, vertical.TRAINING, 1)

    @pytest.mark.parametrize("epochs", [("2026-4",), ("2027-1",), ("2027-1", "2026-4")])
    def test_naming_another_epoch_gives_no_new_quota(self, market: Market, epochs: tuple[str, ...]) -> None:
        keep = MemoryKeep()
        self._session(market.joint(), 100, keep)._charge(BANK, vertical.TRAINING, 100)
        for epoch in epochs:
            with pytest.raises(NotApproved, match="VOPRF_QUOTA"):
                self._session(market.joint(epoch=epoch), 100, keep)._charge(BANK, vertical.TRAINING, 1)

    def test_after_ninety_days_it_starts_anew(self, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
        keep, now = MemoryKeep(), time.time()
        self._session(market.joint(), 100, keep)._charge(BANK, vertical.TRAINING, 100)
        monkeypatch.setattr("data_partner_node.vertical.time.time", lambda: now + 90 * 86_400 + 60)
        self._session(market.joint(), 100, keep)._charge(BANK, vertical.TRAINING, 100)

    def test_red_a_record_that_is_not_kept(self, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
        """A partner that forgets answers a register's worth of ids, a quota a job."""
        keep = MemoryKeep()
        monkeypatch.setattr(keep, "put", lambda *_: None)
        for _ in range(3):
            self._session(market.joint(), 100, keep)._charge(BANK, vertical.TRAINING, 100)
        assert keep.get("quota", f"quota.{vertical.TRAINING}.{BANK}") is None
