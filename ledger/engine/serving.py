"""Run an HTTP application until its work ends: loopback or TLS, one process a folder, one line when ready."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from protocol.errors import ConcordatError, ConfigurationError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


MAX_CONNECTIONS = 1_000
"""Connections at once; more are answered with 503."""


@dataclass(frozen=True)
class Listen:
    """Where to listen.

    Attributes:
        host: address; without TLS a loopback address.
        port: 0 for any free one.
        certificate: PEM chain of this server, or None.
        key: its PEM private key, or None.
        clients: PEM authorities of the clients' certificates (mutual TLS), or None.
        names: host names under which clients address it, beside the loopback ones.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    clients: Path | None = None
    names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("LISTEN_TLS", "TLS needs both a certificate and its key.")
        loopback = self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        if not loopback and (self.certificate is None or self.clients is None):
            raise ConfigurationError(
                "LISTEN_PLAIN",
                "Beyond the loopback interface the ledger speaks mutual TLS only.",
                "Give --certificate, --key and --clients, or listen on 127.0.0.1.",
            )

    @property
    def hosts(self) -> frozenset[str]:
        """Host names that requests may carry."""
        return LOOPBACK | self.names | {self.host}


@contextlib.contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        ConfigurationError: ``LEDGER_IN_USE``.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError("LEDGER_IN_USE", "Another process uses this ledger folder.") from error
    try:
        yield
    finally:
        os.close(descriptor)


async def serve(
    app: FastAPI, listen: Listen, ready: dict[str, Any], *work: Coroutine[Any, Any, None]
) -> None:
    """Serve until a signal or until a piece of work ends, and raise what it raised.

    Prints one JSON line with the address once requests are answered.
    """
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only on sockets that name it; with it
    # every answer waits 40 ms for a delayed acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listen.host, listen.port))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=2,
            limit_concurrency=MAX_CONNECTIONS,
            ssl_certfile=listen.certificate,
            ssl_keyfile=str(listen.key) if listen.key else None,
            ssl_ca_certs=str(listen.clients) if listen.clients else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if listen.clients else ssl.CERT_NONE,
        )
        await _until_done(uvicorn.Server(config), bound, listen, ready, work)


async def _until_done(
    server: uvicorn.Server,
    bound: socket.socket,
    listen: Listen,
    ready: dict[str, Any],
    work: tuple[Coroutine[Any, Any, None], ...],
) -> None:
    # uvicorn re-raises the signals that it catches once it has shut down; ours ends quietly instead.
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, ended.set)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    tasks = [asyncio.create_task(each) for each in work]
    waiting = asyncio.create_task(ended.wait())
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    scheme = "https" if listen.certificate else "http"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    url = f"{scheme}://{host}:{bound.getsockname()[1]}"
    sys.stdout.write(json.dumps({"event": "ready", "url": url, **ready}) + "\n")
    sys.stdout.flush()
    done, _ = await asyncio.wait([serving, waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    for task in (waiting, *tasks):
        task.cancel()
    results = await asyncio.gather(serving, waiting, *tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, ConcordatError):
            raise result
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]
