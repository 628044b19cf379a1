"""The pump: sends what the outbox holds, and follows it to its end.

Invariants:
    - It acts only on what the chain vouches for: a verified acknowledgement or a receipt for inclusion, a final
      checkpoint over that very block for finality. Silence changes nothing.
    - It is idempotent: two pumps on one outbox, or one that is killed anywhere, send the same bytes again.
    - A call that can never be taken gets its nonce filled with an empty call to its own sender, so that later calls
      of the sender don't wait for ever.
    - If a block that held a call is replaced (a chain of validators without finality), the call goes back to QUEUED,
      is sent again, and `alerts` counts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ledger.client.outbox import FILLER_GAS, Outbox
from ledger.client.ports import LedgerChain, Place, Signer
from ledger.client.submission import State, Submission
from protocol.errors import ConcordatError, LedgerError, Unavailable

BATCH = 200

_EVERYBODY_STOPS = frozenset({"LEDGER_HALTED", "LEDGER_FORKED"})

_ELSEWHERE = Place(-1, b"")
"""The place of a nonce that another transaction used."""

Decode = Callable[[bytes], str]
"""Revert data to a stable code, such as ``LEDGER_OVER_CAPACITY``."""


class Pump:
    """Works on one outbox with one chain."""

    def __init__(
        self, outbox: Outbox, chain: LedgerChain, signers: Mapping[bytes, Signer], decode: Decode
    ) -> None:
        """Connect the parts.

        Args:
            outbox: what to send.
            chain: where to.
            signers: by address; only for filling nonces.
            decode: turns a contract's revert data into a code.
        """
        self._outbox = outbox
        self._chain = chain
        self._signers = signers
        self._decode = decode
        self.alerts = 0
        self.problem: ConcordatError | None = None
        self._worked = False

    @property
    def fresh(self) -> bool:
        """Whether the last pass met a chain and a checkpoint that can be relied on."""
        return self._worked and self.problem is None

    def work(self) -> int:
        """Do one pass; return how many calls took a step.

        What can't be reached leaves its calls as they are and is kept in `problem`.
        """
        self.problem, self._worked = None, True
        moved, waiting = 0, set[bytes]()
        for call in self._outbox.open(BATCH):
            try:
                if call.state is State.INCLUDED:
                    moved += self._follow(call)
                elif call.sender not in waiting:
                    moved += self._send(call)
            except ConcordatError as error:
                self.problem = error
                if error.code in _EVERYBODY_STOPS:
                    return moved  # everybody stops; nothing is sent, nothing is believed
                waiting.add(call.sender)  # its later nonces would only meet a gap
        for call, filler in self._outbox.unfilled(BATCH):
            try:
                self._fill(call, filler)
            except ConcordatError as error:
                self.problem = error
        return moved

    def wait(self, key: str, seconds: float, pause: float = 0.1) -> Submission:
        """Work until a call has come to its end, or until the time is over; return it as it then is.

        Raises:
            LedgerError: ``OUTBOX_UNKNOWN``.
        """
        end = time.monotonic() + seconds
        while True:
            self.work()
            call = self._outbox.get(key)
            halted = self.problem is not None and self.problem.code in _EVERYBODY_STOPS
            if call.state in (State.FINAL, State.REFUSED) or halted or time.monotonic() >= end:
                return call
            time.sleep(pause)

    def _send(self, call: Submission) -> int:
        self._outbox.sent(call.key)
        try:
            place = self._chain.send(call.raw)
        except LedgerError as error:
            return self._turned_away(call, error)
        if place is None:
            receipt = self._chain.receipt(call.hash)
            place = None if receipt is None else receipt.place
        if place is None:
            return 0
        self._include(call, place)
        return 1

    def _turned_away(self, call: Submission, error: LedgerError) -> int:
        if error.code == "TX_NONCE_GAP":
            raise Unavailable("OUTBOX_EARLIER", "An earlier call of this sender must go first.") from error
        if error.code == "TX_NONCE_USED":
            # Somebody else sends with this key. What became of this call only its receipt can tell.
            receipt = self._chain.receipt(call.hash)
            if receipt is not None:
                self._include(call, receipt.place)
                return 1
            self._outbox.move(call.key, State.REFUSED, _ELSEWHERE, False, error.code)
            return 1
        if not error.code.startswith("TX_"):
            raise error
        self._outbox.move(call.key, State.REFUSED, None, False, error.code)
        return 1

    def _include(self, call: Submission, place: Place) -> None:
        receipt = self._chain.receipt(call.hash)
        if receipt is None or receipt.place != place:
            raise Unavailable(
                "RECEIPT_MISSING", "The chain vouches for a call whose receipt it does not show."
            )
        refusal = "" if receipt.succeeded else self._decode(self._chain.revert_data(call.hash))
        self._outbox.move(call.key, State.INCLUDED, place, receipt.succeeded, refusal)

    def _follow(self, call: Submission) -> int:
        place = Place(call.block if call.block is not None else -1, call.block_hash)
        receipt = self._chain.receipt(call.hash)
        if receipt is None or receipt.place != place:
            self.alerts += 1
            self._outbox.move(call.key, State.QUEUED)
            return 1
        if not self._chain.is_final(place):
            return 0
        self._outbox.move(call.key, State.FINAL, place, call.succeeded, call.refusal)
        return 1

    def _fill(self, call: Submission, filler: bytes) -> None:
        if not filler:
            signer = self._signers.get(call.sender)
            if signer is None:
                return
            filler = signer.sign(call.nonce, call.sender, b"", FILLER_GAS)
            self._outbox.store_filler(call.key, filler)
        try:
            place = self._chain.send(filler)
        except LedgerError as error:
            if error.code != "TX_NONCE_USED":
                raise
            place = _ELSEWHERE
        if place is not None:
            self._outbox.move(call.key, State.REFUSED, place, False, call.refusal)
