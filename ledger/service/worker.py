"""The worker: sends, follows, tells. One pass is `tick`; what can't be reached waits for the next one.

Invariants: a request is DONE only when its call, or the nonce of its statement, stands under a final block; the other
party's word is taken for a refusal only, and a refusal gives nobody anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger.abi import decode_refusal
from ledger.client.submission import State, Submission
from ledger.dossier import Dossier
from ledger.index import tables
from ledger.index.following import Follower, Happened
from ledger.service import statements
from ledger.service.answering import kept_of, purpose_of
from ledger.service.desk import Desk
from ledger.service.tray import DECLINED, IN, OPEN, OUT, REFUSED, SENT, Request
from ledger.service.words import told
from ledger.webhooks import Deliveries
from protocol.errors import ConcordatError, LedgerError

BUSY, IDLE = 0.25, 1.0
"""Seconds between passes while something is on its way, and otherwise."""

_TELL_AGAIN = 5.0


class Worker:
    """Works for one service."""

    def __init__(
        self, desk: Desk, deliveries: Deliveries, clock: Callable[[], float] = time.monotonic
    ) -> None:
        kernel = desk.kernel
        self._desk, self._kernel, self._tray = desk, kernel, desk.tray
        self._deliveries = deliveries
        self._clock = clock
        self._tell_after = 0.0
        self.follower = Follower(kernel.engine, kernel.reader, kernel.where.contract, self._noted)
        self.problem: ConcordatError | None = None
        self.height = -1

    @property
    def fresh(self) -> bool:
        """Whether chain and checkpoint can be relied on."""
        return self.problem is None and self.height >= 0

    def tick(self) -> float:
        """Do one pass; return how many seconds to wait for the next."""
        sending = [call for call in self._kernel.outbox.open(200) if call.state is not State.FINAL]
        if sending:
            self._kernel.pump.work()
        try:
            self.height = self._kernel.chain.final_height()
            self.follower.follow(self.height)
            self.problem = None
        except ConcordatError as error:
            self.problem = error
        waiting = self._tray.under_way()
        for request in waiting:
            self._look_after(request)
        if self._clock() >= self._tell_after and not self._tell():
            self._tell_after = self._clock() + _TELL_AGAIN
        self._deliveries.work()
        return (
            BUSY if sending or any(each.state == SENT or each.direction == OUT for each in waiting) else IDLE
        )

    def _noted(self, db: Connection, event: Happened) -> None:
        """Note deliveries for events of receivables that this institution has a part in."""
        mine = sa.select(tables.receivables.c.claim).where(tables.receivables.c.claim == event.claim)
        if db.execute(mine).one_or_none() is not None:
            self._deliveries.note(db, event)

    def _look_after(self, request: Request) -> None:
        try:
            if request.state == SENT:
                self._finish(request)
            elif self._spent(request):
                self._done(request)
            elif not request.told:
                self._desk.deliver(request)
        except ConcordatError as error:
            self.problem = self.problem or error

    def _finish(self, request: Request) -> None:
        call = self._kernel.outbox.get(request.id)
        if call.state not in (State.FINAL, State.REFUSED):
            return
        if call.state is State.FINAL and call.succeeded:
            self._done(request)
            return
        self._tray.step(request.id, REFUSED, call.refusal, told(self._arguments(call)))
        if call.refusal == "LEDGER_TAG_TAKEN":
            for one in tags_of(self._desk, request):
                self._desk.anchoring.notice(one)

    def _arguments(self, call: Submission) -> dict[str, Any]:
        """Return a refusal's arguments, from the own node's trace."""
        if call.state is not State.FINAL:
            return {}
        return decode_refusal(self._kernel.chain.revert_data(call.hash)).arguments

    def _spent(self, request: Request) -> bool:
        """Return whether the nonce of an outgoing statement was used under a final block."""
        key = statements.key_of(statements.read_signer(request.content["signature"]))
        if request.kind == "settle-free":
            key = self._kernel.body(request.claim).owner
        nonce = statements.word(request.content["statement"]["nonce"], "nonce")
        return any(self._kernel.view("spentBy", key, nonce)[0])

    def _done(self, request: Request) -> None:
        minor = int(request.content.get("note", {}).get("minor", 0))
        mine = request.direction == OUT or request.kind == "credit-note"
        self._tray.finish(request.id, request.claim, minor if mine else 0)
        if request.direction == IN:
            self._retire_key(request)
        if request.direction == OUT and request.kind == "transfer":
            self._hand_over(request.claim)

    def _retire_key(self, request: Request) -> None:
        """Have the next introduction for the same purpose name a fresh key."""
        statement = request.content.get("statement", {})
        named = statement.get("holder", statement.get("counterparty"))
        if named is not None:
            purpose = purpose_of(request.peer, request.kind, request.claim)
            self._tray.used(purpose, kept_of(purpose, bytes.fromhex(named)))

    def _hand_over(self, claim: bytes) -> None:
        """A former owner keeps its dossier, and signs for it no more."""
        mine = self._tray.receivable(claim)
        self._tray.keep(claim, "former", mine.content, bytes.fromhex(mine.content["dossier"]["file"]))

    def _tell(self) -> bool:
        """Tell the asking parties how their requests ended; return whether all of them heard it."""
        heard = True
        for request in self._tray.untold():
            message = {
                "id": request.id,
                "state": request.state,
                "code": request.code,
                "detail": request.detail,
            }
            try:
                self._kernel.peers.ask(request.peer, "outcomes", message)
            except LedgerError:
                pass  # it knows no such request; there is nobody to tell
            except ConcordatError:
                heard = False
                continue
            self._tray.told(request.id)
        return heard

    def hear(self, peer: str, message: dict[str, Any]) -> None:
        """Take a peer's word that it refused or declined; that something was done, the chain must say.

        Raises:
            LedgerError: ``REQUEST_UNKNOWN``.
        """
        request = self._tray.request(str(message.get("id", "")))
        if request.direction != OUT or request.peer != peer:
            raise LedgerError("REQUEST_UNKNOWN", "There is no such request.")
        state = message.get("state")
        if request.state == OPEN and state in (REFUSED, DECLINED):
            detail = message.get("detail")
            shown = told(detail) if isinstance(detail, dict) else {}
            self._tray.step(request.id, str(state), str(message.get("code", ""))[:80], shown)


def tags_of(desk: Desk, request: Request) -> list[bytes]:
    """Return the tags of a request's document, for a notice of a duplicate."""
    dossier = Dossier.from_json(request.content.get("dossier"))
    return [tag for one in desk.tags(dossier.invoice) for tag in one.tags]
