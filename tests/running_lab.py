"""A consortium of real processes for tests: jobs submitted, processes held and killed, what each party kept read."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordat import dataset
from concordat.economy import write_economy
from concordat.lab import Lab, Member
from concordat.simulate import Simulated, proposal_for, simulate
from coordinator.store import ENDED, Store
from node import egress
from node.keystore import Keystore
from node.store import Store as NodeStore
from protocol.job import Deadlines, Recipe
from protocol.mailbox import COORDINATOR

CONSORTIUM = "Test consortium"
RECIPE = Recipe(rounds=3, local_steps=20, bins=4, hidden=(8,))
DEADLINES = Deadlines(enlist=120, session=120, round=120, finish=120)
SEED = 11
PROCESSES = ("daemon", "supernode")
WAIT = 240.0


@dataclass(frozen=True)
class RunningLab:
    """A running lab and the tables that its nodes were given."""

    lab: Lab
    data: dataset.DataDirectory
    banks: tuple[str, ...]

    @classmethod
    def create(cls, home: Path, *, host: str, banks: int = 4, count: int = 3000) -> RunningLab:
        """Found a consortium of banks on a small synthetic economy; nothing runs yet."""
        write_economy(home / "economy", count=count, banks=banks, seed=5, kind="parquet")
        data = dataset.load(home / "economy")
        names = tuple(party.name for party in data.parties if party.role == "bank")
        document = json.dumps(data.contract().document()).encode()
        lab = Lab(home / "lab")
        members = [
            Member(name, "bank", document, data.materialise(name, lab.directory / name / "data"))
            for name in names
        ]
        lab.create(CONSORTIUM, members, host=host)
        return cls(lab, data, names)

    # -- jobs -----------------------------------------------------------------------------------------------

    def proposal(self, banks: Sequence[str] | None = None, **changes: Any) -> dict[str, Any]:
        """Return what a risk modeller submits."""
        wanted = {"recipe": RECIPE, "deadlines": DEADLINES, "seed": SEED, **changes}
        proposal = proposal_for(banks or self.banks, self.data.contract(), CONSORTIUM, **wanted)
        return {name: value for name, value in proposal.body.items() if name not in ("consortium", "code")}

    def submit(self, banks: Sequence[str] | None = None, **changes: Any) -> str:
        """Submit a job; returns its id."""
        return str(self.lab.call("POST", "/jobs", self.proposal(banks, **changes))["id"])

    def show(self, job: str) -> dict[str, Any]:
        """Return what the coordinator shows of a job."""
        shown: dict[str, Any] = self.lab.call("GET", f"/jobs/{job}")
        return shown

    def events(self, job: str) -> list[dict[str, Any]]:
        """Return a job's events, read from the database so that the coordinator's daemon need not live."""
        return self.store().events(job, 0)

    def await_end(self, job: str, patience: float = WAIT) -> dict[str, Any]:
        """Wait until a job has ended, whichever way."""
        self.until(lambda: (self.store().job(job) or {})["state"] in ENDED, f"the end of {job[:8]}", patience)
        return self.show(job)

    def await_event(
        self, job: str, step: str, kind: str, party: str = "", *, after: int = 0, patience: float = WAIT
    ) -> int:
        """Wait for an event behind the event ``after``; returns its number."""
        found: list[int] = []

        def look() -> bool:
            for event in self.events(job):
                same = (event["step"], event["kind"], event["party"]) == (step, kind, party)
                if same and event["id"] > after:
                    found.append(event["id"])
                    return True
            row = self.store().job(job)
            assert row is not None
            assert row["state"] not in ENDED, f"ended as {row['state']}: {row['cause']}"
            return False

        self.until(look, f"{step} {party} {kind}", patience)
        return found[0]

    @staticmethod
    def until(done: Callable[[], bool], what: str, patience: float = WAIT) -> None:
        """Wait for something."""
        deadline = time.monotonic() + patience
        while not done():
            assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain for {what}"
            time.sleep(0.1)

    def simulated(self, models: Path, banks: Sequence[str] | None = None, **changes: Any) -> Simulated:
        """Return the same job's twin of one process."""
        names = tuple(banks or self.banks)
        wanted = {"recipe": RECIPE, "deadlines": DEADLINES, "seed": SEED, **changes}
        contract = self.data.contract()
        proposal = proposal_for(names, contract, CONSORTIUM, **wanted)
        return simulate(proposal, contract, {name: self.data.table(name) for name in names}, models)

    # -- processes ------------------------------------------------------------------------------------------

    def pid(self, party: str, process: str) -> int:
        """Return the number of a process, 0 if it isn't alive."""
        for each in self.lab.supervisor.processes():
            if (each["group"], each["name"]) == (party, f"{party}.{process}"):
                return int(each["pid"])
        raise AssertionError(f"there is no process {process} of {party}")

    def kill(self, party: str, *processes: str) -> None:
        """Kill -9 processes of a party, at once; the supervisor starts them again."""
        for number in [self.pid(party, process) for process in processes]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    @contextmanager
    def held(self, party: str, process: str = "daemon") -> Iterator[int]:
        """Stop a process for a while, so that what it is to answer stays open."""
        number = self.pid(party, process)
        os.kill(number, signal.SIGSTOP)
        try:
            yield number
        finally:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)

    def server_app(self) -> int:
        """Return the number of the ServerApp's process, a child of the coordinator's SuperExec."""
        return self.descendant(self.pid(COORDINATOR, "superexec"), 1, "flwr-serverapp")

    def client_app(self, bank: str) -> int:
        """Return the number of a ClientApp's process, forked by the bank's executor for one message."""
        return self.descendant(self.pid(bank, "supernode"), 3, "")

    def descendant(self, ancestor: int, depth: int, command: str) -> int:
        """Wait for a descendant of a process, so many forks below it."""
        found: list[int] = []

        def look() -> bool:
            level = [ancestor]
            for _ in range(depth):
                level = [child for parent in level for child in children(parent)]
            found[:] = [number for number in level if command in command_line(number)]
            return bool(found)

        self.until(look, f"a process below {ancestor}", 60)
        return found[0]

    def stop(self, bank: str) -> None:
        """Stop a bank for good."""
        for process in PROCESSES:
            self.lab.supervisor.stop(bank, process)

    def start(self, bank: str) -> None:
        """Start a bank that was stopped, and wait until it is ready."""
        for process in PROCESSES:
            self.lab.supervisor.start_one(bank, process)
        self.lab.await_ready(bank, time.monotonic() + 120)

    # -- what the parties keep ------------------------------------------------------------------------------

    def store(self) -> Store:
        """Return the coordinator's database."""
        config = self.lab.coordinator()
        return Store.open(config.database_url(config.database.url), upgrade=False)

    def node_store(self, name: str) -> NodeStore:
        """Return a node's database."""
        config = self.lab.node(name)
        return NodeStore.open(config.database_url(config.database.url))

    def refusals(self, name: str) -> list[str]:
        """Return the codes that a node has logged as refused, in order."""
        return [row["code"] for row in self.node_store(name).list_refusals()]

    def verify_egress(self, name: str) -> egress.Head:
        """Check a node's egress log against the head in its file."""
        config = self.lab.node(name)
        keys = Keystore(config.path("keys"), config.passphrase())
        head = egress.read_head(config.path("egress.head"))
        assert head is not None
        return egress.verify(self.node_store(name), keys.identity().public, {"file": head})


def children(parent: int) -> list[int]:
    """Return the children of a process."""
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


def command_line(number: int) -> str:
    """Return the command line of a process."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
