"""What a relay or a dishonest server may send: refused, logged, nothing of it used. Late shares read nothing.

In process over a relay in the test's hands (``consortium_world``), with the real stages, channels, hub and strategy.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from consortium_world import Vector, World, acting, payload_of
from scipy.stats import poisson

import node.session
from concordat import dataset
from concordat.economy import write_economy
from coordinator import server_app
from coordinator.hub import Hub
from coordinator.strategy import framed
from node.ingest import Table
from node.session import accept
from protocol import labels, opening, ring
from protocol.contract import DataContract
from protocol.envelope import Envelope, pack, unpack
from protocol.errors import ConcordatError, ProtocolError
from protocol.identity import IdentityKey
from protocol.job import Deadlines, Enlistment, Manifest, Proposal
from protocol.mailbox import COORDINATOR, object_name
from protocol.opening import Roster

pytestmark = pytest.mark.timeout(300)
SHORT = Deadlines(enlist=60, session=60, round=60, finish=60)
TIGHT = Deadlines(enlist=20, session=4, round=4, finish=20)


@pytest.fixture(scope="module")
def economy(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataContract, dict[str, Table]]:
    home = tmp_path_factory.mktemp("economy")
    write_economy(home, count=600, banks=4, seed=2, kind="parquet")
    data = dataset.load(home)
    banks = [party.name for party in data.parties if party.role == "bank"]
    return data.contract(), {bank: data.table(bank) for bank in banks}


@pytest.fixture
def world(
    economy: tuple[DataContract, dict[str, Table]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    return World(tmp_path, *economy, monkeypatch)


class Asking:
    """A server that asks a bank whatever the test wants, signed with any key."""

    def __init__(self, world: World, bank: str, **changes: Any) -> None:
        self.world, self.bank = world, world.nodes[bank]
        self.proposal = world.submit(**{"deadlines": SHORT, **changes})
        self.sequence = 0

    def envelope(self, step: str, payload: bytes, job: str = "", **changes: Any) -> Envelope:
        self.sequence += 1
        made = Envelope(
            job or self.proposal.digest, 0, 0, COORDINATOR, self.bank.name, step, self.sequence, payload
        )
        return replace(made, **changes)

    def ask(self, envelope: Envelope, key: IdentityKey | None = None) -> tuple[str, bytes]:
        """Return the step and payload of the answer."""
        reply = self.bank.serve(pack(envelope, key or self.world.key))
        answer = unpack(reply, recipient=COORDINATOR, job=envelope.job, directory=self.world.directory)
        return answer.step, answer.payload

    def code(self, envelope: Envelope) -> str:
        """Return the code with which the bank refuses."""
        step, payload = self.ask(envelope)
        assert step == "refused", step
        return str(json.loads(payload)["code"])

    def of(self, bank: str, sequence: int) -> Asking:
        """Return the same server asking another bank about the same job."""
        other = copy(self)
        other.bank, other.sequence = self.world.nodes[bank], sequence
        return other

    def enlisted(self) -> Manifest:
        """Have every bank enlist."""
        asked = json.dumps({"proposal": self.proposal.digest}).encode()
        answers = []
        for name in self.proposal.banks:
            other = self.of(name, 100)
            answers.append(json.loads(other.ask(other.envelope("enlist", asked))[1]))
        return Manifest.assemble(self.proposal, answers)

    def refusals(self) -> list[str]:
        return [row["code"] for row in self.bank.store.list_refusals()]


def _enlist(asking: Asking) -> Envelope:
    return asking.envelope("enlist", json.dumps({"proposal": asking.proposal.digest}).encode())


class TestRequests:
    """What a node makes of Flower messages."""

    def test_a_repeat_gets_the_same_bytes(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        data = pack(_enlist(asking), world.key)
        assert asking.bank.serve(data) == asking.bank.serve(data)

    def test_the_same_request_twice_at_once_makes_one_set_of_keys(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        data, answers = pack(_enlist(asking), world.key), []
        # Around the lock that lets one message through at a time, as two SuperNodes of one key would.
        asking.bank._turn = SimpleNamespace(__enter__=None)  # type: ignore[assignment]
        both = threading.Barrier(2)

        def ask() -> None:
            both.wait()
            with acting("bank-1"):
                answers.append(asking.bank.stages.answer(data)[0])

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(answers)) == 1

    @pytest.mark.parametrize(
        ("spoil", "code"),
        [
            (lambda d: d[:-1], "ENVELOPE_TRUNCATED"),
            (lambda d: d[: len(d) // 2], "ENVELOPE_TRUNCATED"),
            (lambda d: d + b"\0", "ENVELOPE_TRAILING"),
            (lambda d: d[:-70] + bytes([d[-70] ^ 1]) + d[-69:], "SIGNATURE_INVALID"),
            (lambda d: b"\2" + d[1:], "ENVELOPE_VERSION"),
            (lambda d: b"", "ENVELOPE_MALFORMED"),
            (lambda d: b"\1" + bytes(200), "ENVELOPE_MALFORMED"),
        ],
    )
    def test_damaged(self, world: World, spoil: Callable[[bytes], bytes], code: str) -> None:
        asking = Asking(world, "bank-1")
        with pytest.raises(ProtocolError) as error:
            asking.bank.serve(spoil(pack(_enlist(asking), world.key)))
        assert error.value.code == code
        assert asking.refusals() == [code]
        assert asking.bank.vault.jobs() == []

    def test_signed_by_another_key(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        for key in (IdentityKey.generate(), world.nodes["bank-2"].key, asking.bank.key):
            with pytest.raises(ProtocolError, match="SIGNATURE_INVALID"):
                asking.bank.serve(pack(_enlist(asking), key))
        assert asking.refusals() == ["SIGNATURE_INVALID"] * 3

    def test_for_another_bank_and_from_another_bank(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        with pytest.raises(ProtocolError, match="ENVELOPE_RECIPIENT"):
            asking.bank.serve(pack(replace(_enlist(asking), recipient="bank-2"), world.key))
        with pytest.raises(ProtocolError, match="REQUEST_SENDER"):
            asking.bank.serve(pack(replace(_enlist(asking), sender="bank-2"), world.nodes["bank-2"].key))
        assert asking.refusals() == ["ENVELOPE_RECIPIENT", "REQUEST_SENDER"]

    def test_an_old_number_with_new_content(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        first = _enlist(asking)
        asking.ask(first)
        asking.ask(_enlist(asking))
        for changed in (replace(first, payload=b"{}"), replace(first, step="session")):
            with pytest.raises(ProtocolError, match="ENVELOPE_OUT_OF_ORDER"):
                asking.bank.serve(pack(changed, world.key))

    def test_an_unknown_step(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        assert asking.code(asking.envelope("export", b"{}")) == "REQUEST_UNKNOWN"

    def test_a_stage_of_a_job_that_was_never_joined(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        head = {"round": 1, "roster": list(asking.proposal.banks), "seconds": 5}
        for step in ("train", "finish"):
            assert asking.code(asking.envelope(step, framed(head), job="f" * 64)) == "JOB_UNKNOWN"

    def test_an_unapproved_job(self, world: World) -> None:
        asking = Asking(world, "bank-1", purpose="resale")
        assert asking.code(_enlist(asking)) == "JOB_NOT_APPROVED"
        asking.bank.approvals.decide(asking.proposal.digest, "reject", by="test")
        assert asking.code(_enlist(asking)) == "JOB_NOT_APPROVED"
        asking.bank.approvals.decide(asking.proposal.digest, "approve", by="test")
        assert asking.ask(_enlist(asking))[0] == "enlist"

    def test_other_code_is_neither_approved_nor_approvable(self, world: World) -> None:
        asking = Asking(world, "bank-1", code="d" * 64)
        assert asking.bank.store.list_proposals()[0]["state"] == "pending"
        with pytest.raises(ConcordatError, match="CODE_DIFFERS"):
            asking.bank.approvals.decide(asking.proposal.digest, "approve", by="test")
        assert asking.code(_enlist(asking)) == "JOB_NOT_APPROVED"

    def test_another_contract(self, world: World) -> None:
        asking = Asking(world, "bank-1", contract="e" * 64)
        assert asking.code(_enlist(asking)) == "CONTRACT_DIFFERS"
        assert "CONTRACT_DIFFERS" in asking.refusals()

    def test_a_proposal_that_the_coordinator_did_not_sign(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        other = Proposal.parse({**asking.proposal.body, "nonce": "a" * 64})
        for signer, key in ((COORDINATOR, IdentityKey.generate()), ("bank-2", world.nodes["bank-2"].key)):
            with pytest.raises(ProtocolError):
                asking.bank.approvals.receive(other.sign(signer, key), world.directory)
        assert len(asking.bank.store.list_proposals()) == 1


class TestManifests:
    """What a node makes of the manifest that opens a session."""

    def _session(self, asking: Asking, manifest: Manifest, **changes: Any) -> Envelope:
        head = {
            "manifest": manifest.body,
            "roster": list(asking.proposal.banks),
            "opened": {},
            "seconds": 1,
            **changes,
        }
        return asking.envelope("session", framed(head), job=manifest.digest)

    def test_keys_that_were_swapped(self, world: World) -> None:
        """The server puts keys of its own in the place of a bank's: the bank's signature is missing."""
        asking = Asking(world, "bank-1")
        manifest = asking.enlisted()
        own = IdentityKey.generate()
        for victim in ("bank-2", "bank-1"):
            body = {**manifest.enlistment(victim).body, "mask_key": "ab" * 32}
            forged = Enlistment.parse(body).sign(victim, own)
            others = [e for e in manifest.enlistments if e["body"]["party"] != victim]
            swapped = Manifest.assemble(asking.proposal, [*others, forged])
            assert asking.code(self._session(asking, swapped)) == "DOCUMENT_KEY"
        assert asking.bank.store.job_of(asking.proposal.digest) == []

    def test_a_manifest_under_another_name(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        envelope = replace(self._session(asking, asking.enlisted()), job="f" * 64)
        assert asking.code(envelope) == "REQUEST_JOB"

    def test_a_second_job_of_one_approval(self, world: World) -> None:
        asking = Asking(world, "bank-1")
        row = world.run(asking.proposal)
        assert row["state"] == "finished"
        asking.sequence = 10_000
        assert asking.code(_enlist(asking)) == "PROPOSAL_USED"

    @pytest.mark.parametrize(
        ("roster", "code"),
        [
            (["bank-1", "bank-2"], "ROSTER_TOO_SMALL"),
            (["bank-1", "bank-2", "mallory"], "ROSTER_STRANGER"),
        ],
    )
    def test_rosters_that_no_bank_may_mask_under(self, world: World, roster: list[str], code: str) -> None:
        asking = Asking(world, "bank-1")
        assert asking.code(self._session(asking, asking.enlisted(), roster=roster)) == code


def _started(world: World) -> tuple[Asking, Manifest, Roster]:
    """Run a job until its first round has been opened, then let the server die."""
    asking = Asking(world, "bank-1")
    world.faults.victims = frozenset({COORDINATOR})
    world.faults.only = lambda what: what == "after opening update.1"
    job = asking.proposal.digest
    over = threading.Event()
    ticker = threading.Thread(target=world._renew, args=(job, over))
    ticker.start()
    try:
        with acting(COORDINATOR), pytest.raises(BaseException, match=r"update\.1"):
            server_app.Server(world.config, world.grid, job).run()  # type: ignore[arg-type]
    finally:
        over.set()
        ticker.join()
    row = world.store.job(job)
    assert row is not None
    manifest = Manifest.parse(json.loads(row["manifest"]))
    asking.sequence = 10_000
    return asking, manifest, manifest.roster(0)


def _train(
    asking: Asking, manifest: Manifest, roster: list[str], round_: int, total: bytes, **place: int
) -> Envelope:
    head = {"round": round_, "roster": roster, "seconds": 5}
    return asking.envelope("train", framed(head, total), job=manifest.digest, **{"generation": 1, **place})


class TestOtherAttempts:
    def test_another_roster_of_the_same_attempt(self, world: World) -> None:
        asking, manifest, roster = _started(world)
        total = world.store.openings(asking.proposal.digest)[("update.1", 0)]
        rest = [bank for bank in roster.banks if bank != "bank-4"]
        assert asking.code(_train(asking, manifest, rest, 2, total)) == "ROSTER_SECOND"
        assert "ROSTER_SECOND" in asking.refusals()
        assert asking.ask(_train(asking, manifest, list(roster.banks), 2, total))[0] == "train"

    def test_an_attempt_that_never_opened_a_session(self, world: World) -> None:
        asking, manifest, roster = _started(world)
        envelope = _train(asking, manifest, list(roster.banks), 2, b"", attempt=1, generation=2)
        assert asking.code(envelope) == "ATTEMPT_OVER"

    def test_a_total_that_is_none(self, world: World) -> None:
        asking, manifest, roster = _started(world)
        right = world.store.openings(asking.proposal.digest)[("update.1", 0)]
        forged = ring.to_bytes(ring.from_bytes(right, len(right) // 8) + np.uint64(1))
        for total in (forged, right[:-8], bytes(len(right)), b""):
            code = asking.code(_train(asking, manifest, list(roster.banks), 2, total))
            assert code in {"OPENING_COUNT", "TRAINING_TOTAL"}, code
        # Nothing of them was kept: the right one gives what it always gave.
        assert asking.ask(_train(asking, manifest, list(roster.banks), 2, right))[0] == "train"

    def test_an_earlier_attempt_after_a_later_one(self, world: World) -> None:
        world.nodes["bank-4"].away = False
        asking = Asking(world, "bank-1", deadlines=TIGHT)
        world.relay.lose_message = lambda way, bank, step: (bank, step) == ("bank-4", "train")
        row = world.run(asking.proposal)
        assert (row["state"], row["attempt"]) == ("finished", 1), row["cause"]


class TestMailboxes:
    """What a bank makes of an object that lies where another's message should."""

    def _placed(self, world: World) -> tuple[Any, Envelope]:
        asking = Asking(world, "bank-2")
        good = Envelope("j" * 64, 1, 2, "bank-1", "bank-2", "group", 3, b"payload")
        return asking, good

    def _accept(self, world: World, data: bytes) -> Envelope:
        return accept(world.nodes["bank-2"].parts, data, "j" * 64, "bank-1", 1, 2, "group")

    def test_the_right_one_and_its_repeat(self, world: World) -> None:
        _, good = self._placed(world)
        data = pack(good, world.nodes["bank-1"].key)
        assert self._accept(world, data).payload == b"payload"
        assert self._accept(world, data).payload == b"payload"

    @pytest.mark.parametrize(
        ("changes", "signer", "code"),
        [
            ({"recipient": "bank-3"}, "bank-1", "ENVELOPE_RECIPIENT"),
            ({"job": "k" * 64}, "bank-1", "ENVELOPE_JOB"),
            ({"attempt": 0}, "bank-1", "MESSAGE_UNEXPECTED"),
            ({"generation": 1}, "bank-1", "MESSAGE_UNEXPECTED"),
            ({"step": "knots"}, "bank-1", "MESSAGE_UNEXPECTED"),
            ({"sender": "bank-3"}, "bank-3", "MESSAGE_UNEXPECTED"),
            ({}, "bank-3", "SIGNATURE_INVALID"),
            ({"sender": "mallory"}, "bank-3", "ENVELOPE_SENDER"),
        ],
    )
    def test_anything_else_is_refused_and_logged(
        self, world: World, changes: dict[str, Any], signer: str, code: str
    ) -> None:
        asking, good = self._placed(world)
        with pytest.raises(ProtocolError) as error:
            self._accept(world, pack(replace(good, **changes), world.nodes[signer].key))
        assert error.value.code == code
        assert asking.refusals() == [code]
        # It left no trace: the right message is accepted all the same.
        assert self._accept(world, pack(good, world.nodes["bank-1"].key)).payload == b"payload"

    def test_out_of_order_and_changed(self, world: World) -> None:
        asking, good = self._placed(world)
        key = world.nodes["bank-1"].key
        self._accept(world, pack(good, key))
        for late in (replace(good, sequence=2), replace(good, payload=b"other")):
            with pytest.raises(ProtocolError, match="ENVELOPE_OUT_OF_ORDER"):
                self._accept(world, pack(late, key))
        assert asking.refusals() == ["ENVELOPE_OUT_OF_ORDER"] * 2

    def test_a_signature_over_the_roster_of_another(self, world: World) -> None:
        """The server gives out bank-1's signature in bank-3's place."""
        honest = Hub._combine

        def swapping(hub: Hub, name: str) -> bytes:
            data = honest(hub, name)
            if name != "roster":
                return data
            signed = json.loads(data)
            return json.dumps({**signed, "bank-3": signed["bank-1"]}).encode()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Hub, "_combine", swapping)
            row = world.run(world.submit(deadlines=SHORT))
        assert row["state"] == "failed"
        assert not {name for name, _ in world.store.openings(row["id"])} - {"roster", "session"}

    def test_the_hub_uses_nothing_that_is_not_the_banks(self, world: World) -> None:
        """A stranger's, a truncated and a wrong bank's object in a bank's place end nothing and count for nothing."""
        lost = Counter[str]()

        def spoil(sender: str, recipient: str, step: str) -> bool:
            # The relay keeps the first knots of bank-2 for itself and puts rubbish there instead.
            if (sender, recipient, step) == ("bank-2", COORDINATOR, "knots") and not lost["knots"]:
                lost["knots"] += 1
                data = world.relay.held[-1][2]
                name = _place(world, data)
                for rubbish in (data[:-1], b"", pack(_stranger(data), world.nodes["bank-3"].key)):
                    world.relay.objects[("bank-2", COORDINATOR, name)] = rubbish
                    time.sleep(0.15)
                world.relay.objects[("bank-2", COORDINATOR, name)] = data
                return True
            return False

        world.relay.lose_object = spoil
        row = world.run(world.submit(deadlines=SHORT))
        assert row["state"] == "finished", row["cause"]
        refused = [e for e in world.store.events(row["id"]) if e["kind"] == "refused"]
        assert {e["party"] for e in refused} == {"bank-2"}
        assert len(refused) >= 2


def _place(world: World, data: bytes) -> str:
    envelope = _read(data)
    return object_name(
        envelope.job, envelope.attempt, envelope.generation, envelope.step, envelope.sender, COORDINATOR
    )


def _read(data: bytes) -> Envelope:
    position, texts = 1, []
    for _ in range(4):
        length = int.from_bytes(data[position : position + 4], "big")
        texts.append(data[position + 4 : position + 4 + length].decode())
        position += 4 + length
    numbers = data[position : position + 16]
    attempt, generation = int.from_bytes(numbers[:4], "big"), int.from_bytes(numbers[4:8], "big")
    job, sender, recipient, step = texts
    sequence = int.from_bytes(numbers[8:], "big")
    return Envelope(job, attempt, generation, sender, recipient, step, sequence, payload_of(data))


def _stranger(data: bytes) -> Envelope:
    return replace(_read(data), sender="bank-3")


class Held:
    """Everything that the server's side ever held, against what the banks masked."""

    NEAR = 1 << 47
    """Two uniform elements of the ring lie this near each other with probability 2^-16 (training.md, test 3)."""

    def __init__(self, world: World, job: str) -> None:
        self.single: dict[tuple[str, int, int, str], Vector] = {}
        for (use, attempt, round_, bank), vectors in world.plain.items():
            for index, vector in enumerate(vectors):
                self.single[(use, attempt, round_, f"{bank}#{index}")] = vector
        found: dict[bytes, Vector] = {}
        payloads = [payload_of(data) for _, step, data in world.relay.held if step != "roster"]
        payloads += [total for (name, _), total in world.store.openings(job).items() if name != "session"]
        for payload in payloads:
            if len(payload) >= 8 * 20 and len(payload) % 8 == 0:
                found.setdefault(payload, ring.from_bytes(payload, len(payload) // 8))
        self.arrays = list(found.values())

    def readable(self) -> list[str]:
        """Return what can be read: arrays, sums and differences of two that show a bank, or show each other."""
        alarms = []
        by_length: dict[int, list[Vector]] = {}
        for array in self.arrays:
            by_length.setdefault(len(array), []).append(array)
        for length, arrays in by_length.items():
            views = list(arrays)
            views += [a - b for a, b in itertools.permutations(arrays, 2)]
            views += [a + b for a, b in itertools.combinations(arrays, 2)]
            singles = {k: v for k, v in self.single.items() if len(v) == length}
            limit = poisson.isf(1e-9, length * 2.0**-16)
            for view in views:
                if self._near(view) > limit:
                    alarms.append(f"a view of {length} elements shows itself")
                alarms += [f"{k}" for k, v in singles.items() if self._near(view - v) > limit]
        return alarms

    def _near(self, difference: Vector) -> int:
        signed = difference.view(np.int64)
        return int(np.count_nonzero((signed > -self.NEAR) & (signed < self.NEAR)))


class TestLateShares:
    """training.md, test 5: whatever a relay delays, drops and repeats, no single bank's vector can be read."""

    def test_a_fuzzing_relay_and_two_rosters(self, world: World) -> None:
        """Replies lost, requests doubled, a bank's update kept back until the others have gone on without it."""
        rng = np.random.Generator(np.random.PCG64(8))
        world.relay.repeats = 2
        kept_back: list[tuple[str, str]] = []

        def lose(way: str, bank: str, step: str) -> bool:
            if (way, bank, step) == ("reply", "bank-4", "train"):
                # It reaches the relay, and is read there; the server's round goes without it.
                kept_back.append((bank, step))
                return True
            return way == "reply" and bool(rng.random() < 0.2)

        world.relay.lose_message = lose
        row = world.run(world.submit(deadlines=TIGHT, seed=None))
        assert kept_back
        assert row["state"] in ("finished", "failed")
        assert row["attempt"] >= 1
        held = Held(world, row["id"])
        assert len(held.arrays) > 8
        assert held.readable() == []

    def test_a_session_whose_objects_are_lost_once(self, world: World) -> None:
        lost: set[tuple[str, str]] = set()

        def lose(sender: str, recipient: str, step: str) -> bool:
            if step in ("knots", "histogram") and (sender, step) not in lost and sender == "bank-3":
                lost.add((sender, step))
                return True
            return False

        world.relay.lose_object = lose
        tight = Deadlines(enlist=20, session=3, round=20, finish=3)
        row = world.run(world.submit(deadlines=tight, seed=None))
        assert len(lost) >= 1
        held = Held(world, row["id"])
        assert held.readable() == []
        # Attempts differ in their labels: no pad served twice.
        assert len(world.ledger) > 0

    def test_red_masks_without_the_round(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = labels.derive
        monkeypatch.setattr(labels, "derive", lambda key, label: honest(key, replace(label, round=0)))
        row = world.run(world.submit(deadlines=SHORT))
        assert row["state"] == "finished", row["cause"]
        assert Held(world, row["id"]).readable()

    def test_red_without_a_group_mask_the_server_reads_totals(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = labels.words
        group = {"h/update", "h/knots", "h/centring", "h/edges", "h/histogram"}
        derive = labels.derive

        def silent(key: bytes, label: labels.Label) -> bytes:
            return bytes(32) if label.label in group and label.bank == "" else derive(key, label)

        monkeypatch.setattr(labels, "derive", silent)
        monkeypatch.setattr(
            labels, "words", lambda key, n: np.zeros(n, np.uint64) if key == bytes(32) else honest(key, n)
        )
        row = world.run(world.submit(deadlines=SHORT))
        assert Held(world, row["id"]).readable()

    def test_red_a_second_roster_in_one_attempt_isolates_a_bank(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Planted: banks forget which roster they masked under, and mask the same round again for another one."""
        asking, manifest, roster = _started(world)
        monkeypatch.setattr(opening.RosterBook, "admit", lambda *_: None)
        monkeypatch.setattr(opening, "checked", lambda total, _: total[1:].copy())
        monkeypatch.setattr(labels, "used", lambda *_: None)
        once = node.session.DurableChannel.once

        def forgetful(channel: Any, name: str, make: Callable[[], bytes]) -> bytes:
            return make() if name == "update.0.1" else once(channel, name, make)

        monkeypatch.setattr(node.session.DurableChannel, "once", forgetful)
        rest = [bank for bank in roster.banks if bank != "bank-4"]
        opened = world.store.openings(asking.proposal.digest)[("update.1", 0)]
        total = np.zeros(len(opened) // 8, dtype=np.uint64)
        for bank in rest:
            other = asking.of(bank, 20_000)
            step, payload = other.ask(_train(other, manifest, rest, 1, b""))
            assert step == "train"
            total += ring.from_bytes(payload, len(payload) // 8)
        alone = ring.from_bytes(opened, len(opened) // 8) - total
        assert alone.tolist() == world.plain[("h/update", 0, 1, "bank-4")][0].tolist()
