"""Attacks on stages V and P through the sessions' own code: selective failure, wrap, late shares, charges, quotas.

Each attack has a planted bug beside it that turns it red.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import sha256
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
    Crash,
    Event,
    Joint,
    Market,
    table_step,
    watched,
)

from coordinator.compute import ComputeSession
from data_partner_node.vertical import PartnerSession
from node.keep import MemoryKeep
from node.privacy import PrivacyBook
from protocol import join, product, ring, vertical
from protocol.errors import JobVoid, NotApproved, ProtocolError, Unavailable
from protocol.join import Matched, Reader, bucketed
from protocol.partner_opening import ComputeShares, ReleaseRoster
from protocol.release import Release, SpentPrivacy

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
            told = [world.content(e) for e in world.sent(BANK) if e.step.startswith(vertical.DENSE)]
            assert told == [b""]
            assert not any(step == vertical.SHARE for _, step, _ in world.shapes(BANK))
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
        assert all(len(_charges(world, party)) == 1 for party in (*world.proposal.banks, COMPUTE))

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
        assert not any(_charges(world, party) for party in world.proposal.banks)

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


def _charges(world: Joint, party: str) -> list[Any]:
    return list(PrivacyBook(world.keeps[party]).spent().charges)


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
        assert len(_charges(world, COMPUTE)) == 1

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
            assert [charge.partner for charge in _charges(world, party)] == [PARTNER]
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
        assert len(_charges(world, BANK)) == 1
        world.change = lambda event, content: content
        world.resume()
        assert world.run()[COMPUTE] == {"given": [PARTNER]}
        assert len(_charges(world, BANK)) == 1  # the same release
        world.again()
        world.run()
        assert len(_charges(world, BANK)) == 1  # read already: no second release

    def test_a_void_attempt_stays_charged_and_the_next_is_charged_too(self, market: Market) -> None:
        world = market.joint(epsilon=1.0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ComputeSession, "_given", lambda *_: (_ for _ in ()).throw(Crash()))
            assert isinstance(world.run()[COMPUTE], Crash)
        world.again()
        world.run()
        for party in (*world.proposal.banks, COMPUTE):
            assert len(_charges(world, party)) == 2
        mu = _charges(world, BANK)[0].mu
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
