"""A member's door: reads from its own replica, its cosigned checkpoints, its evidence, what is final.

``GET /final`` is what a bank asks before it disburses. It fails closed: 409 after evidence, 503 while nothing is
final, while a peer has seen an older block that this member lacks, or when more than two thirds have not spoken for
longer than the tolerance.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from ledger.engine.gateway import Reader, door
from ledger.engine.replica import Replica
from protocol.errors import Unavailable


class MemberDoor(Reader):
    """What a member's routes do, apart from HTTP."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.chain)
        self.replica = replica
        self.witness = replica.witness

    def health(self) -> dict[str, Any]:
        """Return what the member's operator watches."""
        return self.replica.health()

    def final(self) -> dict[str, Any]:
        """Return the newest final checkpoint, if it may be relied on now.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: ``NOT_FINAL``, ``LEDGER_BEHIND``, ``LEDGER_STALE``.
        """
        found = self.witness.final()
        if found.behind:
            raise Unavailable("LEDGER_BEHIND", "Another member has seen a block that this one has not.")
        if found.as_of < self.witness.now - self.chain.genesis.clock_tolerance:
            raise Unavailable(
                "LEDGER_STALE", "The members' last words on this ledger are too old to rely on."
            )
        return {"note": found.note.encode(), "size": found.size, "asOf": found.as_of}


def member_application(served: MemberDoor, hosts: frozenset[str]) -> FastAPI:
    """Return the HTTP application of a member."""
    book = served.witness.book
    app = door(served, book, served.witness.latest, hosts)

    @app.get("/evidence")
    async def evidence() -> Response:
        return JSONResponse([each.to_json() for each in book.evidence()])

    @app.get("/final")
    async def final() -> Response:
        return JSONResponse(served.final())

    return app
