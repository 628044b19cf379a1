"""Ledger services as real processes over a real chain: cases, faults, audit, webhooks, and what leaks."""

from __future__ import annotations

import json
import re
import secrets
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_processes import free_port, needs_engine
from standardwebhooks.webhooks import Webhook

from concordat.ledger_stand import Service, Stand
from ledger.keyring import Keyring
from node.keystore import write_private
from protocol.errors import ConcordatError, LedgerError, NotApproved, Unavailable

pytestmark = [pytest.mark.integration, needs_engine]

SELLER, BUYER = "91350100M000100Y43", "91440300708461136T"
SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy0wMTIzNDU2Nzg5"


class Receiver:
    """An institution's own system, told by webhooks; it answers its first delivery with an error."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.tries = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.tries += 1
                if outer.tries > 1:
                    headers = dict(self.headers.items())
                    outer.taken.append(Webhook(SECRET).verify(body, headers))
                self.send_response(200 if outer.tries > 1 else 500)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.port = free_port()
        self.server = HTTPServer(("127.0.0.1", self.port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stand(receiver: Receiver) -> Iterator[Stand]:
    # A Unix socket's path must stay short, which pytest's own temporary directories don't promise.
    made = Stand(Path(tempfile.mkdtemp(prefix="ls-")))
    made.create(clock_tolerance=240)
    file = made.directory / "supplier/service.toml"
    write_private(file.with_name("webhook.secret"), SECRET.encode())
    target = f'[[webhooks]]\nurl = "http://127.0.0.1:{receiver.port}/"\nsecret_file = "webhook.secret"\n'
    file.write_text(file.read_text() + "\n" + target)
    try:
        made.up(patience=240)
        yield made
    finally:
        made.remove()


class Desks:
    """The institutions of a stand, and a receivable's way through them."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        for name in ("platform", "supplier", "core", "bank-a", "bank-b"):
            setattr(self, name.replace("-", "_"), stand.service(name))

    supplier: Service
    core: Service
    bank_a: Service
    bank_b: Service
    platform: Service

    def of(self, name: str) -> Service:
        found: Service = getattr(self, name.replace("-", "_"))
        return found

    def register(self, **fields: str) -> str:
        document = json.dumps(invoice(**fields))
        claim = str(self.supplier.post("/v1/receivables", {"document": document})["claim"])
        self.supplier.anchored(claim)
        return claim

    def asked(self, claim: str, kind: str, by: str, to: str, **body: Any) -> str:
        return str(self.of(by).post(f"/v1/receivables/{claim}/requests/{kind}", {"to": to, **body})["id"])

    def accepted(self, name: str, by: str, **body: Any) -> dict[str, Any]:
        self.of(by).post(f"/v1/requests/{name}/accept", body)
        return self.of(by).settled(name)

    def confirmed(self, **fields: str) -> str:
        claim = self.register(**fields)
        found = self.accepted(self.asked(claim, "confirm", "supplier", "core"), "core")
        assert found["state"] == "done", found
        self.supplier.reaches(claim, lambda one: one["state"] == "confirmed")
        return claim

    def pledge(self, claim: str, bank: str, share: float, **body: Any) -> dict[str, Any]:
        return self.accepted(self.asked(claim, "pledge", "supplier", bank, share=share), bank, **body)


@pytest.fixture(scope="module")
def desks(stand: Stand) -> Desks:
    return Desks(stand)


def invoice(**fields: str) -> dict[str, str]:
    today = date.today()
    number = "2431" + str(secrets.randbelow(10**16)).zfill(16)
    return {
        "seller": SELLER,
        "buyer": BUYER,
        "number": number,
        "issued": today.isoformat(),
        "due": (today + timedelta(days=60)).isoformat(),
        "amount": "54321.00",
        **fields,
    }


def test_cases_16_and_50_two_banks_share_a_receivable_and_no_more(desks: Desks) -> None:
    claim = desks.confirmed()
    assert desks.pledge(claim, "bank-a", 60)["final"]
    asked = desks.asked(claim, "pledge", "supplier", "bank-b", share=40)
    more = desks.pledge(claim, "bank-b", 40.0001)
    assert more["problem"]["title"] == "LEDGER_OVER_CAPACITY"
    assert more["problem"]["arguments"] == {"free": 400_000}
    assert "40 %" in more["problem"]["detail"]
    assert "bank-a" not in json.dumps(more).lower()
    waiting = [each for each in desks.bank_b.get("/v1/requests?state=open") if each["id"] == asked]
    assert waiting
    assert desks.accepted(asked, "bank-b")["final"]
    shares = desks.supplier.reaches(claim, lambda one: one["shares"]["pledged"] == 1_000_000)["shares"]
    assert shares["free"] == 0


def test_cases_3_4_14_and_52_another_format_is_refused_and_the_registrant_alerted(
    desks: Desks, receiver: Receiver
) -> None:
    fields = invoice()
    claim = desks.confirmed(**fields)
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
    number = fields["number"].translate(wide)
    issued = date.fromisoformat(fields["issued"])
    row = [
        f"{SELLER[:4]} {SELLER[4:]}".lower(),
        BUYER.translate(wide),
        number[:12],
        f"{number[12:]}\u3000",
        f"{issued.year}年{issued.month}月{issued.day}日",
        fields["due"].replace("-", ""),
        '"54,321"',
    ]
    document = "销售方,购买方,发票代码,发票号码,开票日期,到期日,价税合计\n" + ",".join(row) + "\n"
    with pytest.raises(LedgerError, match=r"\[LEDGER_TAG_TAKEN\]"):
        desks.supplier.post("/v1/receivables", {"document": document, "source": "export.csv"})
    desks.supplier.reaches(
        claim, lambda one: any(each["event"] == "DuplicateNoticed" for each in one["timeline"])
    )
    end = time.monotonic() + 60
    while not any(
        each["type"] == "receivable.duplicate" and each["data"]["claim"] == claim for each in receiver.taken
    ):
        assert time.monotonic() < end, receiver.taken
        time.sleep(0.2)
    types = {each["type"] for each in receiver.taken if each["data"]["claim"] == claim}
    assert {"receivable.confirmed", "receivable.duplicate"} <= types
    assert receiver.tries > len(receiver.taken), "the first delivery failed and was repeated"


def _shares(found: dict[str, Any]) -> tuple[int, int]:
    return found["shares"]["cap"], found["shares"]["pledged"]


def test_cases_20_22_23_and_15_payments_lower_the_lien_and_a_release_acts_once(desks: Desks) -> None:
    claim = desks.confirmed()
    desks.pledge(claim, "bank-a", 50)
    paid = desks.accepted(desks.asked(claim, "settle", "core", "bank-a", amount="5432.10"), "bank-a")
    assert paid["kind"] == "settle-lien"
    # Another party's act: this bank's own index follows a moment later.
    desks.bank_a.reaches(claim, lambda found: _shares(found) == (900_000, 400_000))
    free = desks.accepted(desks.asked(claim, "settle", "core", "supplier", amount="5432.10"), "supplier")
    assert free["kind"] == "settle-free"
    with pytest.raises(LedgerError, match=r"\[SETTLE_AMOUNT\]"):
        desks.asked(claim, "settle", "core", "bank-a", amount="54321.00")
    with pytest.raises(LedgerError, match=r"\[LIEN_NONE\]"):
        desks.bank_b.post(f"/v1/receivables/{claim}/release", {})
    first = desks.bank_a.post(f"/v1/receivables/{claim}/release", {}, key="release-1")
    assert desks.bank_a.settled(first["id"])["final"]
    desks.bank_a.reaches(claim, lambda found: _shares(found) == (800_000, 0))


def test_cases_24_21_and_32_short_frozen_settled_and_sold(desks: Desks) -> None:
    claim = desks.confirmed()
    desks.pledge(claim, "bank-a", 80)
    note = desks.core.post(f"/v1/receivables/{claim}/credit-note", {"amount": "21728.40"})
    assert desks.core.settled(note["id"])["final"]
    found = desks.supplier.get(f"/v1/receivables/{claim}")
    assert found["flags"] == ["short"]
    refused = desks.pledge(claim, "bank-b", 1)
    assert refused["problem"]["title"] == "LEDGER_FROZEN"
    assert "short" in refused["problem"]["detail"]
    release = desks.bank_a.post(f"/v1/receivables/{claim}/release", {})
    assert desks.bank_a.settled(release["id"])["final"], "no flag blocks a release"
    sold = desks.accepted(desks.asked(claim, "transfer", "supplier", "bank-b"), "bank-b")
    assert sold["final"]
    desks.supplier.reaches(claim, lambda one: one["part"] == "former")
    with pytest.raises(NotApproved, match=r"\[PART_OTHER\]"):
        desks.asked(claim, "pledge", "supplier", "bank-a", share=10)
    desks.core.reaches(claim, lambda one: any(each["event"] == "Transferred" for each in one["timeline"]))
    rest = desks.core.post(f"/v1/receivables/{claim}/credit-note", {"amount": "32592.60"})
    assert desks.core.settled(rest["id"])["final"]
    assert desks.bank_b.reaches(claim, lambda one: one["state"] == "settled")["shares"]["cap"] == 0


def test_case_15_the_same_idempotency_key_gives_the_existing_answer(desks: Desks) -> None:
    fields = invoice()
    claims = {
        desks.supplier.post("/v1/receivables", {"document": json.dumps(fields)}, key="doc-1")["claim"]
        for _ in range(2)
    }
    assert len(claims) == 1
    claim = claims.pop()
    desks.supplier.anchored(claim)
    path, body = f"/v1/receivables/{claim}/requests/confirm", {"to": "core"}
    first, second = (desks.supplier.post(path, body, key="ask-1") for _ in range(2))
    assert first["id"] == second["id"]
    with pytest.raises(LedgerError, match=r"\[OUTBOX_OTHER_CALL\]"):
        desks.supplier.post(f"/v1/receivables/{claim}/requests/pledge", {"to": "core"}, key="ask-1")
    assert desks.accepted(first["id"], "core")["final"]
    assert desks.core.post(f"/v1/requests/{first['id']}/accept", {})["state"] == "done"
    desks.supplier.reaches(claim, lambda one: one["state"] == "confirmed")
    desks.pledge(claim, "bank-a", 10)
    releases = [desks.bank_a.post(f"/v1/receivables/{claim}/release", {}, key="r-1")]
    assert desks.bank_a.settled(releases[0]["id"])["final"]
    releases.append(desks.bank_a.post(f"/v1/receivables/{claim}/release", {}, key="r-1"))
    assert releases[0]["id"] == releases[1]["id"]
    assert releases[1]["state"] == "done"


def test_an_attested_claim_lives_as_long_as_its_lien(desks: Desks) -> None:
    fields = invoice(number=f"INV-{secrets.token_hex(4)}")
    claim = desks.register(**fields)
    asked = desks.asked(claim, "attest", "supplier", "bank-a", share=70)
    assert desks.accepted(asked, "bank-a")["final"]
    found = desks.supplier.reaches(claim, lambda one: one["state"] == "attested")
    assert (found["grade"], found["shares"]["pledged"]) == ("attested", 700_000)
    with pytest.raises(LedgerError, match=r"\[LEDGER_TAG_TAKEN\]"):
        desks.register(**fields)
    release = desks.bank_a.post(f"/v1/receivables/{claim}/release", {})
    assert desks.bank_a.settled(release["id"])["final"]
    assert desks.supplier.reaches(claim, lambda one: one["state"] == "void")
    assert desks.register(**fields) != claim, "its tags are free again"


def test_cases_41_44_and_66_nothing_is_signed_that_does_not_match_its_document(
    desks: Desks, stand: Stand
) -> None:
    claim = desks.register()
    name = desks.asked(claim, "confirm", "supplier", "core")
    content = _content(stand, "core", name)
    for change in (
        lambda one: one["dossier"]["invoice"].update(payable=1),
        lambda one: one["dossier"]["invoice"].update(numbers=["24319999999999999999"]),
        lambda one: one["statement"].update(dueWeek=one["statement"]["dueWeek"] + 1),
        lambda one: one["statement"].update(termsHash="00" * 32),
        lambda one: one["signature"].__setitem__(6, "11" * 65),
        lambda one: one.pop("dossier"),
        lambda one: one.pop("statement"),
        lambda one: one.update(note={"minor": "much"}),
        lambda one: one.update(more=1),
    ):
        forged = json.loads(json.dumps(content))
        change(forged)
        message = {"id": secrets.token_hex(16), "kind": "confirm", "claim": claim, "content": forged}
        answer = _as_peer(stand, "supplier", "core", "requests", message)
        if answer.status_code == 400:
            assert answer.json()["title"] == "REQUEST_MALFORMED"
            continue
        with pytest.raises(ConcordatError) as refused:
            desks.core.post(f"/v1/requests/{message['id']}/accept", {})
        assert refused.value.code in {
            "DOSSIER_MISMATCH",
            "REQUEST_SIGNATURE",
            "REQUEST_MALFORMED",
            "DOSSIER_MALFORMED",
        }
    assert desks.accepted(name, "core")["final"], "the true one still goes through"


def _content(stand: Stand, institution: str, name: str) -> dict[str, Any]:
    """A request as it lies sealed in an institution's database."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = Keyring.load(stand.directory / institution / "keys").secret("sealing")
    with sqlite3.connect(stand.directory / institution / "service.sqlite") as db:
        sealed = db.execute("SELECT sealed FROM request WHERE id = ?", (name,)).fetchone()[0]
    db.close()
    found: dict[str, Any] = json.loads(
        AESGCM(key).decrypt(sealed[:12], sealed[12:], f"request/{name}".encode())
    )
    return found


def _as_peer(stand: Stand, who: str, to: str, path: str, message: dict[str, Any]) -> httpx.Response:
    token = (stand.directory / who / f"peers/{to}.token").read_text()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(trust_env=False) as client:
        return client.post(f"{stand.service(to).url}/v1/peer/{path}", json=message, headers=headers)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def test_tokens_open_their_own_routes_only(desks: Desks, stand: Stand) -> None:
    url = stand.service("bank-a").url
    operator = (stand.directory / "bank-a/operator.token").read_text()
    peer = (stand.directory / "supplier/peers/bank-a.token").read_text()
    with httpx.Client(base_url=url, trust_env=False) as client:
        for path, token, status in (
            ("/v1/receivables", "", 403),
            ("/v1/receivables", peer, 403),
            ("/v1/receivables", operator, 200),
        ):
            assert client.get(path, headers=_bearer(token)).status_code == status
        body = {"kind": "pledge", "claim": "00" * 32}
        for token, status in (("", 403), (operator, 403), (peer, 200)):
            answer = client.post("/v1/peer/introductions", json=body, headers=_bearer(token))
            assert answer.status_code == status
            if status == 403:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["title"] in {"PEER_UNKNOWN", "TOKEN"}
        headers = _bearer(peer)
        assert client.post("/v1/peer/anchors", json={"leaves": "x"}, headers=headers).status_code == 400
        assert client.post("/v1/peer/evaluations", json={}, headers=headers).status_code == 403


def test_the_audit_names_every_difference(desks: Desks, stand: Stand) -> None:
    claim = desks.confirmed()
    desks.pledge(claim, "bank-b", 30)
    desks.bank_b.reaches(claim, lambda one: one["shares"]["pledged"] == 300_000)
    assert desks.bank_b.get("/v1/audit")["differences"] == []
    changes = {
        ("claim", "pledged"): ("UPDATE index_claim SET packed = ? WHERE claim = ?", None),
        ("lien", "ppm"): ("UPDATE index_lien SET ppm = 1 WHERE claim = ?", 1),
        ("lien", ""): ("DELETE FROM index_lien WHERE claim = ?", 1),
        ("tag", "claim"): ("UPDATE index_tag SET claim = zeroblob(32) WHERE claim = ?", 1),
        ("event", "fields"): (
            "UPDATE index_event SET fields = replace(fields, '300000', '3') WHERE claim = ? AND name = 'Pledged'",
            1,
        ),
        ("event", ""): ("DELETE FROM index_event WHERE claim = ? AND name = 'Confirmed'", 1),
        ("block", "hash"): ("UPDATE index_block SET hash = zeroblob(32) WHERE number = 1 AND ? != ''", 1),
    }
    path = stand.directory / "bank-b/service.sqlite"
    stand.supervisor.stop("bank-b", "service")
    kept = path.with_name("kept.sqlite")
    try:
        with sqlite3.connect(path) as source, sqlite3.connect(kept) as target:
            source.backup(target)
        source.close()
        target.close()
        for (what, field), (statement, _) in changes.items():
            identifier = bytes.fromhex(claim)
            with sqlite3.connect(path) as db:
                parameters: tuple[bytes, ...] = (identifier,)
                if field == "pledged":
                    packed = db.execute(
                        "SELECT packed FROM index_claim WHERE claim = ?", parameters
                    ).fetchone()[0]
                    word = int.from_bytes(packed, "big") + (1 << 24)
                    parameters = (word.to_bytes(32, "big"), identifier)
                assert db.execute(statement, parameters).rowcount == 1
                db.commit()
            db.close()
            report = _audited(stand, "bank-b")
            assert [(each["what"], each["field"]) for each in report["differences"]] == [(what, field)], (
                report
            )
            with sqlite3.connect(kept) as source, sqlite3.connect(path) as target:
                source.backup(target)
            source.close()
            target.close()
        assert _audited(stand, "bank-b")["differences"] == []
    finally:
        stand.supervisor.start_one("bank-b", "service")
    _healthy(desks.bank_b)


def _audited(stand: Stand, institution: str) -> dict[str, Any]:
    """The audit as the operator runs it beside a stopped service."""
    from ledger.index.audit import audit
    from ledger.service.config import load
    from ledger.service.kernel import build

    kernel = build(load(stand.directory / institution / "service.toml"))
    try:
        return audit(kernel.engine, kernel.reader, kernel.where.contract).to_json()
    finally:
        kernel.close()


def _healthy(service: Service, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if service.get("/v1/health")["status"] == "ok":
                return
        except ConcordatError:
            pass
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_service_killed_while_it_pledges_does_it_once(desks: Desks, stand: Stand) -> None:
    claim = desks.confirmed()
    name = desks.asked(claim, "pledge", "supplier", "bank-a", share=55)
    desks.bank_a.post(f"/v1/requests/{name}/accept", {})
    stand.supervisor.kill("bank-a", "service", signal.SIGKILL)
    time.sleep(0.5)
    _healthy(desks.bank_a)
    assert desks.bank_a.settled(name)["final"]
    assert desks.bank_a.post(f"/v1/requests/{name}/accept", {})["state"] == "done", (
        "once more changes nothing"
    )
    found = desks.supplier.reaches(claim, lambda one: one["shares"]["pledged"] > 0)
    assert found["shares"]["pledged"] == 550_000
    assert len(found["liens"]) == 1


def test_case_49_what_can_not_be_known_is_unknown_and_nothing_is_pledged(desks: Desks, stand: Stand) -> None:
    claim = desks.confirmed()
    name = desks.asked(claim, "pledge", "supplier", "bank-a", share=10)
    stand.supervisor.stop("chain", "member-bank-a")
    try:
        with pytest.raises(Unavailable):
            desks.bank_a.get(f"/v1/claims/{claim}")
        with pytest.raises(Unavailable):
            desks.bank_a.post(f"/v1/requests/{name}/accept", {})
        time.sleep(1)
        assert desks.bank_a.get(f"/v1/requests/{name}")["state"] == "open"
        with httpx.Client(base_url=desks.bank_a.url, trust_env=False) as client:
            health = client.get("/v1/health")
        assert (health.status_code, health.json()["status"]) == (503, "unknown")
        with pytest.raises(Unavailable):
            desks.supplier.post("/v1/receivables", {"document": json.dumps(invoice())})
    finally:
        stand.supervisor.start_one("chain", "member-bank-a")
    _healthy(desks.bank_a)
    assert desks.accepted(name, "bank-a")["final"]


def test_a_users_mistake_is_one_sentence_that_quotes_nothing(desks: Desks) -> None:
    secret = "24310000000000009999"
    for fields, code in (
        ({"buyer": "91440300708461136X"}, "DATA_INVALID_ID"),
        ({"amount": "-3.00"}, "INVOICE_AMOUNT"),
        ({"due": "1999-01-01"}, "INVOICE_DUE"),
        ({"number": "12345678"}, "INVOICE_CODE"),
        ({"kind": "381"}, "INVOICE_CREDIT_NOTE"),
    ):
        with pytest.raises(ConcordatError) as refused:
            desks.supplier.post(
                "/v1/receivables",
                {"document": json.dumps(invoice(**{"number": secret, **fields})), "source": "a.json"},
            )
        assert refused.value.code == code
        assert "a.json, field " in refused.value.message
        shown = f"{refused.value.message} {refused.value.hint}"
        assert not any(value in shown for value in (secret, BUYER, SELLER, "-3.00", "12345678"))
    with pytest.raises(LedgerError, match=r"\[RECEIVABLE_UNKNOWN\]"):
        desks.supplier.get("/v1/receivables/" + "00" * 32)
    with pytest.raises(ConcordatError, match=r"\[PEER_NAME\]"):
        desks.asked(desks.register(), "confirm", "supplier", "nobody")
    with pytest.raises(NotApproved, match=r"\[ROLE_MISSING\]"):
        desks.core.post("/v1/receivables", {"document": json.dumps(invoice())})


def test_zz_nothing_of_a_document_stands_in_a_log_or_a_database(desks: Desks, stand: Stand) -> None:
    number = "24317777" + str(secrets.randbelow(10**12)).zfill(12)
    claim = desks.confirmed(number=number)
    desks.pledge(claim, "bank-a", 10)
    known = [number.encode(), SELLER.encode(), BUYER.encode(), b"54321"]
    looked = 0
    for path in stand.directory.rglob("*"):
        if path.is_file() and re.search(r"\.(log|sqlite|sqlite-wal|toml|json)$", path.name):
            data = path.read_bytes()
            looked += 1
            assert not any(each in data for each in known), path
    assert looked > 20
