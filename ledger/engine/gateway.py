"""The ledger's doors: JSON-RPC, log and checkpoints over HTTP, for the operator and for members.

Invariants:
    - Only what `rpc`'s table allows reaches the engine.
    - Without TLS it listens on the loopback interface only. Requests from a web page (an ``Origin`` header)
      and requests for another host name (DNS rebinding) are refused.
    - If log or engine fail, the process ends: it never answers from a state that it can't vouch for.

What each party learns: everybody who may connect can read the whole chain and log. Not protected:
availability.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.base import RequestResponseEndpoint

from ledger.engine import rpc
from ledger.engine.acknowledgement import Acknowledgement
from ledger.engine.chain import Chain
from ledger.engine.checkpoints import Book
from ledger.engine.publishing import Publisher
from ledger.engine.sequencer import Sequencer
from protocol.errors import ConcordatError, LedgerError, ProtocolError
from protocol.keys import IdentityKey

MAX_BODY = 8 << 20
"""Bytes of one request."""

MAX_RECORDS = 500
"""Records in one answer to a replica."""

MAX_CHECKPOINTS = 50
"""Checkpoints in one answer."""


class Reader:
    """Answers JSON-RPC reads from a chain; what writes is refused."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        # An engine answers one request after the other. Of what may take long, one at a time is let through, so that
        # the next block waits for at most one of them.
        self._long = asyncio.Semaphore(1)

    async def answer(self, body: bytes) -> str:
        """Answer an HTTP body of JSON-RPC."""
        try:
            requests, batch = rpc.decode(body)
        except ConcordatError as error:
            return json.dumps(rpc.failure(None, error))
        answers = await asyncio.gather(*(self._one(request) for request in requests))
        return "[" + ",".join(answers) + "]" if batch else answers[0]

    async def _one(self, request: Any) -> str:
        identifier = request.get("id") if isinstance(request, dict) else None
        try:
            call = rpc.admit(request, self.chain.head.number)
            if call.method in rpc.LONG:
                async with self._long:
                    return await self._answered(call)
            return await self._answered(call)
        except ConcordatError as error:
            return json.dumps(rpc.failure(identifier, error))

    async def _answered(self, call: rpc.Call) -> str:
        if call.method in rpc.FORWARDED:
            return await self.chain.engine.rpc(call.body)
        return json.dumps({"jsonrpc": "2.0", "id": call.id, "result": await self._own(call)})

    async def _own(self, call: rpc.Call) -> Any:
        if call.method in rpc.CONSTANTS:
            return rpc.CONSTANTS[call.method]
        if call.method == "concordat_getRevertData":
            return await self._revert_data(rpc.raw_bytes(call.params[0], 32))
        raise LedgerError(
            "RPC_NOT_ALLOWED", "This party answers reads only.", "Send to the operator's gateway."
        )

    async def _revert_data(self, transaction: bytes) -> str:
        """Return what a refused call returned: the contract's custom error, from a trace without its bulk."""
        options = {"disableStorage": True, "disableMemory": True, "disableStack": True}
        if await self.chain.ask("eth_getTransactionReceipt", "0x" + transaction.hex()) is None:
            raise LedgerError("TX_UNKNOWN", "No such transaction is in the ledger.")
        trace = await self.chain.ask("debug_traceTransaction", "0x" + transaction.hex(), options)
        return "0x" + str(trace.get("returnValue", "")).removeprefix("0x")


class Gateway(Reader):
    """The operator's door: it also takes transactions and shows checkpoints."""

    def __init__(self, sequencer: Sequencer, publisher: Publisher, identity: IdentityKey) -> None:
        super().__init__(sequencer.chain)
        self.sequencer = sequencer
        self.publisher = publisher
        self._identity = identity

    async def _own(self, call: rpc.Call) -> Any:
        if call.method == "eth_sendRawTransaction":
            found = await self.sequencer.submit(rpc.raw_bytes(call.params[0]))
            return "0x" + found.transaction.hex()
        if call.method == "concordat_sendRawTransaction":
            return self._signed(await self.sequencer.submit(rpc.raw_bytes(call.params[0])))
        if call.method == "concordat_getAcknowledgement":
            return self._signed(await self.sequencer.find(rpc.raw_bytes(call.params[0], 32)))
        return await super()._own(call)

    def _signed(self, acknowledgement: Acknowledgement) -> dict[str, Any]:
        return acknowledgement.sign(self._identity)

    def health(self) -> dict[str, Any]:
        """Return what an operator watches."""
        stopped, head = self.sequencer.stopped, self.chain.head
        return {
            "status": "stopped" if stopped else "ok",
            "reason": stopped.code if stopped else "",
            "engine": self.chain.engine.name,
            "consortium": self.chain.genesis.consortium.hex(),
            "chainId": self.chain.genesis.chain.chain_id,
            "head": {"number": head.number, "hash": "0x" + head.hash.hex(), "time": head.time},
            "records": len(self.chain.log),
            "checkpoint": self.publisher.book.tip[0],
            "waiting": self.sequencer.waiting,
        }


class Served(Protocol):
    """What both doors, the operator's and a member's, have in common."""

    chain: Chain

    async def answer(self, body: bytes) -> str:
        """Answer JSON-RPC."""
        ...

    def health(self) -> dict[str, Any]:
        """Return what an operator watches; ``status`` is "ok" if all is well."""
        ...


def door(served: Served, book: Book, newest: Callable[[], str], hosts: frozenset[str]) -> FastAPI:
    """Return the HTTP application that operator and members share.

    Args:
        served: answers JSON-RPC and health.
        book: the checkpoints of the party.
        newest: returns its newest checkpoint, freshly timestamped.
        hosts: host names, without port, under which it may be addressed.
    """
    app = FastAPI(title="Concordat ledger", openapi_url=None)

    @app.middleware("http")
    async def check(request: Request, call_next: RequestResponseEndpoint) -> Response:
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
        if host not in hosts or "origin" in request.headers:
            return problem(ProtocolError("RPC_HOST", "This gateway is not addressed that way."))
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY or "transfer-encoding" in request.headers:
            return problem(ProtocolError("RPC_SIZE", "The request is too large, or doesn't say how large."))
        return await call_next(request)

    @app.exception_handler(ConcordatError)
    async def refuse(request: Request, error: ConcordatError) -> Response:
        return problem(error)

    @app.post("/")
    async def answer(request: Request) -> Response:
        return Response(await served.answer(await request.body()), media_type="application/json")

    @app.get("/health")
    async def health() -> Response:
        found = served.health()
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    @app.get("/log")
    async def log(start: int, count: int = MAX_RECORDS) -> Response:
        if start < 0 or not 1 <= count <= MAX_RECORDS:
            raise ProtocolError("LOG_RANGE", f"Ask for 1 to {MAX_RECORDS} records.")
        bodies = await asyncio.to_thread(served.chain.log.read, start, count)
        return Response(frames(bodies), media_type="application/octet-stream")

    @app.get("/checkpoint")
    async def checkpoint() -> Response:
        return Response(newest(), media_type="text/plain; charset=utf-8")

    @app.get("/checkpoints")
    async def checkpoints(after: int) -> Response:
        return JSONResponse([note.encode() for note in book.after(after, MAX_CHECKPOINTS)])

    return app


def frames(bodies: list[bytes]) -> bytes:
    """Join records, each behind its length in four big-endian bytes."""
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def problem(error: ConcordatError) -> Response:
    """Return an error as RFC 9457 problem+json."""
    return JSONResponse(error.problem(), status_code=error.http_status, media_type="application/problem+json")
