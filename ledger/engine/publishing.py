"""The operator's side of checkpoints: compose, sign, publish, and say what time it is.

Invariants: the operator signs only extensions of the last checkpoint in its book, and refuses to start if its log
does not replay to that one (a log restored from an old backup). Each answer carries a fresh timestamp, by which
members notice a block that is withheld or dated back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.engine.chain import Chain
from ledger.engine.checkpoints import Book, compose
from protocol.checkpoint import Note, cosign, sign
from protocol.errors import Unavailable

INTERVAL = 0.5
"""Seconds between checkpoints while the log grows."""


class Publisher:
    """Makes and serves the operator's checkpoints."""

    def __init__(
        self,
        chain: Chain,
        book: Book,
        key: Ed25519PrivateKey,
        clock: Callable[[], float],
        interval: float = INTERVAL,
    ) -> None:
        self.book = book
        self._chain = chain
        self._key = key
        self._clock = clock
        self._interval = interval
        self._stamped: tuple[int, int, str] = (0, 0, "")

    async def open(self) -> None:
        """Compare the last checkpoint with the log, and sign what is new.

        Raises:
            Unavailable: ``CHECKPOINT_DIFFERS``.
        """
        last = self.book.last
        if last is not None:
            fits = last.size <= self._chain.head.number + 1
            if not fits or (await compose(self._chain, last.size, last.previous)).text != last.text:
                raise Unavailable(
                    "CHECKPOINT_DIFFERS",
                    "The log does not replay to the last checkpoint that this operator signed.",
                    "The log was replaced or shortened. Restore it from a member's replica; don't sign a second one.",
                )
        await self.extend()

    async def extend(self) -> None:
        """Sign a checkpoint if the log has grown."""
        (size, digest), now_size = self.book.tip, self._chain.head.number + 1
        if now_size > size:
            checkpoint = await compose(self._chain, now_size, digest)
            self.book.add(checkpoint, sign(checkpoint.text, checkpoint.origin, self._key))

    async def run(self) -> None:
        """Sign at intervals until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.extend()

    def latest(self) -> str:
        """Return the newest checkpoint with a timestamp of this second."""
        size, now = self.book.tip[0], int(self._clock())
        if self._stamped[:2] != (size, now):
            note = self.book.at(size)
            if note is None:
                raise Unavailable("CHECKPOINT_NONE", "There is no checkpoint yet.")
            stamp = cosign(note.text, self._chain.genesis.origin, self._key, now)
            self._stamped = (size, now, Note(note.text, (*note.signatures, stamp)).encode())
        return self._stamped[2]
