"""The service's door by itself: who gets in, and what an unforeseen fault says of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ledger.service.api import MAX_BODY, application, claim_id, ppm_of
from protocol.errors import DataError, LedgerError, NotApproved

TOKEN = "t" * 43
OWN = {"Authorization": f"Bearer {TOKEN}"}
SECRET = "24312000000012345678"


class Peers:
    """Knows one peer."""

    def who(self, token: str) -> str:
        if token != "p" * 43:
            raise NotApproved("PEER_UNKNOWN", "unknown")
        return "core"


def fault(*_: Any) -> Any:
    raise ValueError(f"invalid literal: {SECRET}")


class Client:
    """Asks an application in this process."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def get(self, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._ask("GET", path, more))

    def post(self, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, more))

    async def _ask(self, method: str, path: str, more: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as asking:
            return await asking.request(method, path, **more)


def client(**parts: Any) -> Client:
    kernel = SimpleNamespace(peers=Peers(), keeper=None, plays=lambda role: False)
    runtime = SimpleNamespace(
        hosts=frozenset({"testserver"}),
        operator_digest=hashlib.sha256(TOKEN.encode()).digest(),
        desk=SimpleNamespace(register=fault, standing=None),
        answering=SimpleNamespace(take=fault),
        tray=SimpleNamespace(receivables=fault, requests=fault, receivable=fault),
        kernel=kernel,
        wake=lambda: None,
        health=lambda: {"status": "unknown"},
        **parts,
    )
    return Client(application(runtime))  # type: ignore[arg-type]


def test_a_fault_is_told_by_type_and_place_only(capsys: pytest.CaptureFixture[str]) -> None:
    answer = client().get("/v1/receivables", headers=OWN)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "INTERNAL"
    told = capsys.readouterr()
    line = json.loads(told.err.splitlines()[-1])
    assert line["type"] == "ValueError"
    assert line["where"].startswith("test_ledger_api.py:")
    assert SECRET not in answer.text + told.err + told.out


def test_input_that_is_wrong_is_named_and_not_quoted() -> None:
    answer = client().post(
        "/v1/receivables", json={"document": SECRET, "rows": SECRET, "row": -1}, headers=OWN
    )
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Missing, unknown or wrong: row, rows."
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({**OWN, "Host": "evil.example"}, "HOST"),
        ({**OWN, "Content-Length": str(MAX_BODY + 1)}, "REQUEST_SIZE"),
        ({}, "TOKEN"),
        ({"Authorization": f"Basic {TOKEN}"}, "TOKEN"),
        ({"Authorization": f"Bearer {TOKEN}x"}, "TOKEN"),
        ({"Authorization": "Bearer " + "p" * 43}, "TOKEN"),
    ],
)
def test_who_is_turned_away(headers: dict[str, str], code: str) -> None:
    assert client().get("/v1/receivables", headers=headers).json()["title"] == code


def test_peers_come_in_by_their_own_token_only() -> None:
    path = "/v1/peer/notices"
    assert client().post(path, json={"tag": "00" * 32}, headers=OWN).json()["title"] == "PEER_UNKNOWN"
    peer = {"Authorization": "Bearer " + "p" * 43}
    assert client().post(path, json={"tag": "00" * 32}, headers=peer).json()["title"] == "ROLE_MISSING"


def test_health_is_open_and_fails_closed() -> None:
    assert client().get("/v1/health").status_code == 503


def test_claims_and_shares_are_read_strictly() -> None:
    assert claim_id("ab" * 32) == b"\xab" * 32
    for text in ("", "AB" * 32, "ab" * 31, "zz" * 32, "../" * 22):
        with pytest.raises(DataError, match=r"\[CLAIM_ID\]"):
            claim_id(text)
    assert ppm_of(None) is None
    assert ppm_of(33.3333) == 333_333
    assert LedgerError("X", "y").problem()["status"] == 409
