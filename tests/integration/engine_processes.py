"""Gateways and members as real processes, and keys that send to them."""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import coincurve
import httpx
import pytest
from eth_hash.auto import keccak

from ledger.engine.genesis import sign_legacy
from ledger.engine.packages import directory

needs_engine = pytest.mark.skipif(
    not (directory() / "node_modules/@nomicfoundation/edr").exists(),
    reason="the engine's npm packages are not installed: python -m ledger.engine install",
)


def counter_code() -> tuple[bytes, bytes]:
    """Return creation code and runtime of a counter.

    Called without data it returns slot 0. With one word it adds the word to slot 0 and logs the sum; if the
    word is all ones it reverts with 0xdeadbeef.
    """
    runtime = bytes.fromhex(
        "36600f57"
        "600054600052602060"
        "00f3"
        "5b"  # 15 JUMPDEST
        "600035"  # calldataload(0)
        "8019"  # dup, not: zero if the word is all ones
        "602d57"  # if not all ones jump 45
        "63deadbeef60e01b600052"  # mstore(0, 0xdeadbeef << 224)
        "60046000fd"  # revert(0, 4)
        "0000000000"
        "5b"  # 45 JUMPDEST
        "600054018060005560005260206000a000"
    )
    size = len(runtime)
    creation = bytes.fromhex(f"60{size:02x}600c60003960{size:02x}6000f3") + runtime
    return creation, runtime


class Sender:
    """A key that counts its own nonces."""

    def __init__(self, chain_id: int) -> None:
        self.key = coincurve.PrivateKey(secrets.token_bytes(32))
        self.address = keccak(self.key.public_key.format(compressed=False)[1:])[12:]
        self.chain_id = chain_id
        self.nonce = 0

    def sign(self, to: bytes, data: bytes = b"", gas: int = 200_000) -> bytes:
        raw = sign_legacy(self.key, self.chain_id, self.nonce, to, data, gas)
        self.nonce += 1
        return raw


class Process:
    """A ``python -m ledger.engine`` process that prints a ready line."""

    alive: ClassVar[list[Process]] = []

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.alive.append(self)
        self.arguments = arguments
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        self.client = httpx.Client(trust_env=False, timeout=30, verify=False)

    def start(self) -> Process:
        return self.spawn().wait()

    def spawn(self) -> Process:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ledger.engine", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        return self

    def wait(self) -> Process:
        """Wait for the ready line."""
        assert self.process is not None
        assert self.process.stdout is not None
        select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline()
        assert line, self.error()
        self.ready = json.loads(line)
        return self

    def error(self) -> str:
        """Wait for the end and return what it wrote to stderr."""
        assert self.process is not None
        return self.process.communicate(timeout=60)[1]

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return self.client.post(self.url, json=body).json()

    def result(self, method: str, *params: Any) -> Any:
        answer = self.rpc(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    def health(self) -> dict[str, Any]:
        return dict(self.client.get(f"{self.url}/health").json())

    def kill(self) -> None:
        """End it as a power cut would, for the processes at least."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.communicate(timeout=30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=30)
        self.client.close()
        if self in self.alive:
            self.alive.remove(self)

    @classmethod
    def stop_all(cls, *but: Process) -> None:
        for each in [each for each in cls.alive if each not in but]:
            each.kill()
            each.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Any, seconds: float = 30.0) -> Any:
    """Return the first true value of a check."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def gateway(data: Path) -> Process:
    return Process("up", "--data", str(data), "--bare")
