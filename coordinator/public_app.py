"""What the coordinator shows to the outside: enrolment, membership, health, and Flower's Fleet routes.

The edge forwards ``/v1/fleet/`` and nothing else of Flower: its Control and Runtime APIs would let anybody who reaches
them start runs and take tasks (``docs/threat-model.md``).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.registry import Registry
from protocol.errors import ConcordatError

FLEET = "/v1/fleet/"
# Headers that belong to one connection and must not be passed on (RFC 9110, section 7.6.1).
_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
}
MAX_FLEET, MAX_OTHER = 64 * 2**20, 64 * 2**10


class _TooLarge(Exception):
    """A request's body is longer than its route takes."""


class _Limited:
    """Cuts off a request's body at its route's limit, whatever length was announced, or none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = MAX_FLEET if scope["path"].startswith(FLEET) else MAX_OTHER
        begun = False

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, limited, noted)
        except _TooLarge:
            if not begun:
                await Response(status_code=413, headers={"connection": "close"})(scope, receive, send)


def create(registry: Registry, superlink: str, tls: ssl.SSLContext) -> FastAPI:
    """Make the application.

    Args:
        registry: admits parties.
        superlink: address of the SuperLink on loopback.
        tls: trusts the consortium's authority.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        async with httpx.AsyncClient(verify=tls, timeout=120, limits=limits) as client:
            app.state.client = client
            yield

    app = FastAPI(
        title="Concordat coordinator", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )

    app.add_middleware(_Limited)

    @app.exception_handler(ConcordatError)
    async def refuse(_: Request, error: ConcordatError) -> JSONResponse:
        return JSONResponse(error.problem(), error.http_status, media_type="application/problem+json")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "up"}

    @app.post("/enrolments")
    async def enroll(request: dict[str, Any]) -> dict[str, Any]:
        return await run_in_threadpool(registry.enroll, request)

    @app.get("/directory")
    async def directory() -> list[dict[str, Any]]:
        return await run_in_threadpool(registry.statements)

    @app.post(FLEET + "{route}")
    async def fleet(route: str, request: Request) -> Response:
        if not route.replace("-", "").isalnum():
            return Response(status_code=404)
        body = await request.body()
        headers = [(k, v) for k, v in request.headers.raw if k.decode().lower() not in _HOP]
        try:
            reply = await app.state.client.post(
                f"https://{superlink}{FLEET}{route}", content=body, headers=headers
            )
        except httpx.HTTPError:
            return Response(status_code=503)
        kept = {k: v for k, v in reply.headers.items() if k.lower() not in _HOP | {"content-encoding"}}
        return Response(reply.content, reply.status_code, kept)

    return app
