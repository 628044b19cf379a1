"""anvil (Foundry) behind the engine port: a second engine, for comparison and for tests of reorganisations.

Not for production: it listens on a TCP port of the loopback interface without any authentication, where every
user of the machine reaches its cheat methods, and its cost per block grows with the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from ledger.engine import packages
from ledger.engine.port import BLOCK_GAS, ChainParameters, Header, Refusal, engine_fault, engine_gone

# The shell outlives this process just long enough to end anvil: its standard input closes when we die.
_KEEPER = '"$@" & child=$!; cat >/dev/null; kill -9 $child 2>/dev/null; wait $child 2>/dev/null'


class AnvilEngine:
    """The engine port over an anvil process."""

    name = "anvil"

    def __init__(self) -> None:
        self._lost = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None
        self._order = asyncio.Lock()
        self._admitted: list[bytes] = []
        self._next = 0
        self.url = ""

    @property
    def lost(self) -> asyncio.Event:
        """Set once anvil has died."""
        return self._lost

    async def start(self, chain: ChainParameters) -> Header:
        """Spawn anvil, read its port and return block 0.

        Raises:
            ConfigurationError: ``ENGINE_PACKAGES``.
            Unavailable: ``ENGINE_GONE``.
        """
        command = [
            *[str(packages.anvil()), "--host", "127.0.0.1", "--port", "0", "--no-cors", "--accounts", "0"],
            *["--base-fee", "0", "--hardfork", chain.hardfork, "--no-mining", "--order", "fifo"],
            *["--gas-limit", str(BLOCK_GAS), "--chain-id", str(chain.chain_id)],
            *["--timestamp", str(chain.genesis_time)],
        ]
        self._process = await asyncio.create_subprocess_exec(
            *["/bin/sh", "-c", _KEEPER, "keeper", *command],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        if self._process.stdout is None:
            raise engine_gone()
        while line := await self._process.stdout.readline():
            if line.startswith(b"Listening on "):
                self.url = "http://" + line.split()[-1].decode()
                break
        else:
            raise engine_gone()
        self._drain = asyncio.create_task(self._watch(self._process.stdout))
        self._client = httpx.AsyncClient(
            base_url=self.url,
            timeout=60,
            trust_env=False,
            verify=ssl.SSLContext(
                ssl.PROTOCOL_TLS_CLIENT
            ),  # plain HTTP; loading authorities would only take time
        )
        return await self._head()

    async def _watch(self, stdout: asyncio.StreamReader) -> None:
        while await stdout.read(1 << 16):
            pass
        self._lost.set()

    async def admit(self, raws: Sequence[bytes], senders: Sequence[bytes]) -> list[bytes | Refusal]:
        """Validate transactions into the pool."""
        async with self._order:
            return await self._admit(raws, senders)

    async def _admit(self, raws: Sequence[bytes], senders: Sequence[bytes]) -> list[bytes | Refusal]:
        results: list[bytes | Refusal] = []
        refused: set[bytes] = set()
        for raw, sender in zip(raws, senders, strict=True):
            if sender in refused:
                results.append(Refusal("an earlier transaction of this sender was refused"))
                continue
            answer = await self._post("eth_sendRawTransaction", "0x" + raw.hex())
            if "error" in answer:
                refused.add(sender)
                results.append(Refusal(str(answer["error"].get("message", "refused"))))
            else:
                results.append(bytes.fromhex(answer["result"][2:]))
                self._admitted.append(bytes.fromhex(answer["result"][2:]))
        return results

    async def seal(self, time: int) -> Header:
        """Execute what was admitted as one block."""
        async with self._order:
            return await self._seal(time)

    async def _seal(self, time: int) -> Header:
        await self._result("evm_setNextBlockTimestamp", time)
        await self._result("evm_mine")
        header = await self._head()
        expected, self._admitted = tuple(self._admitted), []
        if header.time != time or header.transactions != expected:
            raise engine_fault("the block does not hold exactly the admitted transactions in order")
        return header

    async def replay(self, time: int, raws: Sequence[bytes]) -> Header:
        """Admit and seal in one step."""
        async with self._order:
            if any(isinstance(each, Refusal) for each in await self._admit(raws, [b""] * len(raws))):
                raise engine_fault("a logged transaction was not admitted")
            return await self._seal(time)

    async def rpc(self, body: str) -> str:
        """Answer one JSON-RPC request."""
        if self._client is None or self._lost.is_set():
            raise engine_gone()
        try:
            response = await self._client.post(
                "/", content=body, headers={"content-type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise engine_gone() from error
        return response.text

    async def memory(self) -> int:
        """Return anvil's resident memory in bytes (Linux; 0 elsewhere)."""
        if self._process is None:
            raise engine_gone()
        with contextlib.suppress(OSError, IndexError, ValueError):
            keeper = self._process.pid
            child = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
            return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * 4096
        return 0

    async def close(self) -> None:
        """End anvil."""
        if self._client is not None:
            await self._client.aclose()
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
            await self._drain

    async def _post(self, method: str, *params: Any) -> dict[str, Any]:
        self._next += 1
        body = json.dumps({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        answer: dict[str, Any] = json.loads(await self.rpc(body))
        return answer

    async def _result(self, method: str, *params: Any) -> Any:
        answer = await self._post(method, *params)
        if "error" in answer:
            raise engine_fault(str(answer["error"].get("message", "no message")))
        return answer["result"]

    async def _head(self) -> Header:
        return Header.from_rpc(await self._result("eth_getBlockByNumber", "latest", False))
