"""A consortium in one process: real engines, logs and HTTP applications, joined without sockets, under one clock.

An operator can be started twice with the same keys, and each bank has its own idea of where the operator is: that is
all it takes to play an operator that lies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from engine_processes import Sender, counter_code
from eth_hash.auto import keccak

from ledger.engine import genesis as genesis_document
from ledger.engine.chain import Chain
from ledger.engine.checkpoints import Book
from ledger.engine.gateway import Gateway, door
from ledger.engine.genesis import Contract, Genesis
from ledger.engine.keys import LedgerKeys
from ledger.engine.member import MemberDoor, member_application
from ledger.engine.publishing import Publisher
from ledger.engine.replica import Replica
from ledger.engine.sequencer import Sequencer
from ledger.engine.witness import Witness
from protocol import document

BANKS = ("bank-a", "bank-b", "bank-c")
TOLERANCE = 30


class Clock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Operator:
    """A gateway with its parts in reach."""

    def __init__(self, world: World, folder: Path, clock: Callable[[], float]) -> None:
        self.world = world
        self.chain = Chain(world.genesis, folder)
        self.book = Book(folder / "checkpoints.sqlite")
        self.sequencer = Sequencer(self.chain, clock)
        self.publisher = Publisher(self.chain, self.book, world.keys["operator"].checkpoint, world.clock)
        gateway = Gateway(self.sequencer, self.publisher, world.keys["operator"].identity)
        self.app = door(gateway, self.book, self.publisher.latest, frozenset({"operator"}))
        self.sender = Sender(world.genesis.chain.chain_id)
        self.clock = clock
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> Operator:
        await self.chain.open()
        await self.chain.deploy(int(self.clock()))
        await self.publisher.open()
        self._running = asyncio.create_task(self.sequencer.run())
        return self

    async def send(self, count: int = 1, publish: bool = True) -> None:
        """Make a block of one transaction each, and a checkpoint over them."""
        address = self.world.address
        for _ in range(count):
            await self.sequencer.submit(self.sender.sign(address, (1).to_bytes(32, "big")))
        if publish:
            await self.publisher.extend()

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        await self.chain.close()
        self.book.close()


class Bank:
    """A member with its parts in reach."""

    def __init__(self, world: World, name: str, operator: Any) -> None:
        self.world = world
        self.name = name
        folder = world.folder / name
        self.book = Book(folder / "checkpoints.sqlite")
        self.witness = Witness(world.genesis, self.book, name, world.keys[name].checkpoint, world.clock)
        self.chain = Chain(world.genesis, folder)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self._route), trust_env=False)
        self.operator_app = operator
        peers = {other: f"http://{other}" for other in BANKS if other != name}
        self.replica = Replica(self.chain, self.witness, "http://operator", peers, self.client)
        self.door = MemberDoor(self.replica)
        self.app = member_application(self.door, frozenset({name}))

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        app = self.operator_app if host == "operator" else self.world.apps.get(host)
        if app is None:
            raise httpx.ConnectError("nobody listens there")
        await app(scope, receive, send)

    @property
    def evidence(self) -> list[str]:
        return sorted({each.kind for each in self.book.evidence()})

    async def close(self) -> None:
        await self.client.aclose()
        await self.chain.close()
        self.book.close()


class World:
    """Genesis, keys, a clock, one honest operator and three banks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.keys = {name: LedgerKeys.generate() for name in ("operator", *BANKS)}
        self.genesis, self.address = self._genesis()
        self.banks: dict[str, Bank] = {}
        self.apps: dict[str, Any] = {}
        self._stack = contextlib.AsyncExitStack()

    def _genesis(self) -> tuple[Genesis, bytes]:
        chain_id = genesis_document.new_chain_id()
        creation, runtime = counter_code()
        raws, addresses = genesis_document.deploy(chain_id, [("registry", creation)])
        body = genesis_document.draft(
            self.keys["operator"].member("operator"),
            [self.keys[name].member(name) for name in BANKS],
            int(self.clock()),
            chain_id=chain_id,
            deployments=raws,
            contracts=[Contract("registry", addresses["registry"], keccak(runtime))],
            clock_tolerance=TOLERANCE,
        )
        signed = document.sign(genesis_document.KIND, body, "operator", self.keys["operator"].identity)
        for name in BANKS:
            signed = document.add_signature(signed, name, self.keys[name].identity)
        return genesis_document.check(signed), addresses["registry"]

    async def operator(self, folder: str = "operator", clock: Callable[[], float] | None = None) -> Operator:
        made = Operator(self, self.folder / folder, clock or self.clock)
        self._stack.push_async_callback(made.close)
        return await made.open()

    async def bank(self, name: str, operator: Any) -> Bank:
        made = Bank(self, name, operator)
        await made.chain.open()
        self._stack.push_async_callback(made.close)
        self.banks[name], self.apps[name] = made, made.app
        return made

    async def start(self) -> Operator:
        """Start the operator and all banks."""
        operator = await self.operator()
        for name in BANKS:
            await self.bank(name, operator.app)
        return operator

    async def step(self, times: int = 2) -> None:
        """Let every bank step, in turn; twice, so that what one found reaches the others."""
        for _ in range(times):
            for bank in self.banks.values():
                await bank.replica.step()

    @property
    def operator_key(self) -> Ed25519PrivateKey:
        return self.keys["operator"].checkpoint

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class Bridge(httpx.BaseTransport):
    """Lets a synchronous client in a thread reach applications of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, apps: dict[str, Any]) -> None:
        self.loop = loop
        self.apps = apps

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.apps[request.url.host])
            async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
                return await client.request(
                    request.method, request.url, content=request.content, headers=request.headers
                )

        answer = asyncio.run_coroutine_threadsafe(call(), self.loop).result(30)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
