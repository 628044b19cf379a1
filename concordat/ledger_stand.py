"""A whole ledger on one machine: chain, members and one service an institution, each with its own processes and keys.

What happens here over loopback happens between institutions over mutual TLS. One person holds every key of a stand, the
registry's and the council's included: it is for trying things out, for the demo and for tests, and for nothing else.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from concordat.supervision import Supervisor
from ledger.eip712 import Domain
from ledger.engine import founding, packages
from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import Genesis
from ledger.engine.operating import Trust
from ledger.keyring import Keyring
from ledger.service.wallet import ROLES, certificate_json, purpose
from ledger.signers import Role, certify
from ledger.tags import KeeperKeys
from node.keystore import write_private
from node.processes import PYTHON, Process
from protocol import document
from protocol.errors import (
    ConcordatError,
    ConfigurationError,
    DataError,
    LedgerError,
    NotApproved,
    Unavailable,
)

Tell = Callable[[str], None]
LOOPBACK = "127.0.0.1"
KEYS = 200
"""Certified keys a role; every receivable and every lien uses one."""

CERTIFIED_DAYS = 365
EPOCHS = (1,)

TOLERANCE = 120
"""Seconds after which a member's word is too old: one machine has one clock, but may have much else to do."""


@dataclass(frozen=True)
class Institution:
    """One that takes part.

    Attributes:
        name: its name.
        roles: what it signs as.
        title: what people call it.
    """

    name: str
    roles: tuple[str, ...]
    title: str


INSTITUTIONS = (
    Institution("platform", ("member",), "Supply-chain platform 供应链平台"),
    Institution("supplier", ("supplier",), "Supplier 供应商"),
    Institution("core", ("obligor",), "Core enterprise 核心企业"),
    Institution("bank-a", ("bank", "member"), "Bank A 甲银行"),
    Institution("bank-b", ("bank", "member"), "Bank B 乙银行"),
)
KEEPER = "platform"


class Stand:
    """The ledger in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.supervisor = Supervisor(self.directory)

    # -- making it ------------------------------------------------------------------------------------------

    @property
    def made(self) -> bool:
        """Whether the directory holds a ledger."""
        return (self.directory / "stand.json").exists()

    def create(
        self,
        institutions: Sequence[Institution] = INSTITUTIONS,
        port: int = 0,
        clock_tolerance: int = TOLERANCE,
    ) -> None:
        """Found the ledger: keys, contracts, genesis, certificates and every service's configuration.

        Args:
            institutions: who takes part; banks are the chain's members.
            port: first port of all, or 0 for any free ones.
            clock_tolerance: seconds after which a member's word is too old.

        Raises:
            ConfigurationError: ``STAND_EXISTS``, or the engine is not installed.
        """
        if self.made:
            raise ConfigurationError("STAND_EXISTS", f"{self.directory} holds a ledger already.")
        packages.edr()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        members = [each.name for each in institutions if "bank" in each.roles]
        names = ["chain", *(f"member/{name}" for name in members), *(each.name for each in institutions)]
        ports = dict(zip(names, _ports(len(names), port), strict=True))
        authority = founding.authority(self.directory / "chain/authority")
        genesis = self._found(authority, members, clock_tolerance)
        if genesis.registry is None:
            raise ConfigurationError("CHAIN_BARE", "The genesis document deploys no ledger.")
        domain = Domain(genesis.chain.chain_id, genesis.registry.address, genesis.consortium)
        seed = secrets.token_bytes(32)
        public = {
            epoch: key.hex() for epoch, key in KeeperKeys(seed, genesis.consortium, EPOCHS).public.items()
        }
        tokens = {
            frozenset((one.name, other.name)): secrets.token_urlsafe(32)
            for one in institutions
            for other in institutions
            if one.name < other.name
        }
        for each in institutions:
            self._equip(each, institutions, authority, domain, ports, public, tokens, members)
        write_private(self.directory / KEEPER / "tag-seed", seed.hex().encode())
        stand = {
            "institutions": [
                {"name": each.name, "roles": list(each.roles), "title": each.title, "port": ports[each.name]}
                for each in institutions
            ],
            "members": {name: ports[f"member/{name}"] for name in members},
            "gateway": ports["chain"],
        }
        write_private(self.directory / "stand.json", (json.dumps(stand, indent=1) + "\n").encode())

    def _found(self, authority: founding.Authority, members: Sequence[str], tolerance: int) -> Genesis:
        chain = self.directory / "chain"
        operator = ledger_keys.create(chain / "operator/keys")
        keys = {name: ledger_keys.create(chain / name / "keys") for name in members}
        public = [keys[name].member(name) for name in members]
        with ThreadPoolExecutor(1) as pool:  # a loop of its own, also where the caller's thread runs one
            founded = founding.body(authority, operator.member("operator"), public, clock_tolerance=tolerance)
            body = pool.submit(asyncio.run, founded).result()
        signed = document.sign(genesis_document.KIND, body, "operator", operator.identity)
        for name in members:
            signed = document.add_signature(signed, name, keys[name].identity)
        for name in ("operator", *members):
            write_genesis(chain / name, signed)
        return genesis_document.check(signed)

    def _equip(
        self,
        one: Institution,
        everybody: Sequence[Institution],
        authority: founding.Authority,
        domain: Domain,
        ports: dict[str, int],
        public: dict[int, str],
        tokens: dict[frozenset[str], str],
        members: Sequence[str],
    ) -> None:
        home = self.directory / one.name
        keyring = Keyring.create(home / "keys")
        expiry = int(time.time()) + CERTIFIED_DAYS * 86_400
        certificates = []
        for name in one.roles:
            role = ROLES[name]
            for index in range(1 if role is Role.MEMBER else KEYS):
                key = keyring.account(purpose(role), index).key
                made = certify(authority.registry, domain, role, key, expiry)
                certificates.append(certificate_json(made, index))
        write_private(home / "certificates.json", json.dumps({"certificates": certificates}).encode())
        write_private(home / "operator.token", secrets.token_urlsafe(32).encode())
        member = one.name if one.name in members else members[0]
        lines = [
            "# A ledger service. Every key is described in docs/handbook/ledger.md.",
            "[institution]",
            f"name = {json.dumps(one.name)}",
            f"title = {json.dumps(one.title, ensure_ascii=False)}",
            f"roles = {json.dumps(list(one.roles))}",
            "",
            "[chain]",
            f"genesis = {json.dumps(f'../chain/{member}/genesis.json')}",
            f'gateway = "http://{LOOPBACK}:{ports["chain"]}"',
            f'member = "http://{LOOPBACK}:{ports[f"member/{member}"]}"',
            "",
            "[listen]",
            f"port = {ports[one.name]}",
            "",
            "[tags]",
            f'keeper = "{KEEPER}"',
            *(['seed_file = "tag-seed"'] if one.name == KEEPER else []),
            "[tags.public_keys]",
            *(f'"{epoch}" = "{key}"' for epoch, key in public.items()),
        ]
        for other in everybody:
            if other.name == one.name:
                continue
            token = f"peers/{other.name}.token"
            write_private(home / token, tokens[frozenset((one.name, other.name))].encode())
            lines += [
                "",
                f"[peers.{other.name}]",
                f'url = "http://{LOOPBACK}:{ports[other.name]}"',
                f'token_file = "{token}"',
                f"roles = {json.dumps(list(other.roles))}",
                f"title = {json.dumps(other.title, ensure_ascii=False)}",
            ]
        anchoring = [] if "member" in one.roles else [f'anchoring = "{KEEPER}"', ""]
        text = "\n".join([lines[0], *anchoring, *lines[1:]]) + "\n"
        write_private(home / "service.toml", text.encode())

    # -- running it -----------------------------------------------------------------------------------------

    def up(self, patience: float = 90.0, tell: Tell = lambda _: None) -> float:
        """Start everything and wait until every service can rely on the chain; returns the seconds it took."""
        began = time.monotonic()
        self.supervisor.start(self._processes())
        waiting = [each["name"] for each in self._known()["institutions"]]
        while waiting:
            for name in list(waiting):
                if self._healthy(name):
                    waiting.remove(name)
                    tell(f"{name} ready")
            if time.monotonic() - began > patience:
                raise Unavailable(
                    "STAND_SLOW",
                    f"Not ready after {patience:.0f} seconds: {', '.join(waiting)}.",
                    f"Logs lie in {self.directory / 'logs'}.",
                )
            time.sleep(0.1)
        return time.monotonic() - began

    def down(self) -> None:
        """Stop everything."""
        self.supervisor.shutdown()

    def remove(self) -> None:
        """Stop everything and remove the directory."""
        self.down()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _processes(self) -> dict[str, list[Process]]:
        stand, chain = self._known(), self.directory / "chain"
        gateway = f"http://{LOOPBACK}:{stand['gateway']}"
        up = ("ledger.engine", "up", "--data", str(chain / "operator"), "--port", str(stand["gateway"]))
        groups = {"chain": [Process("gateway", (*PYTHON, *up), priority=10)]}
        for name, port in stand["members"].items():
            peers = [
                part
                for other, there in stand["members"].items()
                if other != name
                for part in ("--peer", f"{other}=http://{LOOPBACK}:{there}")
            ]
            member = ("ledger.engine", "member", "--data", str(chain / name), "--name", name)
            address = ("--operator", gateway, "--port", str(port))
            groups["chain"].append(
                Process(f"member-{name}", (*PYTHON, *member, *address, *peers), priority=20)
            )
        for each in stand["institutions"]:
            file = str(self.directory / each["name"] / "service.toml")
            groups[each["name"]] = [Process("service", (*PYTHON, "ledger.service", "run", file), priority=50)]
        return groups

    def _healthy(self, name: str) -> bool:
        try:
            return bool(self.service(name).get("/v1/health")["status"] == "ok")
        except ConcordatError:
            return False

    # -- asking it ------------------------------------------------------------------------------------------

    def _known(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory / "stand.json").read_text("utf-8"))
        except (OSError, ValueError):
            raise ConfigurationError(
                "STAND_MISSING", f"{self.directory} holds no ledger.", "`concordat ledger up` makes one."
            ) from None
        return found

    @property
    def institutions(self) -> list[dict[str, Any]]:
        """Name, roles, title and port of each institution."""
        found: list[dict[str, Any]] = self._known()["institutions"]
        return found

    def service(self, name: str) -> Service:
        """Return the door of an institution's service.

        Raises:
            ConfigurationError: ``STAND_MISSING``, ``INSTITUTION``.
        """
        for each in self.institutions:
            if each["name"] == name:
                token = (self.directory / name / "operator.token").read_text("utf-8").strip()
                return Service(f"http://{LOOPBACK}:{each['port']}", token)
        known = ", ".join(each["name"] for each in self.institutions)
        raise ConfigurationError("INSTITUTION", "No institution of this name is here.", f"Known: {known}.")


_REFUSALS: dict[int, type[ConcordatError]] = {
    403: NotApproved,
    409: LedgerError,
    422: DataError,
    503: Unavailable,
}


class Service:
    """An institution's service, asked with its operator's token."""

    def __init__(self, url: str, token: str, trust: Trust | None = None) -> None:
        """Name a service.

        Args:
            url: its address.
            token: its operator's.
            trust: certificates for one beyond loopback.
        """
        self.url = url
        self._token = token
        self._trust = trust or Trust()

    def get(self, path: str) -> Any:
        """Return an answer.

        Raises:
            ConcordatError: the service refuses, or does not answer.
        """
        return self._answer("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any] | None = None, key: str = "") -> Any:
        """Ask for an action."""
        return self._answer("POST", path, body or {}, {"Idempotency-Key": key} if key else {})

    def _answer(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", **headers}
        try:
            with self._trust.blocking_client() as client:
                answer = client.request(method, self.url + path, json=body, headers=headers, timeout=30)
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "SERVICE_SILENT", "The ledger service does not answer.", "`concordat ledger up` starts it."
            ) from error
        if answer.status_code >= 400 and isinstance(found, dict) and "title" in found:
            kind = _REFUSALS.get(answer.status_code, ConfigurationError)
            raise kind(str(found["title"]), str(found.get("detail", "")), str(found.get("hint", "")))
        return found

    def settled(self, name: str, patience: float = 60.0) -> dict[str, Any]:
        """Wait until a request has come to its end, and return it.

        Raises:
            Unavailable: ``LEDGER_PENDING`` if it has not, in time.
        """
        end = time.monotonic() + patience
        while True:
            found: dict[str, Any] = self.get(f"/v1/requests/{name}")
            if found["state"] not in ("open", "sent"):
                return found
            if time.monotonic() > end:
                raise Unavailable("LEDGER_PENDING", "It is on its way and not final yet.", "Ask again later.")
            time.sleep(0.15)

    def anchored(self, claim: str, patience: float = 60.0) -> dict[str, Any]:
        """Wait until a draft is anchored under a final block, and return the receivable.

        Raises:
            Unavailable: ``LEDGER_PENDING``.
        """
        return self.reaches(claim, lambda found: bool(found["state"] != "anchoring"), patience)

    def reaches(
        self, claim: str, there: Callable[[dict[str, Any]], bool], patience: float = 60.0
    ) -> dict[str, Any]:
        """Wait until a receivable is as it should be, and return it.

        Raises:
            Unavailable: ``LEDGER_PENDING``.
        """
        end = time.monotonic() + patience
        while True:
            try:
                found: dict[str, Any] = self.get(f"/v1/receivables/{claim}")
                if there(found):
                    return found
            except Unavailable:
                # A member that lags says that it can't tell; it may a moment later.
                if time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise Unavailable("LEDGER_PENDING", "It is on its way and not final yet.", "Ask again later.")
            time.sleep(0.15)


def _ports(count: int, first: int) -> list[int]:
    if first:
        return [first + number for number in range(count)]
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
