"""Kill -9 anywhere while banks pledge: nothing acknowledged is lost, nothing is applied twice, everybody comes back."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from engine_processes import needs_engine
from ledger_stands import running

from concordat.ledger_stand import Service, Stand
from protocol.errors import ConcordatError, LedgerError, Unavailable

pytestmark = [pytest.mark.integration, needs_engine, pytest.mark.timeout(900)]

VICTIMS = (
    ("bank-a", "service"),
    ("chain", "gateway"),
    ("chain", "member-bank-a"),
    ("supplier", "service"),
    ("chain", "member-bank-b"),
    ("bank-b", "service"),
)
PLEDGES = 3
SHARE = 10


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with running("lk-") as made:
        yield made


def until(act: Any, seconds: float = 240) -> Any:
    """Repeat what may not be answered now, as an operator would, until it is."""
    end = time.monotonic() + seconds
    while True:
        try:
            return act()
        except (Unavailable, LedgerError) as error:
            if isinstance(error, LedgerError) and error.code not in {"LEDGER_PENDING", "REQUEST_UNKNOWN"}:
                raise
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def confirmed(stand: Stand) -> str:
    today = date.today()
    document = {
        "seller": "91350100M000100Y43",
        "buyer": "91440300708461136T",
        "number": "2431" + str(secrets.randbelow(10**16)).zfill(16),
        "issued": today.isoformat(),
        "due": (today + timedelta(days=60)).isoformat(),
        "amount": "1000.00",
    }
    supplier, core = stand.service("supplier"), stand.service("core")
    claim = str(supplier.post("/v1/receivables", {"document": json.dumps(document)})["claim"])
    supplier.anchored(claim, 240)
    asked = supplier.post(f"/v1/receivables/{claim}/requests/confirm", {"to": "core"})
    core.post(f"/v1/requests/{asked['id']}/accept")
    assert core.settled(asked["id"], 240)["final"]
    supplier.reaches(claim, lambda one: one["state"] == "confirmed", 240)
    return claim


def accepted(service: Service, name: str) -> bool:
    """Accept if the service answers; what became of it the outbox knows."""
    try:
        service.post(f"/v1/requests/{name}/accept")
    except ConcordatError:
        return False
    return True


def test_nothing_is_lost_and_nothing_is_done_twice(stand: Stand) -> None:
    claim = confirmed(stand)
    asked: list[tuple[str, str]] = []
    for _ in range(PLEDGES):
        for bank in ("bank-a", "bank-b"):
            supplier = stand.service("supplier")
            body = {"to": bank, "share": SHARE}
            path = f"/v1/receivables/{claim}/requests/pledge"
            asked.append((bank, str(supplier.post(path, body)["id"])))
    for (bank, name), victim in zip(asked, VICTIMS, strict=True):
        accepted(stand.service(bank), name)
        time.sleep(secrets.randbelow(400) / 1000)
        stand.supervisor.kill(*victim)
        time.sleep(0.3)
    for bank, name in asked:
        service = stand.service(bank)
        until(lambda service=service, name=name: service.post(f"/v1/requests/{name}/accept"))
        assert until(lambda service=service, name=name: service.settled(name, 5))["final"]
    found = until(
        lambda: stand.service("supplier").reaches(
            claim, lambda one: one["shares"]["pledged"] == SHARE * len(asked) * 10_000, 5
        )
    )
    assert len(found["liens"]) == len(asked)
    assert [each["event"] for each in found["timeline"]].count("Pledged") == len(asked)
    for name in ("supplier", "bank-a", "bank-b"):
        assert until(lambda name=name: stand.service(name).get("/v1/audit"))["differences"] == []
