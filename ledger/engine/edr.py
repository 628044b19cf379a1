"""EDR, Hardhat's EVM engine, in a Node process behind the engine port.

The worker (`edr_worker.mjs`) inherits one end of a socket pair; nobody else can reach it, and it ends when
the socket closes, that is also when this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence
from typing import Any

from ledger.engine import packages
from ledger.engine.port import (
    BLOCK_GAS,
    TRANSACTION_GAS,
    ChainParameters,
    Header,
    Refusal,
    engine_fault,
    engine_gone,
)

LINE_LIMIT = 1 << 28
"""Bytes of one answer; a block's traces and logs stay far below."""


def _header(block: dict[str, Any]) -> Header:
    return Header(
        number=block["number"],
        time=block["time"],
        hash=bytes.fromhex(block["hash"][2:]),
        parent=bytes.fromhex(block["parent"][2:]),
        state_root=bytes.fromhex(block["stateRoot"][2:]),
        transactions=tuple(bytes.fromhex(each[2:]) for each in block["transactions"]),
    )


def _error(answer: dict[str, Any]) -> dict[str, Any]:
    """Return EDR's error as other clients give it: code 3 and the returned bytes in ``data`` for a revert."""
    error: dict[str, Any] = answer["error"]
    data = error.get("data")
    if isinstance(data, dict) and isinstance(data.get("data"), str):
        return {"code": 3, "message": "execution reverted", "data": data["data"]}
    return {"code": error.get("code", -32000), "message": str(error.get("message", "no message"))}


class EdrEngine:
    """The engine port over a Node worker."""

    name = "edr"

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._lost = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def lost(self) -> asyncio.Event:
        """Set once the worker has died."""
        return self._lost

    @property
    def pid(self) -> int:
        """The worker's process id."""
        if self._process is None:
            raise engine_gone()
        return self._process.pid

    async def start(self, chain: ChainParameters) -> Header:
        """Spawn the worker, create the chain and return block 0.

        Raises:
            ConfigurationError: ``ENGINE_NODE``, ``ENGINE_PACKAGES``.
            Unavailable: ``ENGINE_FAULT``.
        """
        binary, _ = packages.node()
        folder = packages.edr()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *[binary, str(packages.HERE / "edr_worker.mjs"), str(theirs.fileno()), str(folder)],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))
        block = await self._ask(
            "start",
            chainId=chain.chain_id,
            genesisTime=chain.genesis_time,
            hardfork=chain.hardfork,
            gasLimit=BLOCK_GAS,
            transactionGas=TRANSACTION_GAS,
        )
        return _header(block)

    async def admit(self, raws: Sequence[bytes], senders: Sequence[bytes]) -> list[bytes | Refusal]:
        """Validate transactions into the pool."""
        answers = await self._ask(
            "admit", txs=["0x" + raw.hex() for raw in raws], senders=[each.hex() for each in senders]
        )
        return [
            bytes.fromhex(answer["hash"][2:]) if "hash" in answer else Refusal(answer["refused"])
            for answer in answers
        ]

    async def seal(self, time: int) -> Header:
        """Execute what was admitted as one block."""
        return _header(await self._ask("seal", time=time))

    async def replay(self, time: int, raws: Sequence[bytes]) -> Header:
        """Admit and seal in one step."""
        return _header(await self._ask("block", time=time, txs=["0x" + raw.hex() for raw in raws]))

    async def rpc(self, body: str) -> str:
        """Answer one JSON-RPC request."""
        answer = str(await self._ask("rpc", body=body))
        identifier = json.loads(body).get("id")
        if not answer.startswith('{"result":'):
            return json.dumps({"jsonrpc": "2.0", "id": identifier, "error": _error(json.loads(answer))})
        return f'{{"jsonrpc":"2.0","id":{json.dumps(identifier)},{answer[1:]}'

    async def memory(self) -> int:
        """Return the worker's resident memory in bytes."""
        return int((await self._ask("memory"))["rss"])

    async def close(self) -> None:
        """Close the socket, upon which the worker ends, and wait for it."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                if self._process.returncode is None:
                    self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading

    async def _ask(self, op: str, **arguments: Any) -> Any:
        if self._writer is None or self._lost.is_set():
            raise engine_gone()
        self._next += 1
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = waiting
        self._writer.write(json.dumps({"id": self._next, "op": op, **arguments}).encode() + b"\n")
        return await waiting

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                message = json.loads(line)
                waiting = self._waiting.pop(message["id"], None)
                if waiting is None or waiting.done():
                    continue
                if "error" in message:
                    waiting.set_exception(engine_fault(str(message["error"])))
                else:
                    waiting.set_result(message["ok"])
        self._lost.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(engine_gone())
        self._waiting.clear()
