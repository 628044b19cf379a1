"""What the ledger demands of an execution engine.

Invariants that every engine behind this port keeps:
    - Same parameters and same sequence of (time, transactions) give the same block hashes, in any process.
    - `admit` only validates; nothing executes before `seal`. A refused transaction leaves no trace.
    - A sealed block holds exactly the admitted transactions, in the order of admission.
    - The engine owns no key and no durable state; it dies with the process that started it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from protocol.errors import Unavailable

MAX_BLOCK_TRANSACTIONS = 50
"""Transactions in a block."""

TRANSACTION_GAS = 1 << 24
"""Gas limit of one transaction (the cap of EIP-7825)."""

BLOCK_GAS = 1 << 31
"""Gas limit of a block. 50 transactions use at most 50 · 2^24 < 2^30, which is EIP-1559's target (half the limit),
so the base fee, zero at genesis, can never rise."""

HARDFORKS = ("prague",)
"""Rule sets a genesis may name."""


@dataclass(frozen=True)
class ChainParameters:
    """What determines the genesis block.

    Attributes:
        chain_id: random, below 2^53.
        genesis_time: Unix time in seconds of block 0.
        hardfork: one of `HARDFORKS`.
    """

    chain_id: int
    genesis_time: int
    hardfork: str = "prague"


@dataclass(frozen=True)
class Header:
    """A sealed block, as far as the ledger needs it.

    Attributes:
        number: height, 0 for genesis.
        time: Unix seconds.
        hash: block hash, 32 bytes.
        parent: hash of the block before, 32 bytes.
        state_root: 32 bytes.
        transactions: hashes in order, 32 bytes each.
    """

    number: int
    time: int
    hash: bytes
    parent: bytes
    state_root: bytes
    transactions: tuple[bytes, ...]

    @classmethod
    def from_rpc(cls, block: dict[str, Any]) -> Header:
        """Read the header fields of a JSON-RPC block object (hexadecimal quantities)."""
        return cls(
            number=int(block["number"], 16),
            time=int(block["timestamp"], 16),
            hash=bytes.fromhex(block["hash"][2:]),
            parent=bytes.fromhex(block["parentHash"][2:]),
            state_root=bytes.fromhex(block["stateRoot"][2:]),
            transactions=tuple(bytes.fromhex(each[2:]) for each in block["transactions"]),
        )


@dataclass(frozen=True)
class Refusal:
    """Why an engine did not admit a transaction."""

    reason: str


def engine_fault(reason: str) -> Unavailable:
    """Return the error for an engine that broke an invariant; the process that uses it must stop."""
    return Unavailable(
        "ENGINE_FAULT",
        f"The execution engine failed: {reason}",
        "Restart the gateway; the log is intact. If replay meets the same fault, keep the log and report it.",
    )


def engine_gone() -> Unavailable:
    """Return the error for an engine that died."""
    return Unavailable(
        "ENGINE_GONE",
        "The execution engine has ended; nothing unacknowledged counts.",
        "Restart the gateway: it replays its log and goes on at the same head.",
    )


class Engine(Protocol):
    """An execution engine; see the module for the invariants."""

    name: str

    async def start(self, chain: ChainParameters) -> Header:
        """Create the chain in memory and return block 0."""
        ...

    async def admit(self, raws: Sequence[bytes], senders: Sequence[bytes]) -> list[bytes | Refusal]:
        """Validate transactions into the pool, in order; return each one's hash, or why it was refused.

        After a refusal the sender's later transactions are refused too: they would wait for the missing
        nonce.
        """
        ...

    async def seal(self, time: int) -> Header:
        """Execute what was admitted as one block with this time.

        Raises:
            Unavailable: ``ENGINE_FAULT``.
        """
        ...

    async def replay(self, time: int, raws: Sequence[bytes]) -> Header:
        """Admit and seal in one step; any refusal is a fault.

        Raises:
            Unavailable: ``ENGINE_FAULT``.
        """
        ...

    async def rpc(self, body: str) -> str:
        """Answer one JSON-RPC request; both sides are JSON text. Reads only: the caller has an allowlist."""
        ...

    async def memory(self) -> int:
        """Return the engine's resident memory in bytes."""
        ...

    @property
    def lost(self) -> asyncio.Event:
        """Set once the engine has died."""
        ...

    async def close(self) -> None:
        """End the engine."""
        ...
