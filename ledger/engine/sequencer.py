"""The one who orders: waiting transactions become blocks of up to 50, each durable before it is executed.

Invariants:
    - Nonces: a transaction enters a block only with its sender's next nonce, so the engine's pool never holds
      one that can't be executed now.
    - A transaction is answered only after its block is durable *and* executed. Sent again, it gets the same
      answer.
    - The queue is bounded; beyond that a sender is told to wait (``LEDGER_BUSY``), nothing is dropped
      silently.
    - A failing log or engine stops the sequencer for good: everything waiting fails as ``LEDGER_STOPPED``,
      whose meaning for the sender is "unknown, ask again".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from ledger.engine.acknowledgement import Acknowledgement
from ledger.engine.chain import Chain
from ledger.engine.port import MAX_BLOCK_TRANSACTIONS, Header, Refusal
from ledger.engine.transactions import Transaction, parse
from protocol.errors import ConcordatError, LedgerError, Unavailable

QUEUE = 2_000
"""Transactions that may wait."""

PATIENCE = 2.0
"""Seconds that a transaction waits for the nonce before it."""

_SENDERS = 100_000


@dataclass(frozen=True)
class _Waiting:
    transaction: Transaction
    answer: asyncio.Future[Acknowledgement]
    until: float


class Sequencer:
    """Orders transactions on a chain."""

    def __init__(self, chain: Chain, clock: Callable[[], float]) -> None:
        self.chain = chain
        self._clock = clock
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(QUEUE)
        self._early: deque[_Waiting] = deque()
        self._under_way: dict[bytes, asyncio.Future[Acknowledgement]] = {}
        self._nonces: OrderedDict[bytes, int] = OrderedDict()
        self._stopped: ConcordatError | None = None
        self._ready = False

    @property
    def waiting(self) -> int:
        """Transactions not yet in a block."""
        return self._queue.qsize() + len(self._early)

    @property
    def stopped(self) -> ConcordatError | None:
        """Why the sequencer stopped, or None."""
        return self._stopped

    async def submit(self, raw: bytes) -> Acknowledgement:
        """Take a raw transaction, and return once it is durable and executed.

        Raises:
            LedgerError: a code of `transactions.parse`, ``TX_NONCE_USED``, ``TX_NONCE_GAP``, ``TX_REFUSED``.
            Unavailable: ``LEDGER_BUSY`` and ``LEDGER_CLOCK`` (not taken), ``LEDGER_STOPPED`` (unknown).
        """
        self._check_running()
        self._check_clock()
        transaction = parse(raw, self.chain.genesis.chain.chain_id)
        known = self._under_way.get(transaction.hash)
        if known is None:
            loop = asyncio.get_running_loop()
            known = loop.create_future()
            try:
                self._queue.put_nowait(_Waiting(transaction, known, loop.time() + PATIENCE))
            except asyncio.QueueFull:
                raise Unavailable(
                    "LEDGER_BUSY",
                    "Too many transactions wait; this one was not taken.",
                    "Send it again later.",
                ) from None
            self._under_way[transaction.hash] = known
            known.add_done_callback(lambda done: self._settled(transaction.hash, done))
        # Shielded: a client that hangs up does not take its transaction back, nor anybody else's answer.
        return await asyncio.shield(known)

    async def find(self, transaction: bytes) -> Acknowledgement:
        """Return the acknowledgement of a transaction that is in a block.

        Raises:
            LedgerError: ``TX_UNKNOWN``.
        """
        receipt = await self.chain.ask("eth_getTransactionReceipt", "0x" + transaction.hex())
        if receipt is None:
            raise LedgerError("TX_UNKNOWN", "No such transaction is in the ledger.")
        return self._acknowledge(transaction, await self.chain.header(int(receipt["blockNumber"], 16)))

    async def run(self) -> None:
        """Make blocks until cancelled or until log or engine fail.

        Raises:
            ConcordatError: what made it fail.
        """
        try:
            while True:
                await self._round()
        except ConcordatError as error:
            self._stopped = error
            raise
        finally:
            self._stopped = self._stopped or Unavailable("LEDGER_STOPPED", "The gateway is stopping.")
            for waiting in self._drain():
                if not waiting.answer.done():
                    waiting.answer.set_exception(_stopped())
            for answer in list(self._under_way.values()):
                if not answer.done():
                    answer.set_exception(_stopped())

    def _settled(self, transaction: bytes, done: asyncio.Future[Acknowledgement]) -> None:
        self._under_way.pop(transaction, None)
        if not done.cancelled():
            done.exception()  # looked at, also when nobody waits any more

    def _check_clock(self) -> None:
        # Times never decrease; a clock that fell behind the last block would make members refuse the next one.
        if self.chain.head.time - self._clock() > self.chain.genesis.clock_tolerance / 3:
            raise Unavailable(
                "LEDGER_CLOCK", "This machine's clock lies behind the last block.", "Set the clock right."
            )

    def _check_running(self) -> None:
        if self._stopped is not None:
            raise _stopped()

    def _drain(self) -> list[_Waiting]:
        taken = []
        while (waiting := self._next()) is not None:
            taken.append(waiting)
        return taken

    async def _round(self) -> None:
        if not self._ready:
            timeout = 0.05 if self._early else None
            with contextlib.suppress(TimeoutError):
                self._early.append(await asyncio.wait_for(self._queue.get(), timeout))
        batch = await self._choose()
        self._ready = len(batch) == MAX_BLOCK_TRANSACTIONS and bool(self._early)
        if not batch:
            return
        verdicts = await self.chain.engine.admit(
            [each.transaction.raw for each in batch], [each.transaction.sender for each in batch]
        )
        taken: list[_Waiting] = []
        for waiting, verdict in zip(batch, verdicts, strict=True):
            if isinstance(verdict, Refusal):
                self._nonces.pop(waiting.transaction.sender, None)
                self._fail(waiting, LedgerError("TX_REFUSED", f"The engine refuses: {verdict.reason}"))
            else:
                taken.append(waiting)
        if not taken:
            return
        time = max(int(self._clock()), self.chain.head.time)
        header = await self.chain.extend([each.transaction.raw for each in taken], time)
        for waiting in taken:
            if not waiting.answer.done():
                waiting.answer.set_result(self._acknowledge(waiting.transaction.hash, header))

    def _next(self) -> _Waiting | None:
        if self._early:
            return self._early.popleft()
        try:
            return self._queue.get_nowait()
        except asyncio.QueueEmpty:
            return None

    async def _choose(self) -> list[_Waiting]:
        """Return up to 50 transactions that have their senders' next nonces, first come first served."""
        chosen: list[_Waiting] = []
        ahead: dict[tuple[bytes, int], _Waiting] = {}
        now = asyncio.get_running_loop().time()
        while len(chosen) < MAX_BLOCK_TRANSACTIONS and (waiting := self._next()) is not None:
            sender = waiting.transaction.sender
            expected = await self._next_nonce(sender)
            if waiting.transaction.nonce < expected:
                await self._repeat(waiting)
                continue
            if waiting.transaction.nonce > expected:
                rival = ahead.pop((sender, waiting.transaction.nonce), None)
                if rival is not None:
                    self._fail(rival, _gap())
                ahead[sender, waiting.transaction.nonce] = waiting
                continue
            following: _Waiting | None = waiting
            while following is not None and len(chosen) < MAX_BLOCK_TRANSACTIONS:
                chosen.append(following)
                expected += 1
                following = ahead.pop((sender, expected), None)
            self._nonces[sender] = expected
            if following is not None:
                ahead[sender, expected] = following
        for waiting in ahead.values():
            if now < waiting.until or len(chosen) == MAX_BLOCK_TRANSACTIONS:
                self._early.append(waiting)
            else:
                self._fail(waiting, _gap())
        return chosen

    async def _next_nonce(self, sender: bytes) -> int:
        if sender not in self._nonces:
            count = await self.chain.ask("eth_getTransactionCount", "0x" + sender.hex(), "latest")
            self._nonces[sender] = int(count, 16)
            if len(self._nonces) > _SENDERS:
                self._nonces.popitem(last=False)
        self._nonces.move_to_end(sender)
        return self._nonces[sender]

    async def _repeat(self, waiting: _Waiting) -> None:
        try:
            found = await self.find(waiting.transaction.hash)
        except LedgerError:
            self._fail(waiting, LedgerError("TX_NONCE_USED", "Another transaction used this nonce."))
        else:
            if not waiting.answer.done():
                waiting.answer.set_result(found)

    @staticmethod
    def _fail(waiting: _Waiting, error: ConcordatError) -> None:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    def _acknowledge(self, transaction: bytes, header: Header) -> Acknowledgement:
        genesis = self.chain.genesis
        return Acknowledgement(
            consortium=genesis.consortium.hex(),
            chain_id=genesis.chain.chain_id,
            transaction=transaction,
            log_index=header.number,
            position=header.transactions.index(transaction),
            block_hash=header.hash,
            block_time=header.time,
        )


def _gap() -> LedgerError:
    return LedgerError("TX_NONCE_GAP", "A transaction of this sender with an earlier nonce is missing.")


def _stopped() -> Unavailable:
    return Unavailable(
        "LEDGER_STOPPED",
        "The gateway has stopped; whether the transaction became durable is not known here.",
        "Ask for its receipt after the restart, and send the same bytes again if there is none.",
    )
