"""A whole consortium on one machine: founded, enrolled, supervised, each party with its own processes and directory.

The parties are the real ones: what happens here over loopback happens between institutions over a network. Only this
module and the demo know every party.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import httpx

import coordinator.config
import coordinator.processes
import node.config
import node.processes
from concordat.supervision import Supervisor
from coordinator import founding
from coordinator.relay import write_relay
from coordinator.store import Store
from node import enrolment
from node.ingest import Mapping
from node.keystore import write_private
from node.processes import Process
from protocol.errors import ConcordatError, ConfigurationError, DataError, JobVoid, NotApproved, Unavailable
from protocol.mailbox import COORDINATOR

Tell = Callable[[str], None]
LOOPBACK = "127.0.0.1"
REFUSALS: dict[int, type[ConcordatError]] = {
    400: ConfigurationError,
    403: NotApproved,
    409: JobVoid,
    422: DataError,
    503: Unavailable,
}
"""Class of a refusal of the operators' interface, hence its exit code, by the HTTP status it came with."""


@dataclass(frozen=True)
class Member:
    """An institution of the lab: name and role, its table if it has one, consent codes if there are any."""

    name: str
    role: str
    contract: bytes = b""
    mapping: Mapping | None = None
    consents: Path | None = None


class Lab:
    """The consortium in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.supervisor = Supervisor(self.directory)

    # -- making it ------------------------------------------------------------------------------------------

    def create(
        self,
        consortium: str,
        members: Sequence[Member],
        *,
        releases: Sequence[str] = ("none", "dp"),
        max_epsilon: float = 8.0,
        max_partner_epsilon: float = 1.0,
        exact_releases: bool = False,
        host: str = LOOPBACK,
    ) -> None:
        """Found the consortium and make its nodes; nothing runs yet.

        Args:
            consortium: its name.
            members: the institutions.
            releases: kinds of release that the nodes approve without asking.
            max_epsilon: the largest epsilon that they approve without asking.
            max_partner_epsilon: the same of a release to a data partner.
            exact_releases: whether releases to partners may go without noise; tests only.
            host: address of this machine at which the edge and the exchange listen; all else stays on loopback.

        Raises:
            ConfigurationError: there is one in this directory already.
        """
        if (self.directory / "coordinator/coordinator.toml").exists():
            raise ConfigurationError(
                "LAB_EXISTS",
                f"{self.directory} holds a consortium already",
                "`concordat up` starts it; remove the directory for a new one.",
            )
        outer, ports = _free_ports(2, host), _free_ports(1 + len(members))
        home = self.directory / COORDINATOR
        home.mkdir(parents=True, mode=0o700)
        write_private(home / "secret/passphrase", secrets.token_urlsafe(32).encode())
        write_private(
            home / "coordinator.toml",
            "\n".join(
                [
                    "# The coordinator of a consortium. Every key is described in docs/handbook/coordinator.md.",
                    "[coordinator]",
                    f"consortium = {json.dumps(consortium)}",
                    "",
                    "[listen]",
                    f'public = "{host}:{outer[0]}"',
                    f'exchange = "{host}:{outer[1]}"',
                    f'superlink = "{LOOPBACK}:{ports[0]}"',
                    f"hosts = {json.dumps(sorted({host, LOOPBACK, 'localhost'}))}",
                    "",
                ]
            ).encode(),
        )
        config = self.coordinator()
        founding.found(config)
        write_relay(config, Store.open(config.database_url(config.database.url)))
        with ThreadPoolExecutor(2) as pool:
            kinds = ", ".join(f'"{kind}"' for kind in releases)
            approval = [
                "[approval]",
                f"exact_releases = {str(exact_releases).lower()}",
                "",
                "[approval.auto_approve]",
                'purposes = ["train"]',
                f"releases = [{kinds}]",
                f"max_epsilon = {max_epsilon}",
                f"max_partner_epsilon = {max_partner_epsilon}",
            ]
            list(pool.map(lambda member, port: self._make(member, port, approval), members, ports[1:]))

    def _make(self, member: Member, port: int, approval: Sequence[str]) -> None:
        home = self.directory / member.name
        file = enrolment.initialise(home, member.name, member.role, f"{LOOPBACK}:{port}")
        sections = [
            "[trust]",
            "# On one machine the registry's word is enough; between institutions pin each fingerprint.",
            "accept_registry = true",
            "",
            *approval,
        ]
        if member.mapping is not None:
            write_private(home / "data/contract.json", member.contract)
            mapping = member.mapping
            sections += [
                "",
                "[data]",
                f"file = {json.dumps(str(mapping.path))}",
                *([f"consents = {json.dumps(str(member.consents))}"] if member.consents else []),
                f"id = {json.dumps(mapping.id)}",
            ]
            if mapping.label is not None:
                sections.append(f"label = {json.dumps(mapping.label)}")
            renamed = {field: column for field, column in mapping.columns.items() if field != column}
            if renamed:
                sections += ["", "[data.columns]"]
                sections += [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in renamed.items()]
        enrolment.append(file, "\n".join(sections))

    # -- running it -----------------------------------------------------------------------------------------

    def up(self, patience: float = 90.0, tell: Tell = lambda _: None) -> float:
        """Start everything and wait until every node is ready; returns the seconds it took."""
        began = time.monotonic()
        nodes = self.nodes()
        core = {COORDINATOR: coordinator.processes.processes(self.coordinator())}
        enrolled = {name: self._processes(name) for name in nodes if self.node(name).consortium is not None}
        (self.directory / COORDINATOR / "run/ready").unlink(missing_ok=True)
        self.supervisor.start({**core, **enrolled})
        self._await_coordinator(began + patience)
        tell("coordinator ready")
        known: dict[str, list[Process]] = {**core, **enrolled}
        for name in nodes:
            if name not in enrolled:
                self._enroll(name)
                processes = self._processes(name)
                self.supervisor.add({name: processes}, known)
                known[name] = processes
                tell(f"{name} enrolled")
        for name in nodes:
            self.await_ready(name, began + patience)
            tell(f"{name} ready")
        return time.monotonic() - began

    def down(self) -> None:
        """Stop everything."""
        self.supervisor.shutdown(last=COORDINATOR)

    def _enroll(self, name: str) -> None:
        config = self.node(name)
        invitation = self.call(
            "POST", "/invitations", {"name": name, "role": config.node.role, "admit": True}
        )
        enrolment.enroll(self.directory / name / "node.toml", invitation, 30)

    def _processes(self, name: str) -> list[Process]:
        return node.processes.processes(self.node(name), self.directory / name / "node.toml")

    def _await_coordinator(self, deadline: float) -> None:
        ready = self.directory / COORDINATOR / "run/ready"
        while not ready.exists():
            self._fail_late(deadline, "the coordinator")
        while True:
            try:
                self.call("GET", "/health")
                return
            except Unavailable:
                self._fail_late(deadline, "the coordinator")

    def await_ready(self, name: str, deadline: float) -> dict[str, Any]:
        """Wait until a node's daemon is ready and its SuperNode is online; returns its status."""
        while True:
            try:
                status = self.status(name)
                if status["state"] != "starting":
                    return status
            except Unavailable:
                self._fail_stopped(name)
            self._fail_late(deadline, name)

    def _fail_stopped(self, name: str) -> None:
        """Raise what a node's daemon said before it stopped for good."""
        for process in self.supervisor.processes():
            if process["name"] == f"{name}.daemon" and process["statename"] == "EXITED":
                said = Path(process["stdout_logfile"]).read_text(errors="replace").splitlines()
                text = [line for line in said if line and not line[:4].isdigit()]
                raise ConfigurationError("NODE_STOPPED", f"{name} can't start:\n" + "\n".join(text[-25:]))

    def _fail_late(self, deadline: float, who: str) -> None:
        if time.monotonic() > deadline:
            raise Unavailable(
                "NOT_READY", f"{who} did not come up in time", f"Its logs lie in {self.directory / 'logs'}."
            )
        time.sleep(0.05)

    # -- talking to it --------------------------------------------------------------------------------------

    def coordinator(self) -> coordinator.config.CoordinatorConfig:
        """Return the coordinator's configuration."""
        return coordinator.config.load(self.directory / COORDINATOR / "coordinator.toml")

    def node(self, name: str) -> node.config.NodeConfig:
        """Return a node's configuration."""
        return node.config.load(self.directory / name / "node.toml")

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        return sorted(path.parent.name for path in self.directory.glob("*/node.toml"))

    def status(self, name: str) -> dict[str, Any]:
        """Return what a node's daemon says of itself.

        Raises:
            Unavailable: it doesn't answer.
        """
        try:
            with Client(str(self.node(name).socket()), "AF_UNIX") as connection:
                connection.send_bytes(b"S")
                status: dict[str, Any] = json.loads(connection.recv_bytes())
                return status
        except (OSError, EOFError):
            raise Unavailable("NODE_DOWN", f"the daemon of {name} doesn't answer") from None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the coordinator's operators' interface."""
        return call(self.coordinator(), method, path, body)


def call(config: coordinator.config.CoordinatorConfig, method: str, path: str, body: Any = None) -> Any:
    """Call a coordinator's operators' interface on its Unix socket.

    Raises:
        Unavailable: the coordinator's daemon doesn't answer.
        ConcordatError: it refuses; code, message and hint are its own.
    """
    down = Unavailable(
        "COORDINATOR_DOWN",
        "the coordinator's daemon doesn't answer",
        "`concordat up` or `concordat coordinator run` starts it.",
    )
    path_of_socket = config.operator_socket()
    if not path_of_socket.exists():
        raise down
    transport = httpx.HTTPTransport(uds=str(path_of_socket))
    try:
        with httpx.Client(transport=transport, base_url="http://coordinator", timeout=60) as client:
            reply = client.request(method, path, json=body)
    except httpx.HTTPError:
        raise down from None
    try:
        content = reply.json()
    except ValueError:
        content = {
            "detail": f"the coordinator's daemon answers {reply.status_code}",
            "hint": "Look at its log.",
        }
    if reply.is_error:
        refusal = REFUSALS.get(reply.status_code, ConcordatError)
        raise refusal(
            str(content.get("title", "ERROR")),
            str(content.get("detail", content)),
            str(content.get("hint", "")),
        )
    return content


def _free_ports(count: int, host: str = LOOPBACK) -> list[int]:
    """Return ports of an address that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
