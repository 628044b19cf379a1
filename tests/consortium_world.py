"""A whole consortium in one process, without network: the real server and nodes over a relay that a test controls.

Real here: the server of the rounds, its hub, fleet and strategy, every node's stages, channel, vault, database, door
and egress log, the bank's role. Replaced: Flower's transport, the exchange, and the store of durable steps, each by a
few lines that keep their promises. A party can be killed at any boundary and comes back from what it kept; the relay
may drop, delay and repeat; everything that the server's side ever held is recorded.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

import node.session
import node.stages
from bank_node.role import BankRole
from concordat.simulate import proposal_for
from coordinator import fleet, founding, server_app
from coordinator.config import load as load_coordinator
from coordinator.store import Store as CoordinatorStore
from node.approval import Approvals
from node.config import NodeConfig
from node.door import Door
from node.egress import EgressLog
from node.flower.shim import ERROR, FIELD, RECORD, envelope_of
from node.ingest import Table
from node.keystore import write_private
from node.session import Leases, Parts
from node.stages import Stages
from node.store import Store as NodeStore
from node.table_source import TableSource
from node.vault import Vault
from protocol import masking
from protocol.contract import DataContract
from protocol.errors import ConcordatError, Unavailable
from protocol.identity import Directory, IdentityKey, Party, Role, issue
from protocol.job import Proposal, Recipe
from protocol.labels import LabelLedger, observe
from protocol.mailbox import COORDINATOR

CODE = "c" * 64
CONSORTIUM = "world"
RECIPE = Recipe(rounds=2, local_steps=1, bins=2, hidden=(2,), initialisations=1)
Vector = NDArray[np.uint64]
_actor = threading.local()


class Killed(BaseException):
    """The process of a party died; like kill -9 it is no ordinary exception and runs no handler."""


class Faults:
    """Kills parties at boundaries, each boundary of a party at most once."""

    def __init__(self) -> None:
        self.victims: frozenset[str] = frozenset()
        self.only: Callable[[str], bool] = lambda _: True
        self.visited: dict[str, list[str]] = defaultdict(list)
        self._lock = threading.Lock()

    def point(self, what: str) -> None:
        """Be at a boundary; called by whoever acts in this thread."""
        who = getattr(_actor, "name", "")
        if who not in self.victims or not self.only(what):
            return
        with self._lock:
            if what in self.visited[who]:
                return
            self.visited[who].append(what)
        raise Killed(f"{who} at {what}")

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        """Act between two boundaries."""
        self.point(f"before {what}")
        result = act()
        self.point(f"after {what}")
        return result


@contextmanager
def acting(name: str) -> Iterator[None]:
    """Be a party in this thread."""
    before = getattr(_actor, "name", "")
    _actor.name = name
    try:
        yield
    finally:
        _actor.name = before


@dataclass
class Relay:
    """The exchange's server and Flower's, in the hands of a test.

    Attributes:
        lose_object: decides whether an object is lost; given sender, recipient, step.
        lose_message: the same for Flower's requests (``"request"``) and replies (``"reply"``).
        repeats: how often Flower's requests are delivered.
        held: every payload that ever reached the server's side, by (place, sender, step).
    """

    objects: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    held: list[tuple[str, str, bytes]] = field(default_factory=list)
    lose_object: Callable[[str, str, str], bool] = lambda *_: False
    lose_message: Callable[[str, str, str], bool] = lambda *_: False
    repeats: int = 1


class MemoryExchange:
    """``node.exchange.Exchange`` over the relay."""

    def __init__(self, relay: Relay, faults: Faults, party: str) -> None:
        self._relay, self._faults, self.party = relay, faults, party

    def open(self, peers: Iterable[str], patience: float = 0.0) -> None:
        """Connect to nothing."""

    def close(self) -> None:
        """Leave nothing."""

    def put(self, recipient: str, name: str, data: bytes, patience: float = 0.0) -> None:
        """See ``Exchange.put``."""
        step = step_of(data)

        def act() -> None:
            relay = self._relay
            if recipient == COORDINATOR:
                relay.held.append((self.party, step, data))
            if relay.lose_object(self.party, recipient, step):
                return
            with relay.changed:
                relay.objects[(self.party, recipient, name)] = data
                relay.changed.notify_all()

        self._faults.around(f"put {step} for {recipient}", act)

    def poll(self, sender: str, name: str) -> bytes | None:
        """See ``Exchange.poll``."""
        return self._relay.objects.get((sender, self.party, name))

    def wait(self, sender: str, name: str, deadline: float, stop: Callable[[], None] | None = None) -> bytes:
        """See ``Exchange.wait``."""
        while True:
            with self._relay.changed:
                data = self.poll(sender, name)
                if data is None:
                    self._relay.changed.wait(0.02)
                    data = self.poll(sender, name)
            if data is not None:
                self._faults.point(f"got {step_of(data)} of {sender}")
                return data
            if stop is not None:
                stop()
            if time.monotonic() > deadline:
                raise Unavailable("EXCHANGE_TIMEOUT", f"nothing came from {sender} in time")


class Steps:
    """DBOS's promises in memory: a workflow by its name runs once, its steps' results are replayed in order."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._steps: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        self._done: dict[str, str] = {}
        self._here = threading.local()

    def start_workflow(self, _: Any, arguments: str, sequence: int) -> Any:
        """Run a stage of the node that acts in this thread, or return what it ended with."""
        name, stages = self._here.name, _actor.stages
        if name not in self._done:
            self._here.index = 0
            self._done[name] = stages.run(arguments, sequence)
            self._faults.point("after the stage")
        return SimpleNamespace(get_result=lambda: self._done[name])

    def run_step(self, options: dict[str, str], act: Callable[[], Any]) -> Any:
        """Run a step, or replay its result; a replay that asks for other steps than before is a mistake."""
        kept, index = self._steps[self._here.name], self._here.index
        self._here.index += 1
        if index == len(kept):
            made = self._result(act)
            self._faults.point(f"before keeping step {options['name']}")
            kept.append((options["name"], made))
            self._faults.point(f"after step {options['name']}")
        name, result = kept[index]
        assert name == options["name"], f"the replay asks for {options['name']}, {name} was run"
        if isinstance(result, ConcordatError):
            raise result
        return result

    @staticmethod
    def _result(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except ConcordatError as error:
            return error

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """See ``dbos.SetWorkflowID``."""
        self._here.name = f"{_actor.name} {name}"
        yield


class _FaultyVault(Vault):
    faults: Faults

    def put(self, job: str, name: str, data: bytes) -> None:
        self.faults.around(f"vault {_steady(name)}", lambda: super(_FaultyVault, self).put(job, name, data))


class _FaultyNodeStore(NodeStore):
    faults: Faults

    def save_guard(self, name: str, state: dict[str, Any]) -> None:
        self.faults.around("guard", lambda: super(_FaultyNodeStore, self).save_guard(name, state))

    def open_job(self, job: str, proposal: str, manifest: dict[str, Any]) -> None:
        act = super().open_job
        self.faults.around("open job", lambda: act(job, proposal, manifest))

    def set_job(self, job: str, **values: Any) -> None:
        act = super().set_job
        self.faults.around(f"set job {sorted(values)}", lambda: act(job, **values))


class _FaultyServerStore(CoordinatorStore):
    faults: Faults

    def save_opening(self, job: str, name: str, attempt: int, total: bytes) -> None:
        act = super().save_opening
        self.faults.around(f"opening {name}", lambda: act(job, name, attempt, total))

    def set_job(self, job: str, **values: Any) -> None:
        act = super().set_job
        self.faults.around(f"set job {sorted(values)}", lambda: act(job, **values))

    def register_model(self, *arguments: Any) -> int:
        act = super().register_model
        return int(self.faults.around("model", lambda: act(*arguments)))

    def end_job(self, *arguments: Any, **rest: Any) -> bool:
        act = super().end_job
        return bool(self.faults.around("end", lambda: act(*arguments, **rest)))


class Node:
    """A bank's node; `restart` forgets everything that isn't on disk."""

    def __init__(self, world: World, name: str, table: Table) -> None:
        self.world, self.name, self._table = world, name, table
        self.key = IdentityKey.generate()
        flower = ec.generate_private_key(ec.SECP384R1()).public_key()
        self.pem = flower.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.flower_line = flower.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ).decode()
        self.home = world.home / name
        self.steps = Steps(world.faults)
        self.activated = 0
        self.away = False
        self._storage = secrets.token_bytes(32)
        self._turn = threading.Lock()
        self.store = _FaultyNodeStore.open(f"sqlite:///{self.home}/node.db")
        self.store.faults = world.faults
        self.config = NodeConfig.model_validate(
            {
                "node": {"name": name, "role": "bank"},
                "approval": {"auto_approve": {"releases": ["none", "dp"], "max_epsilon": 8}},
            }
        )

    def restart(self) -> None:
        """Start the node's process anew."""
        world = self.world
        self.leases = Leases()
        vault = _FaultyVault(self.home / "vault", self._storage)
        vault.faults = world.faults
        self.vault = vault
        self.exchange = MemoryExchange(world.relay, world.faults, self.name)
        self.log = EgressLog(self.store, self.key, self.home / "egress.head")
        self.door = Door(self.log, self.exchange)  # type: ignore[arg-type]
        self.role = BankRole(
            TableSource(Role.BANK.value, lambda: (world.contract, self._table)), self.home / "models"
        )
        self.approvals = Approvals(self.config, self.store, self.key, CODE)
        self.parts = Parts(
            party=self.name,
            key=self.key,
            directory=lambda: world.directory,
            store=self.store,
            vault=vault,
            door=self.door,
            exchange=self.exchange,  # type: ignore[arg-type]
            leases=self.leases,
            notes=lambda *_: None,
        )
        self.stages = Stages(self.parts, self.role, self.approvals, CODE)
        self.activated += 1

    def serve(self, data: bytes) -> bytes:
        """Answer a Flower request, one at a time, as a SuperNode lets them through.

        Raises:
            Killed: the node died; it is started again already.
            ProtocolError: the request was none of the coordinator's.
        """
        with self._turn, acting(self.name), observe(self.world.ledger):
            _actor.stages = self.stages
            replies: list[bytes] = []
            try:
                reply, envelope = self.stages.answer(data)
                self.door.release(
                    COORDINATOR,
                    reply,
                    replies.append,
                    purpose=envelope.step,
                    job=envelope.job,
                    field_class="answer",
                )
            except Killed:
                self.restart()
                raise
            return replies[0]


class MemoryGrid:
    """Flower's grid over the relay."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Repeats wait in a thread each until their node is free.
        self._pool = ThreadPoolExecutor(256)
        self._replies: dict[str, Future[Message | None]] = {}

    def get_nodes(self) -> list[Any]:
        """Return who is online."""
        return [
            SimpleNamespace(node_id=index, public_key=each.pem, last_activated_at=str(each.activated))
            for index, each in enumerate(self._world.nodes.values(), 1)
            if not each.away
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Deliver requests."""
        made = []
        for message in messages:
            name = str(uuid4())
            message.metadata.__dict__["_message_id"] = name
            bank = list(self._world.nodes.values())[message.metadata.dst_node_id - 1]
            step = step_of(envelope_of(message))
            self._world.faults.point(f"push {step} to {bank.name}")
            self._replies[name] = self._pool.submit(self._deliver, message, bank, step)
            made.append(name)
        return made

    def _deliver(self, message: Message, bank: Node, step: str) -> Message | None:
        relay = self._world.relay
        if relay.lose_message("request", bank.name, step):
            return None
        record = ConfigRecord({ERROR: "DAEMON_UNAVAILABLE"})
        for _ in range(relay.repeats):
            try:
                reply = bank.serve(envelope_of(message))
            except (Killed, ConcordatError):
                continue
            relay.held.append((bank.name, step, reply))
            record = ConfigRecord({FIELD: reply})
        if relay.lose_message("reply", bank.name, step):
            return None
        return Message(content=RecordDict({RECORD: record}), reply_to=message)

    def pull_messages(self, names: Iterable[str]) -> list[Message]:
        """Return the replies that have come."""
        found = []
        for name in names:
            if self._replies[name].done() and (reply := self._replies[name].result()) is not None:
                found.append(reply)
        return found

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)


class World:
    """The consortium."""

    def __init__(
        self, home: Path, contract: DataContract, tables: dict[str, Table], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.home, self.contract, self.tables = home, contract, tables
        self.faults, self.relay, self.ledger = Faults(), Relay(), LabelLedger()
        self.plain: dict[tuple[str, int, int, str], list[Vector]] = defaultdict(list)
        write_private(home / "coordinator/secret/passphrase", secrets.token_urlsafe(32).encode())
        file = home / "coordinator/coordinator.toml"
        write_private(
            file, f'[coordinator]\nconsortium = "{CONSORTIUM}"\n[jobs]\npoll_seconds = 0.05\n'.encode()
        )
        self.config = load_coordinator(file)
        founding.found(self.config)
        self.key = founding.load_keystore(self.config).identity()
        self.registry = founding.load_registry_key(self.config)
        self.store = _FaultyServerStore.open(self.config.database_url(self.config.database.url))
        self.store.faults = self.faults
        self.nodes = {name: Node(self, name, table) for name, table in tables.items()}
        self._admit(COORDINATOR, Role.COORDINATOR, self.key, "")
        for each in self.nodes.values():
            self._admit(each.name, Role.BANK, each.key, each.flower_line)
        statements = [json.loads(row["statement"]) for row in self.store.list_parties()]
        self.directory = Directory.from_statements(
            statements, CONSORTIUM, self.registry.public, int(time.time())
        )
        for each in self.nodes.values():
            each.restart()
        self.grid = MemoryGrid(self)
        self._patch(monkeypatch)

    def _admit(self, name: str, role: Role, key: IdentityKey, flower: str) -> None:
        now = int(time.time())
        party = Party(name, role, key.public, flower, now - 60, now + 86_400, self.store.next("statement"))
        self.store.admit(name, role.value, issue(party, CONSORTIUM, self.registry), "")

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def workflow_steps() -> Steps:
            return self.nodes[_actor.name].steps

        durable = SimpleNamespace(
            start_workflow=lambda *args: workflow_steps().start_workflow(*args),
            run_step=lambda *args: workflow_steps().run_step(*args),
        )
        monkeypatch.setattr(node.stages, "DBOS", durable)
        monkeypatch.setattr(node.session, "DBOS", durable)
        monkeypatch.setattr(node.stages, "SetWorkflowID", lambda name: workflow_steps().named(name))
        monkeypatch.setattr(
            server_app, "Exchange", lambda *_: MemoryExchange(self.relay, self.faults, COORDINATOR)
        )
        monkeypatch.setattr(server_app, "Store", SimpleNamespace(open=lambda *_, **__: self.store))
        # What Flower sets in a ServerApp's process.
        for identity in ("_task_id", "_run_id", "_node_id"):
            monkeypatch.setattr(TaskIdentity, identity, 1)
        monkeypatch.setattr(fleet, "RESEND_SECONDS", 0.05)
        monkeypatch.setattr(fleet, "LOOK_SECONDS", 0.05)
        monkeypatch.setattr(fleet, "STALL_SECONDS", 3.0)
        honest = masking.mask

        def recording(vector: Vector, *, own: str, label: Any, **rest: Any) -> Vector:
            self.plain[(label.label, label.attempt, label.round, own)].append(vector.copy())
            return honest(vector, own=own, label=label, **rest)

        monkeypatch.setattr(masking, "mask", recording)

    # -- jobs -----------------------------------------------------------------------------------------------

    def submit(self, **changes: Any) -> Proposal:
        """Propose a job and have every bank approve it within its limits."""
        wanted = {"recipe": RECIPE, "seed": 3, "code": CODE, "min_rows": 20}
        proposal = proposal_for(list(self.nodes), self.contract, CONSORTIUM, **wanted)
        proposal = proposal.model_copy(update=changes)
        signed = proposal.sign(COORDINATOR, self.key)
        self.store.submit(proposal.digest, signed)
        for each in self.nodes.values():
            if each.name in proposal.banks:
                each.approvals.receive(signed, self.directory)
        return proposal

    def run(self, proposal: Proposal, deaths: int = 400) -> dict[str, Any]:
        """Run a job to its end, starting the server again whenever it is killed; returns its row."""
        job, over = proposal.digest, threading.Event()
        ticker = threading.Thread(target=self._renew, args=(job, over))
        ticker.start()
        try:
            for _ in range(deaths):
                with acting(COORDINATOR):
                    try:
                        server_app.Server(self.config, self.grid, job).run()  # type: ignore[arg-type]
                    except Killed:
                        continue
                row = self.store.job(job)
                assert row is not None
                return row
            raise AssertionError("the server died too often")
        finally:
            over.set()
            ticker.join()

    def _renew(self, job: str, over: threading.Event) -> None:
        """Tell the nodes of a job's lease, as the coordinator's daemon does."""
        while not over.wait(0.02):
            row = self.store.job(job)
            assert row is not None
            ended = row["state"] in ("failed", "cancelled")
            for each in self.nodes.values():
                each.leases.renew(job, row["generation"], ended)


def step_of(data: bytes) -> str:
    """Return the step that an envelope names, believing nothing of it."""
    position = 1
    text = ""
    for _ in range(4):
        length = int.from_bytes(data[position : position + 4], "big")
        text = data[position + 4 : position + 4 + length].decode(errors="replace")
        position += 4 + length
    return text


def generation_of(data: bytes) -> int:
    """Return the generation that an envelope names, believing nothing of it."""
    position = 1
    for _ in range(4):
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    return int.from_bytes(data[position + 4 : position + 8], "big")


def payload_of(data: bytes) -> bytes:
    """Return an envelope's payload, believing nothing of it."""
    position = 1
    for _ in range(4):
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    length = int.from_bytes(data[position + 16 : position + 20], "big")
    return data[position + 20 : position + 20 + length]


def _steady(name: str) -> str:
    """Return a vault file's name without sequence numbers, which differ from run to run."""
    kind = name.split(".")[0]
    return kind if kind in ("reply", "request", "result") else name
