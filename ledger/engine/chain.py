"""A log and an engine as one chain: replay, and the step from one block to the next.

Invariants:
    - `extend` makes a record durable before the engine executes it. If the process dies in between, replay
      executes it; nobody was told of the block before.
    - Replay compares each block's parent with the hash that its record names, and the last block with the
      mark. Any difference raises ``REPLAY_DIFFERS``, and nothing is served.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak

from ledger.engine import records
from ledger.engine.anvil import AnvilEngine
from ledger.engine.edr import EdrEngine
from ledger.engine.genesis import Genesis
from ledger.engine.log import DurableLog
from ledger.engine.port import (
    MAX_BLOCK_TRANSACTIONS,
    Engine,
    Header,
    Refusal,
    engine_fault,
    engine_gone,
)
from ledger.engine.records import BlockRecord, GenesisRecord
from protocol.errors import ConcordatError, Unavailable

REPLAY_WINDOW = 128
"""Blocks under way in the engine during replay."""


def engine_of(genesis: Genesis) -> Engine:
    """Return a new engine of the genesis' kind."""
    return AnvilEngine() if genesis.engine == "anvil" else EdrEngine()


def differs(number: int, what: str) -> Unavailable:
    """Return the error for a replay that took another course than the first execution."""
    return Unavailable(
        "REPLAY_DIFFERS",
        f"Replaying block {number} gave another {what} than its record says.",
        "Log, genesis document or engine were changed. Restore them; a member's replica has the log.",
    )


class Chain:
    """The chain of one gateway or replica."""

    def __init__(self, genesis: Genesis, folder: Path, engine: Engine | None = None) -> None:
        """Open and verify the log.

        Raises:
            Unavailable: ``LOG_CORRUPT``, ``LOG_SHORTENED``.
        """
        self.genesis = genesis
        self.engine = engine or engine_of(genesis)
        self.log = DurableLog(folder)
        self._head: Header | None = None
        self._disk = ThreadPoolExecutor(1, "ledger-log")

    @property
    def head(self) -> Header:
        """The last block.

        Raises:
            Unavailable: ``ENGINE_GONE`` before `open`.
        """
        if self._head is None:
            raise engine_gone()
        return self._head

    async def open(self) -> Header:
        """Start the engine, replay the log and return the head. An empty log gets its genesis record.

        Raises:
            Unavailable: ``REPLAY_DIFFERS``, or as the engine.
        """
        first = await self.engine.start(self.genesis.chain)
        self._head = first
        expected = GenesisRecord(self.genesis.digest, first.hash)
        if not len(self.log):
            await self._write(records.encode(expected))
            self.log.mark(first.hash)
        if self.log.genesis() != expected:
            raise differs(0, "genesis")
        marked_size, marked_hash = self.log.marked_head or (0, b"")
        for chunk in self.log.blocks(chunk=REPLAY_WINDOW):
            sealed = await asyncio.gather(*(self.engine.replay(each.time, each.raws) for each in chunk))
            for record, header in zip(chunk, sealed, strict=True):
                self._advance(record, header)
                if header.number == marked_size - 1 and header.hash != marked_hash:
                    raise differs(header.number, "hash")
        return self.head

    async def header(self, number: int) -> Header:
        """Return the header of a block.

        Raises:
            Unavailable: ``ENGINE_FAULT`` if there is no such block.
        """
        block = await self.ask("eth_getBlockByNumber", hex(number), False)
        if block is None:
            raise engine_fault("a block is missing")
        return Header.from_rpc(block)

    async def deploy(self, time: int) -> None:
        """Execute what is missing of the genesis document's deployments, and check the code that they leave.

        Raises:
            Unavailable: ``GENESIS_DEPLOYMENT``.
        """
        raws = self.genesis.deployments
        chunks = [
            raws[at : at + MAX_BLOCK_TRANSACTIONS] for at in range(0, len(raws), MAX_BLOCK_TRANSACTIONS)
        ]
        for chunk in chunks[len(self.log) - 1 :]:
            if any(
                isinstance(each, Refusal)
                for each in await self.engine.admit(chunk, [b"deployer"] * len(chunk))
            ):
                raise _deployment("the engine refuses a deployment transaction")
            await self.extend(chunk, max(time, self.head.time))
        await self.check_contracts()

    async def check_contracts(self) -> None:
        """Compare the deployed code with the genesis document.

        Raises:
            Unavailable: ``GENESIS_DEPLOYMENT``.
        """
        for contract in self.genesis.contracts:
            code = await self.ask("eth_getCode", "0x" + contract.address.hex(), "latest")
            if keccak(bytes.fromhex(code[2:])) != contract.code_hash:
                raise _deployment(f"the code of {contract.name} has another hash")

    async def extend(self, raws: Sequence[bytes], time: int) -> Header:
        """Log and execute what the engine has just admitted.

        Raises:
            Unavailable: ``LOG_WRITE``, ``ENGINE_FAULT``, ``ENGINE_GONE``; the process must then stop.
        """
        record = BlockRecord(self.head.number + 1, time, self.head.hash, tuple(raws))
        await self._write(records.encode(record))
        header = await self.engine.seal(time)
        self._advance(record, header)
        self.log.mark(header.hash)
        return header

    async def follow(self, body: bytes) -> Header:
        """Execute, check and log a record of another party's log (a replica's step).

        A replica acknowledges nothing, so it logs only what it could execute; a record that it can't never gets into
        its own log, and it can start again and show its evidence.

        Raises:
            Unavailable: ``REPLAY_DIFFERS``, or as `extend`.
            ProtocolError: ``RECORD_MALFORMED``.
        """
        record = records.decode(body)
        if not isinstance(record, BlockRecord):
            raise records.malformed()
        if record.number != self.head.number + 1 or record.parent != self.head.hash:
            raise differs(self.head.number, "hash")
        header = await self.engine.replay(record.time, record.raws)
        self._check(record, header)
        await self._write(body)
        self._head = header
        self.log.mark(header.hash)
        return header

    async def ask(self, method: str, *params: Any) -> Any:
        """Return the result of a JSON-RPC read.

        Raises:
            Unavailable: ``ENGINE_FAULT`` if the engine answers with an error.
        """
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = json.loads(await self.engine.rpc(body))
        if "error" in answer:
            raise Unavailable("ENGINE_FAULT", f"The engine refused to answer {method}.")
        return answer["result"]

    async def _write(self, body: bytes) -> None:
        # fsync takes milliseconds; reads go on meanwhile. One thread, so writes keep their order.
        await asyncio.get_running_loop().run_in_executor(self._disk, self.log.append, body)

    def _advance(self, record: BlockRecord, header: Header) -> None:
        self._check(record, header)
        self._head = header

    def _check(self, record: BlockRecord, header: Header) -> None:
        before = self.head
        if record.number != header.number or header.number != before.number + 1:
            raise differs(record.number, "number")
        if record.parent != before.hash or header.parent != before.hash:
            raise differs(before.number, "hash")
        if record.time != header.time or record.time < before.time:
            raise differs(record.number, "time")
        if len(header.transactions) != len(record.raws):
            raise differs(record.number, "number of transactions")

    async def close(self) -> None:
        """End the engine and close the log."""
        await self.engine.close()
        self._disk.shutdown()
        self.log.close()


def _deployment(cause: str) -> ConcordatError:
    return Unavailable(
        "GENESIS_DEPLOYMENT",
        f"The genesis document's contracts can't be deployed: {cause}.",
        "Build the genesis document again from the committed artifacts.",
    )
