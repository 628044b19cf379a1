"""The sequencer on a chain that only pretends: order, repetition, back-pressure, and stopping."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import coincurve
import pytest
from eth_hash.auto import keccak

from ledger.engine import sequencer as sequencing
from ledger.engine.acknowledgement import Acknowledgement
from ledger.engine.genesis import Genesis, Member, sign_legacy
from ledger.engine.port import ChainParameters, Header, Refusal
from ledger.engine.sequencer import Sequencer
from protocol.errors import LedgerError, Unavailable
from protocol.keys import IdentityKey

CHAIN = 777
OPERATOR = Member("operator", IdentityKey.generate().public, IdentityKey.generate().public)
GENESIS = Genesis(
    b"\1" * 32, ChainParameters(CHAIN, 1000), "edr", OPERATOR, (OPERATOR,), (), (), 30, b"\2" * 32
)


class FakeEngine:
    def __init__(self) -> None:
        self.refused: set[bytes] = set()

    async def admit(self, raws: list[bytes], senders: list[bytes]) -> list[bytes | Refusal]:
        return [Refusal("no") if raw in self.refused else keccak(raw) for raw in raws]


class FakeChain:
    """Blocks as lists; nonces counted from them."""

    def __init__(self) -> None:
        self.genesis = GENESIS
        self.engine = FakeEngine()
        self.blocks: list[list[bytes]] = [[]]
        self.head = Header(0, 1000, bytes(32), bytes(32), bytes(32), ())
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.nonces: dict[str, int] = {}

    async def extend(self, raws: list[bytes], time: int) -> Header:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.blocks.append(list(raws))
        self.head = Header(
            len(self.blocks) - 1,
            time,
            keccak(b"".join(raws)),
            self.head.hash,
            bytes(32),
            tuple(map(keccak, raws)),
        )
        return self.head

    async def ask(self, method: str, *params: Any) -> Any:
        if method == "eth_getTransactionCount":
            return hex(self.nonces.get(params[0], 0))
        for number, raws in enumerate(self.blocks):
            if any("0x" + keccak(raw).hex() == params[0] for raw in raws):
                return {"blockNumber": hex(number)}
        return None

    async def header(self, number: int) -> Header:
        raws = self.blocks[number]
        return Header(number, 1000, keccak(b"".join(raws)), bytes(32), bytes(32), tuple(map(keccak, raws)))


class Key:
    def __init__(self) -> None:
        self.key = coincurve.PrivateKey()

    def raw(self, nonce: int, data: bytes = b"") -> bytes:
        return sign_legacy(self.key, CHAIN, nonce, b"\1" * 20, data, 100_000)


def played(scene: Callable[[FakeChain, Sequencer, list[float]], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        async def run() -> None:
            chain, now = FakeChain(), [1000.0]
            made = Sequencer(chain, lambda: now[0])  # type: ignore[arg-type]
            running = asyncio.create_task(made.run())
            try:
                await scene(chain, made, now)
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError, Unavailable):
                    await running

        asyncio.run(run())

    return test


@played
async def test_what_waits_together_becomes_one_block_of_at_most_fifty(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    chain.gate.clear()
    first = asyncio.create_task(made.submit(Key().raw(0)))
    await asyncio.sleep(0.01)
    key = Key()
    rest = [asyncio.create_task(made.submit(key.raw(nonce))) for nonce in range(120)]
    await asyncio.sleep(0.01)
    chain.gate.set()
    found = [await first, *[await each for each in rest]]
    assert [len(block) for block in chain.blocks[1:]] == [1, 50, 50, 20]
    assert [each.log_index for each in found] == [1] + [2] * 50 + [3] * 50 + [4] * 20
    assert [each.position for each in found[1:51]] == list(range(50))


@played
async def test_a_gap_waits_for_what_is_missing(chain: FakeChain, made: Sequencer, now: list[float]) -> None:
    key = Key()
    late = [asyncio.create_task(made.submit(key.raw(nonce))) for nonce in (3, 1, 2)]
    await asyncio.sleep(0.12)
    assert chain.blocks == [[]]
    await made.submit(key.raw(0))
    for each in late:
        assert isinstance(await each, Acknowledgement)
    assert [raw for block in chain.blocks for raw in block] == [key.raw(nonce) for nonce in range(4)]


@played
async def test_a_gap_that_nobody_fills_is_refused(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    patience, sequencing.PATIENCE = sequencing.PATIENCE, 0.1
    try:
        with pytest.raises(LedgerError, match=r"\[TX_NONCE_GAP\]"):
            await made.submit(Key().raw(1))
    finally:
        sequencing.PATIENCE = patience
    assert made.waiting == 0


@played
async def test_sent_again_it_gets_the_same_answer(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    key = Key()
    together = await asyncio.gather(*(made.submit(key.raw(0)) for _ in range(5)))
    assert len(set(together)) == 1
    assert await made.submit(key.raw(0)) == together[0]
    with pytest.raises(LedgerError, match=r"\[TX_NONCE_USED\]"):
        await made.submit(key.raw(0, b"another"))
    assert len(chain.blocks) == 2


@played
async def test_a_refused_transaction_leaves_its_nonce_free(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    key = Key()
    chain.engine.refused.add(key.raw(0))
    with pytest.raises(LedgerError, match=r"\[TX_REFUSED\]"):
        await made.submit(key.raw(0))
    assert chain.blocks == [[]]
    assert (await made.submit(key.raw(0, b"better"))).log_index == 1


@played
async def test_a_full_queue_turns_senders_away(chain: FakeChain, made: Sequencer, now: list[float]) -> None:
    chain.gate.clear()
    first = asyncio.create_task(made.submit(Key().raw(0)))
    await asyncio.sleep(0.01)
    made._queue = asyncio.Queue(3)
    key = Key()
    taken = [asyncio.create_task(made.submit(key.raw(nonce))) for nonce in range(3)]
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match=r"\[LEDGER_BUSY\]"):
        await made.submit(Key().raw(0))
    chain.gate.set()
    for each in (first, *taken):
        assert (await each).log_index in (1, 2)


@played
async def test_a_failing_log_stops_everything_and_says_unknown(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    chain.fault = Unavailable("LOG_WRITE", "disk")
    chain.gate.clear()
    first = asyncio.create_task(made.submit(Key().raw(0)))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(made.submit(Key().raw(0)))
    await asyncio.sleep(0.01)
    chain.gate.set()
    for each in (first, second):
        with pytest.raises(Unavailable, match=r"\[LEDGER_STOPPED\]"):
            await each
    with pytest.raises(Unavailable, match=r"\[LEDGER_STOPPED\]"):
        await made.submit(Key().raw(0))
    assert made.stopped is not None
    assert made.stopped.code == "LOG_WRITE"


@played
async def test_times_never_decrease_and_a_clock_far_behind_is_not_used(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    now[0] = 2000.0
    assert (await made.submit(Key().raw(0))).block_time == 2000
    now[0] = 1995.0
    assert (await made.submit(Key().raw(0))).block_time == 2000
    now[0] = 1980.0
    with pytest.raises(Unavailable, match=r"\[LEDGER_CLOCK\]"):
        await made.submit(Key().raw(0))
    assert len(chain.blocks) == 3


@played
async def test_a_client_that_hangs_up_takes_nothing_back(
    chain: FakeChain, made: Sequencer, now: list[float]
) -> None:
    chain.gate.clear()
    key = Key()
    gone = asyncio.create_task(made.submit(key.raw(0)))
    await asyncio.sleep(0.01)
    stays = asyncio.create_task(made.submit(key.raw(0)))
    await asyncio.sleep(0.01)
    gone.cancel()
    chain.gate.set()
    assert (await stays).log_index == 1
