"""Attacks on stages V and P through the sessions' own code: coverage, selective failure, wrap, labels.

Each attack has a planted bug beside it that turns it red.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import joint_sessions
import numpy as np
import pytest
from joint_sessions import (
    COMPONENTS,
    COMPUTE,
    LISTED,
    PARTNER,
    TRAINED,
    Event,
    Joint,
    Market,
    charges_of,
    table_step,
    watched,
)

from coordinator.compute import ComputeSession
from protocol import join, product, ring, vertical
from protocol.errors import JobVoid, ProtocolError
from protocol.join import Matched, Reader
from protocol.partner_opening import ReleaseRoster
from protocol.release import Release

BANK = "bank-1"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return Market.open(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def honest(market: Market) -> Joint:
    """An undisturbed session in which all clients of all banks are listed."""
    made = market.joint()
    made.run()
    return made


@pytest.fixture(scope="module")
def worlds(market: Market, honest: Joint) -> dict[str, Joint]:
    """Sessions at other coverages."""
    found = {"all": honest}
    for name, coverage in (("half", (0.5, 0.5, 0.5)), ("none", (0.0, 0.0, 0.0)), ("mixed", (1, 0, 0.5))):
        found[name] = market.joint(coverage)
        found[name].run()
    return found


class TestCoverage:
    """Test 11, first half: sums are right at any coverage, and T's messages have one size."""

    @staticmethod
    def _seen_by_compute(world: Joint) -> set[tuple[str, tuple[str, str, int]]]:
        return {
            (event.party, event.shape)
            for event in world.log
            if not event.kept and COMPUTE in (event.party, event.recipient)
        }

    def test_the_sums_are_right(self, worlds: dict[str, Joint]) -> None:
        for world in worlds.values():
            assert world.opened() == world.plain()
        assert worlds["none"].plain() == [0] * COMPONENTS
        assert worlds["all"].plain()[0] == 3 * TRAINED * product.label_weights(0.5)[1]

    def test_t_sees_one_size(self, worlds: dict[str, Joint]) -> None:
        seen = [self._seen_by_compute(world) for world in worlds.values()]
        assert len(seen[0]) == 3 * 2 + 3
        assert all(one == seen[0] for one in seen)

    def test_red_a_product_of_the_covered_slots_only(
        self, market: Market, monkeypatch: pytest.MonkeyPatch, honest: Joint
    ) -> None:
        real = product.dense

        def sparse(shape: Any, matched: Matched, values: Any, *, seed: bytes) -> Any:
            for chunk in real(shape, matched, values, seed=seed):
                yield chunk[: 5 * len(matched.slots)]

        monkeypatch.setattr(product, "dense", sparse)
        world = market.joint((0.5, 0.5, 0.5))
        world.run()
        assert self._seen_by_compute(world) != self._seen_by_compute(honest)

    def test_without_the_partner_the_banks_go_on(self, market: Market) -> None:
        world = market.joint()
        told = world.run(silent=[PARTNER])
        for bank in world.proposal.banks:
            assert told[bank]["partners"] == []
        assert told[COMPUTE] == {"given": []}
        assert all(event.recipient != PARTNER or event.party == COMPUTE for event in world.log)


class TestSelectiveFailure:
    """Test 11, second half: what a bank sends, to whom and how long, is the same whoever is a client."""

    @staticmethod
    def _slot(world: Joint, one: str) -> int:
        """Where the partner put an enterprise in the table of `BANK`; the partner can tell."""
        role, job = world.roles[PARTNER], world.job(PARTNER)
        own = role._table()  # type: ignore[union-attr]
        served = own.asked_of(BANK, False)
        at = world.market.ids.index(one)
        outputs = own.outputs(vertical.TRAINING, "2026-4", BANK, [served.inputs[at]])
        key = world.channels[PARTNER].recall(f"K_tab.{BANK}.0")
        terms = vertical.terms_of(job.manifest, PARTNER)
        assert key is not None
        reader = Reader(vertical.join_table(job.roster, BANK, PARTNER, terms), outputs, table_key=key)
        sent = next(e for e in world.log if e.step == table_step() and e.recipient == BANK)
        reader.feed(world.content(sent))
        return int(reader.finish().slots[0])

    def _poisoned(self, market: Market, client: bool, where: str) -> Joint:
        """A session whose partner spoils the entry of one client of `BANK`, or of one stranger."""
        world = market.joint()
        ids = {one for one, _ in world.training(BANK)}
        target = next(one for one in market.ids[:LISTED] if (one in ids) == client)
        width = join.TAG_BYTES + 1

        def change(event: Event, content: bytes) -> bytes:
            if event.step != table_step() or event.recipient != BANK:
                return content
            data, at = bytearray(content), self._slot(world, target) * width
            data[at + (width - 1 if where == "row" else join.TAG_BYTES - 1)] ^= 0xFF
            return bytes(data)

        world.change = change
        world.run()
        return world

    def test_who_is_a_client_changes_no_message(self, market: Market, honest: Joint) -> None:
        strangers = market.joint((0.0, 1.0, 1.0))
        told = strangers.run()
        assert told[BANK]["partners"] == [PARTNER]
        assert not {one for one, _ in strangers.training(BANK)} & set(market.signs)
        for bank in honest.proposal.banks:
            assert strangers.shapes(bank) == honest.shapes(bank)
        assert strangers.shapes(PARTNER) == honest.shapes(PARTNER)

    @pytest.mark.parametrize("where", ["row", "tag"])
    def test_a_poisoned_entry_changes_no_message(self, market: Market, honest: Joint, where: str) -> None:
        for client in (True, False):
            world = self._poisoned(market, client, where)
            assert world.shapes(BANK) == honest.shapes(BANK)
            # Only a client's entry counts, and v goes to the partner alone, with noise where it isn't a test.
            assert (world.opened() != world.plain()) is client

    def _malformed(self, market: Market, change: Callable[[bytes], bytes], share: float) -> Joint:
        world = market.joint((share, 1.0, 1.0))
        world.change = lambda event, content: (
            change(content) if event.step == table_step() and event.recipient == BANK else content
        )
        world.run()
        return world

    @pytest.mark.parametrize("kind", ["equal tags", "short", "order"])
    def test_a_malformed_table_is_left_out_whoever_is_a_client(self, market: Market, kind: str) -> None:
        size = join.TAG_BYTES + 1
        changes: dict[str, Callable[[bytes], bytes]] = {
            "equal tags": lambda data: data[:size] + data[:size] + data[2 * size :],
            "short": lambda data: data[:-1],
            "order": lambda data: data[-size:] + data[size:],
        }
        worlds = [self._malformed(market, changes[kind], share) for share in (1.0, 0.0)]
        for world in worlds:
            for step in (vertical.DENSE, vertical.SHARE):
                assert [world.content(e) for e in world.sent(BANK) if e.step.startswith(step)] == [b""]
            assert world.channels[PARTNER].recall("opened") is None
        assert worlds[0].shapes(BANK) == worlds[1].shapes(BANK)

    def test_red_a_bank_that_skips_a_partner_without_clients(
        self, market: Market, honest: Joint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Reader.finish

        def choosy(reader: Reader) -> Matched:
            found = real(reader)
            if not len(found.rows):
                raise ProtocolError("TABLE_EMPTY", "None of the clients is listed.")
            return found

        monkeypatch.setattr(Reader, "finish", choosy)
        strangers = market.joint((0.0, 1.0, 1.0))
        strangers.run()
        assert strangers.shapes(BANK) != honest.shapes(BANK)

    def test_red_a_bank_that_checks_its_clients_rows(
        self, market: Market, honest: Joint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checksum in the row, here one that the poison breaks, tells who is a client."""
        real = Reader.finish
        poisoned: list[int] = []

        def checking(reader: Reader) -> Matched:
            found = real(reader)
            own = reader._table.kind == "join" and reader._table.bank == BANK and len(found.slots) > 1
            if own and poisoned and poisoned[0] in found.slots:
                raise ProtocolError("TABLE_CHECKSUM", "A row is damaged.")
            return found

        slot = self._slot
        monkeypatch.setattr(Reader, "finish", checking)
        monkeypatch.setattr(
            self, "_slot", lambda world, one: poisoned.append(slot(world, one)) or poisoned[-1], raising=False
        )
        alike = []
        for client in (True, False):
            poisoned.clear()
            alike.append(self._poisoned(market, client, "row").shapes(BANK) == honest.shapes(BANK))
        assert alike == [False, True]


class TestWrap:
    """Test 12: a job whose sums could wrap is refused before anything is signed or charged."""

    @staticmethod
    def _limit() -> int:
        release = Release(COMPONENTS, joint_sessions.BASE_RATE, 3, 1.0, 1e-5)
        low, high = 1, 1 << 40
        while high - low > 1:
            middle = (low + high) // 2
            try:
                release.check_headroom(middle)
                low = middle
            except ProtocolError:
                high = middle
        return low

    def test_the_limit_passes(self, market: Market) -> None:
        world = market.joint(epsilon=1.0, rows=self._limit())
        told = world.run()
        assert told[COMPUTE] == {"given": [PARTNER]}
        assert all(len(charges_of(world, party)) == 1 for party in (*world.proposal.banks, COMPUTE))

    def test_one_more_is_refused_before_anybody_enlists(self, market: Market) -> None:
        rows = self._limit() + 1
        with pytest.raises(ProtocolError, match="RING_WRAP"):
            market.joint(epsilon=1.0, rows=rows)

    def test_more_rows_than_stated_sign_nothing(self, market: Market) -> None:
        """The bound holds only if the banks' rows do: the banks compare it with what they opened together."""
        world = market.joint(epsilon=1.0, rows=3 * TRAINED - 1)
        told = world.run()
        assert "VERTICAL_ROWS" in {getattr(told[bank], "code", "") for bank in world.proposal.banks}
        assert not any(event.step.startswith(vertical.SIGNATURE) for event in world.log)
        assert not any(charges_of(world, party) for party in world.proposal.banks)

    def test_red_a_bank_that_does_not_look(self, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = self._limit() + 1
        monkeypatch.setattr(Release, "check_headroom", lambda *_: None)
        assert market.joint(epsilon=1.0, rows=rows).run()[COMPUTE] == {"given": [PARTNER]}

    def test_sums_at_the_limit_are_exact_and_one_step_further_wraps(self) -> None:
        """All enterprises at one end of a bit, in a ring of 24 bits: the same arithmetic, its end in reach."""
        low = np.uint64(2**24 - 1)
        for total, exact in ((2**23 - 1, True), (2**23, False), (-(2**23), True), (-(2**23) - 1, False)):
            element = np.array([total], dtype=np.int64).view(np.uint64) & low
            assert (int(ring.signed_low(element, 24)[0]) == total) is exact


class TestLabelLedger:
    """Test 2 over whole sessions: no pad covers two messages, not over an attempt that was made void either."""

    @staticmethod
    def _two_attempts(market: Market, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """T stops after every bank's share is out; the second attempt opens."""
        world = market.joint(epsilon=1.0)
        real = ComputeSession._given

        def stops(session: ComputeSession, *arguments: Any) -> bytes:
            for bank in world.proposal.banks:
                world.relay.get(bank, PARTNER, vertical.SHARE)
            raise JobVoid("PARTY_MISSING", "the compute party stops")

        with monkeypatch.context() as inner:
            inner.setattr(ComputeSession, "_given", stops)
            world.run()
        assert world.channels[PARTNER].recall("opened") is None
        assert ComputeSession._given is real
        world.again()
        return world.run()

    def test_no_pad_covers_two_messages(self, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
        with watched(monkeypatch) as ledger:
            told = self._two_attempts(market, monkeypatch)
        assert told[COMPUTE] == {"given": [PARTNER]}
        assert ledger.broken == []
        # A pad a row in six tables of the join, masks of three banks and T in two openings, blinds, U, ζ.
        assert len(ledger) > 2 * 3 * LISTED + 2 * 12 + 2 * 3 * COMPONENTS

    def test_red_masks_without_the_attempt(self, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = ReleaseRoster.label.fget  # type: ignore[attr-defined]

        def flat(roster: ReleaseRoster) -> Any:
            label = honest(roster)
            return type(label)(label.label, label.job, partner=label.partner)

        monkeypatch.setattr(ReleaseRoster, "label", property(flat))
        with watched(monkeypatch) as ledger:
            self._two_attempts(market, monkeypatch)
        assert {label.label for label in ledger.broken} == {"release/share"}
