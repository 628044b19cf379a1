"""The service's door for programs: JSON over HTTP, errors as RFC 9457 problems with stable codes.

Invariants:
    - Two kinds of callers: the institution's own operator and systems (``/v1``, the operator's token) and peers
      (``/v1/peer``, the token that the pair shares). Neither token opens the other's routes.
    - A mutating route takes an ``Idempotency-Key`` where repeating it would act twice.
    - Nothing that a caller sent is quoted in an error, and nothing of a dossier is logged: of an unforeseen fault only
      its type and place are.
    - Requests for another host name, or with an ``Origin`` of another site, are refused before they are read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ledger import invoice
from ledger.commitments import FULL
from ledger.index.audit import audit
from ledger.service import statements, words
from ledger.service.runtime import Runtime
from ledger.service.tray import PAGE
from ledger.service.tray import Request as Asked
from ledger.signers import Role
from protocol.errors import ConcordatError, DataError, LedgerError, NotApproved

MAX_BODY = 4 << 20
"""Bytes of one request."""


Limit = Annotated[int, Query(ge=1, le=1_000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(_Body):
    """A document to register: the text of a JSON or CSV file, and the SHA-256 of the original file if there is one."""

    document: str = Field(max_length=1 << 20)
    source: str = Field(default="document", max_length=200)
    row: int = Field(default=1, ge=1, le=1_000_000)
    file: str = Field(default="", pattern="^([0-9a-f]{64})?$")


class Asking(_Body):
    """A request to another institution."""

    to: str = Field(max_length=40)
    share: float | None = Field(default=None, gt=0, le=100)
    amount: str | None = Field(default=None, max_length=30)


class Taking(_Body):
    """How a request is accepted."""

    share: float | None = Field(default=None, gt=0, le=100)


class Releasing(_Body):
    """Which lien is given up."""

    lien: str = Field(default="", pattern="^([0-9a-f]{64})?$")


class Crediting(_Body):
    """By how much the payable falls."""

    amount: str = Field(max_length=30)


def problem(error: ConcordatError) -> Response:
    """Return an error as an RFC 9457 problem."""
    return JSONResponse(error.problem(), status_code=error.http_status, media_type="application/problem+json")


def claim_id(text: str) -> bytes:
    """Return a claim's id from its hexadecimal digits.

    Raises:
        DataError: ``CLAIM_ID``.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise DataError("CLAIM_ID", "A claim is named by 64 hexadecimal digits.")
    return bytes.fromhex(text)


def ppm_of(share: float | None) -> int | None:
    """Return a share in per cent as parts per million."""
    return None if share is None else round(share * FULL / 100)


def request_json(asked: Asked) -> dict[str, Any]:
    """Return a request as callers see it; a refused one says why, in words and in numbers."""
    shown: dict[str, Any] = {
        "id": asked.id,
        "kind": asked.kind,
        "claim": asked.claim.hex(),
        "direction": asked.direction,
        "peer": asked.peer,
        "state": asked.state,
        "created_at": asked.created_at,
        "final": asked.state == "done",
    }
    statement = asked.content.get("statement", {})
    share = statement.get("maxPpm", statement.get("ppm"))
    if share is not None:
        shown["ppm"] = share
    minor = asked.content.get("note", {}).get("minor")
    if minor is not None:
        shown["minor"] = minor
    if asked.code:
        error = LedgerError(asked.code, words.refusal(asked.code, asked.detail)[0])
        shown["problem"] = {**error.problem(), "arguments": dict(asked.detail)}
        shown["words"] = {"zh-CN": words.refusal(asked.code, asked.detail)[1]}
    return shown


def application(runtime: Runtime) -> FastAPI:
    """Return the service's HTTP application; the page is mounted by the caller."""
    app = FastAPI(
        title="Concordat ledger service", openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None
    )
    app.state.runtime = runtime
    _guard(app, runtime)
    _operator_routes(app, runtime)
    _peer_routes(app, runtime)
    return app


def _guard(app: FastAPI, runtime: Runtime) -> None:
    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
        if host not in runtime.hosts:
            return problem(NotApproved("HOST", "This service is not addressed that way."))
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY or "transfer-encoding" in request.headers:
            return problem(DataError("REQUEST_SIZE", "The request is too large, or does not say how large."))
        try:
            return await call_next(request)
        except Exception as error:  # noqa: BLE001 - the outermost edge; a message could hold a cell of a document
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            fault = {"event": "fault", "type": type(error).__name__, "where": where}
            sys.stderr.write(json.dumps(fault) + "\n")
            return problem(ConcordatError("INTERNAL", f"a fault of the program ({type(error).__name__})"))

    @app.exception_handler(ConcordatError)
    async def refuse(request: Request, error: ConcordatError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = sorted(
            {".".join(str(part) for part in each["loc"][1:]) or "body" for each in error.errors()}
        )
        return problem(DataError("INPUT_INVALID", f"Missing, unknown or wrong: {', '.join(fields)}."))


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _peer(request: Request, authorization: Annotated[str, Header()] = "") -> str:
    runtime: Runtime = request.app.state.runtime
    return runtime.kernel.peers.who(_bearer(authorization))


Peer = Annotated[str, Depends(_peer)]
"""The peer that asks, by its token."""


def _operator_routes(app: FastAPI, runtime: Runtime) -> None:
    desk, answering, tray, kernel = runtime.desk, runtime.answering, runtime.tray, runtime.kernel

    def operator(authorization: Annotated[str, Header()] = "") -> None:
        given = hashlib.sha256(_bearer(authorization).encode()).digest()
        if not hmac.compare_digest(given, runtime.operator_digest):
            raise NotApproved("TOKEN", "This needs the operator's token.")

    own = [Depends(operator)]

    @app.get("/v1/health")
    def health() -> Response:
        found = runtime.health()
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    @app.post("/v1/receivables", dependencies=own, status_code=202)
    def register(body: Registration, idempotency_key: Annotated[str, Header()] = "") -> dict[str, Any]:
        read = invoice.read(body.document.encode(), body.source, body.row)
        claim = desk.register(read, bytes.fromhex(body.file), _own_key("register", idempotency_key))
        runtime.wake()
        return {"claim": claim.hex(), "state": "anchoring"}

    @app.get("/v1/receivables", dependencies=own)
    def receivables(limit: Limit = PAGE, offset: Offset = 0) -> list[dict[str, Any]]:
        return [desk.standing.summary(each) for each in tray.receivables(limit, offset)]

    @app.get("/v1/receivables/{claim}", dependencies=own)
    def receivable(claim: str) -> dict[str, Any]:
        found = desk.standing.describe(tray.receivable(claim_id(claim)))
        return {**found, "requests": [request_json(each) for each in tray.requests(claim_id(claim))]}

    @app.get("/v1/claims/{claim}", dependencies=own)
    def claim_status(claim: str) -> dict[str, Any]:
        return runtime.claim(claim_id(claim))

    @app.post("/v1/receivables/{claim}/requests/{kind}", dependencies=own, status_code=202)
    def ask(
        claim: str, kind: str, body: Asking, idempotency_key: Annotated[str, Header()] = ""
    ) -> dict[str, Any]:
        key = _own_key("ask", idempotency_key)
        found = runtime.ask(claim_id(claim), kind, body.to, ppm_of(body.share), body.amount, key)
        runtime.wake()
        return request_json(found)

    @app.post("/v1/receivables/{claim}/release", dependencies=own, status_code=202)
    def release(
        claim: str, body: Releasing, idempotency_key: Annotated[str, Header()] = ""
    ) -> dict[str, Any]:
        lien = bytes.fromhex(body.lien) if body.lien else None
        found = desk.release(claim_id(claim), lien, _own_key("release", idempotency_key))
        runtime.wake()
        return request_json(found)

    @app.post("/v1/receivables/{claim}/credit-note", dependencies=own, status_code=202)
    def credit_note(
        claim: str, body: Crediting, idempotency_key: Annotated[str, Header()] = ""
    ) -> dict[str, Any]:
        minor = runtime.minor(claim_id(claim), body.amount)
        found = desk.credit_note(claim_id(claim), minor, _own_key("credit", idempotency_key))
        runtime.wake()
        return request_json(found)

    @app.get("/v1/requests", dependencies=own)
    def requests(state: str = "", limit: Limit = PAGE, offset: Offset = 0) -> list[dict[str, Any]]:
        states = (state,) if state else ()
        return [request_json(each) for each in tray.requests(None, *states, limit=limit, offset=offset)]

    @app.get("/v1/requests/{name}", dependencies=own)
    def request(name: str) -> dict[str, Any]:
        return request_json(tray.request(name))

    @app.post("/v1/requests/{name}/accept", dependencies=own, status_code=202)
    def accept(name: str, body: Taking) -> dict[str, Any]:
        found = answering.accept(name, ppm_of(body.share))
        runtime.wake()
        return request_json(found)

    @app.post("/v1/requests/{name}/decline", dependencies=own)
    def decline(name: str) -> dict[str, Any]:
        return request_json(answering.decline(name))

    @app.get("/v1/audit", dependencies=own)
    def audited() -> dict[str, Any]:
        return audit(kernel.engine, kernel.reader, kernel.where.contract).to_json()

    @app.get("/v1/files/{digest}", dependencies=own)
    def file(digest: str) -> dict[str, Any]:
        return runtime.verify(claim_id(digest))


def _own_key(what: str, given: str) -> str:
    """Return the id of a request that begins here from a caller's idempotency key; "" draws one."""
    return hashlib.sha256(f"{what}/{given}".encode()).hexdigest()[:32] if given else ""


def _peer_routes(app: FastAPI, runtime: Runtime) -> None:
    desk, answering, kernel = runtime.desk, runtime.answering, runtime.kernel
    asked: dict[tuple[str, int], int] = {}

    @app.post("/v1/peer/introductions")
    def introduce(body: dict[str, Any], who: Peer) -> dict[str, Any]:
        found = answering.introduce(who, body)
        runtime.wake()
        return found

    @app.post("/v1/peer/requests", status_code=202)
    def take(body: dict[str, Any], who: Peer) -> dict[str, Any]:
        return {"id": answering.take(who, body).id}

    @app.post("/v1/peer/outcomes")
    def outcome(body: dict[str, Any], who: Peer) -> dict[str, Any]:
        runtime.worker.hear(who, body)
        return {}

    @app.post("/v1/peer/anchors", status_code=202)
    def anchor(body: dict[str, Any], who: Peer) -> dict[str, Any]:
        _require_member(runtime)
        leaves = body.get("leaves")
        if not isinstance(leaves, list):
            raise statements.malformed("leaves")
        places = desk.anchoring.anchor(
            [statements.word(each, "leaf") for each in leaves], int(body.get("kind", 0))
        )
        runtime.wake()
        return {"openings": [statements.opening_json(each) for each in places]}

    @app.post("/v1/peer/notices", status_code=202)
    def notice(body: dict[str, Any], who: Peer) -> dict[str, Any]:
        _require_member(runtime)
        desk.anchoring.report(statements.word(body.get("tag"), "tag"))
        runtime.wake()
        return {}

    @app.post("/v1/peer/evaluations")
    def evaluate(body: dict[str, Any], who: Peer) -> dict[str, Any]:
        if kernel.keeper is None:
            raise NotApproved("ROLE_MISSING", "This institution does not keep the tag key.")
        try:
            points, epoch = bytes.fromhex(body["points"]), int(body["epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise statements.malformed("points") from error
        day = (who, int(time.time()) // 86_400)
        asked[day] = asked.get(day, 0) + len(points) // 32
        if asked[day] > kernel.config.tags.daily_points:
            raise LedgerError("TAG_QUOTA", "The institution's daily quota of tags is used up.")
        return {"answer": kernel.keeper.evaluate(epoch, points).hex()}


def _require_member(runtime: Runtime) -> None:
    if not runtime.kernel.plays(Role.MEMBER):
        raise NotApproved("ROLE_MISSING", "This institution is no member and anchors nothing.")
