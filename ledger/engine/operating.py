"""The lives of the processes: the operator's gateway and a member's replica, from replay to the first fault."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from ledger.engine.chain import Chain
from ledger.engine.checkpoints import Book
from ledger.engine.gateway import Gateway, door
from ledger.engine.genesis import Genesis
from ledger.engine.keys import LedgerKeys
from ledger.engine.member import MemberDoor, member_application
from ledger.engine.port import engine_gone
from ledger.engine.publishing import Publisher
from ledger.engine.replica import Replica
from ledger.engine.sequencer import Sequencer
from ledger.engine.serving import Listen, serve
from ledger.engine.witness import SOURCES, Witness
from protocol.errors import ConfigurationError

TIMEOUT = 10.0
"""Seconds that a member waits for another party's answer."""


@dataclass(frozen=True)
class Trust:
    """The certificates with which a member calls others; all None for plain HTTP on loopback.

    Attributes:
        authorities: PEM authorities of the servers.
        certificate: PEM chain of this client.
        key: its PEM key.
    """

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def client(self) -> httpx.AsyncClient:
        """Return an HTTP client that trusts nobody else and ignores the environment's proxies."""
        return httpx.AsyncClient(verify=self._context(), timeout=TIMEOUT, trust_env=False)

    def blocking_client(self) -> httpx.Client:
        """Return the same for synchronous code."""
        return httpx.Client(verify=self._context(), timeout=TIMEOUT, trust_env=False)

    def _context(self) -> ssl.SSLContext:
        # Without authorities nobody is trusted: an https address then fails rather than going unverified.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authorities is not None:
            context.load_verify_locations(self.authorities)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


async def run_gateway(
    data: Path,
    genesis: Genesis,
    keys: LedgerKeys,
    listen: Listen,
    clock: Callable[[], float] = time.time,
) -> None:
    """Replay the log, then serve until a signal or a fault.

    Raises:
        ConfigurationError: ``NOT_THE_OPERATOR``.
        Unavailable: if log, engine or book fail.
    """
    operator = genesis.operator
    if keys.member(operator.name) != operator:
        raise ConfigurationError("NOT_THE_OPERATOR", "The keys here are not those of the genesis' operator.")
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        chain = Chain(genesis, data)
        stack.push_async_callback(chain.close)
        book = Book(data / "checkpoints.sqlite")
        stack.callback(book.close)
        await chain.open()
        await chain.deploy(int(clock()))
        publisher = Publisher(chain, book, keys.checkpoint, clock)
        await publisher.open()
        sequencer = Sequencer(chain, clock)
        gateway = Gateway(sequencer, publisher, keys.identity)
        ready = {**gateway.health(), "replaySeconds": round(time.monotonic() - started, 3)}
        app = door(gateway, book, publisher.latest, listen.hosts)
        await serve(app, listen, ready, sequencer.run(), publisher.run(), _watch(chain))


async def run_member(
    data: Path,
    genesis: Genesis,
    keys: LedgerKeys,
    name: str,
    listen: Listen,
    operator: str,
    peers: Mapping[str, str],
    trust: Trust,
) -> None:
    """Replay the own log, then follow, cosign and serve until a signal or a fault.

    Raises:
        ConfigurationError: ``NOT_A_MEMBER``, ``PEERS``.
        Unavailable: if log, engine or book fail.
    """
    others = {each.name for each in genesis.members} - {name}
    if not set(peers) <= others or len(peers) < min(SOURCES, len(others)):
        raise ConfigurationError(
            "PEERS",
            "A member must ask at least two other members of the genesis document (or all, if fewer).",
        )
    async with contextlib.AsyncExitStack() as stack:
        book = Book(data / "checkpoints.sqlite")
        stack.callback(book.close)
        witness = Witness(genesis, book, name, keys.checkpoint, time.time)
        chain = Chain(genesis, data)
        stack.push_async_callback(chain.close)
        await chain.open()
        client = await stack.enter_async_context(trust.client())
        replica = Replica(chain, witness, operator, peers, client)
        served = MemberDoor(replica)
        app = member_application(served, listen.hosts)
        await serve(app, listen, served.health(), replica.run(), _watch(chain))


async def check_ledger(data: Path, genesis: Genesis) -> dict[str, object]:
    """Verify and replay a stopped ledger's log, and return its head.

    Raises:
        Unavailable: ``LOG_CORRUPT``, ``LOG_SHORTENED``, ``REPLAY_DIFFERS``, ``GENESIS_DEPLOYMENT``.
    """
    async with contextlib.AsyncExitStack() as stack:
        chain = Chain(genesis, data)
        stack.push_async_callback(chain.close)
        head = await chain.open()
        await chain.check_contracts()
        root = chain.log.tree.root()
        return {
            "records": len(chain.log),
            "number": head.number,
            "hash": head.hash.hex(),
            "stateRoot": head.state_root.hex(),
            "logRoot": root.hex(),
        }


async def _watch(chain: Chain) -> None:
    await chain.engine.lost.wait()
    raise engine_gone()
