"""Webhooks: signed as the standard says, durable, repeated more and more seldom."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ledger.index import tables
from ledger.index.following import Happened
from ledger.webhooks import RETRIES, Deliveries, Target, payload, read_secret, sign, type_of
from protocol.errors import ConfigurationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "http://127.0.0.1:9/hook"


def event(name: str = "Pledged", **fields: Any) -> Happened:
    return Happened(
        7, 2, b"\5" * 32, name, b"\1" * 32, fields or {"ppm": 600_000, "loanRef": "aa"}, 1_800_000_000
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = tables.connect(f"sqlite:///{tmp_path / 'hooks.sqlite'}")
    yield made
    made.dispose()


class Receiver:
    """Answers with a status that a test sets, and keeps what came."""

    def __init__(self) -> None:
        self.status = 204
        self.came: list[httpx.Request] = []
        self.client = httpx.Client(transport=httpx.MockTransport(self._take))

    def _take(self, request: httpx.Request) -> httpx.Response:
        self.came.append(request)
        if self.status == 0:
            raise httpx.ConnectError("nobody listens")
        return httpx.Response(self.status, headers={"location": "http://elsewhere.example/"})


def parts(engine: sa.Engine, *events: str) -> tuple[Deliveries, Receiver, list[float]]:
    receiver, now = Receiver(), [1_800_000_000.0]
    target = Target(URL, read_secret(SECRET), events)
    return Deliveries(engine, [target], receiver.client, lambda: now[0]), receiver, now


def note(engine: sa.Engine, deliveries: Deliveries, one: Happened) -> None:
    with engine.begin() as db:
        deliveries.note(db, one)


def test_the_signature_is_the_standards() -> None:
    body = json.dumps({"test": 2432232314})
    stamp = 1_614_265_330
    # The example of the specification: secret, id, timestamp, body and signature.
    found = sign(read_secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", stamp, '{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert found == Webhook(SECRET).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(stamp, UTC), body
    )


def test_what_is_sent_verifies_and_what_was_changed_does_not(engine: sa.Engine) -> None:
    deliveries, receiver, now = parts(engine)
    now[0] = datetime.now(UTC).timestamp()
    note(engine, deliveries, event())
    assert deliveries.work() == 1
    request = receiver.came[0]
    headers = dict(request.headers)
    assert Webhook(SECRET).verify(request.content, headers) == payload(event())
    for change in ({"webhook-id": "evt_other"}, {"webhook-timestamp": str(int(now[0]) - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(request.content, {**headers, **change})
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.content.replace(b"600000", b"6"), headers)


def test_what_is_told_and_what_is_not() -> None:
    told = payload(event())
    assert told["type"] == "receivable.pledged"
    assert told["data"] == {"claim": "01" * 32, "block": 7, "ppm": 600_000}, "no loan reference, no key"
    assert type_of(event("LienSet", status=2)) == "receivable.released"
    assert type_of(event("LienSet", status=1)) == ""
    assert type_of(event("State", packed=1)) == ""
    assert type_of(event("DuplicateNoticed", tag="aa", member="bb")) == "receivable.duplicate"
    assert "member" not in json.dumps(payload(event("DuplicateNoticed", tag="aa", member="bb")))


def test_an_event_is_delivered_once(engine: sa.Engine) -> None:
    deliveries, receiver, _ = parts(engine)
    for _ in range(2):
        note(engine, deliveries, event())
    assert deliveries.work() == 1
    assert deliveries.work() == 0
    assert len(receiver.came) == 1
    assert deliveries.counts() == {"delivered": 1}


def test_a_target_may_want_some_events_only(engine: sa.Engine) -> None:
    deliveries, receiver, _ = parts(engine, "receivable.duplicate")
    note(engine, deliveries, event())
    note(engine, deliveries, event("DuplicateNoticed", tag="aa"))
    assert deliveries.work() == 1
    assert json.loads(receiver.came[0].content)["type"] == "receivable.duplicate"


@pytest.mark.parametrize("status", [0, 302, 404, 500])
def test_it_tries_again_more_and_more_seldom_and_gives_up(engine: sa.Engine, status: int) -> None:
    deliveries, receiver, now = parts(engine)
    receiver.status = status
    note(engine, deliveries, event())
    for wait in RETRIES:
        assert deliveries.work() == 0
        now[0] += wait - 1
        before = len(receiver.came)
        assert deliveries.work() == 0
        assert len(receiver.came) == before, "not yet"
        now[0] += 1
    deliveries.work()
    assert deliveries.counts() == {"failed": 1}
    assert len(receiver.came) == len(RETRIES) + 1
    assert {each.url.host for each in receiver.came} == {"127.0.0.1"}, "a redirect is not followed"
    assert len({each.headers["webhook-id"] for each in receiver.came}) == 1
    assert list(RETRIES) == sorted(RETRIES)


def test_a_later_try_succeeds_after_a_restart(engine: sa.Engine) -> None:
    deliveries, receiver, now = parts(engine)
    receiver.status = 0
    note(engine, deliveries, event())
    deliveries.work()
    again, receiver, later = parts(engine)
    later[0] = now[0] + RETRIES[0]
    assert again.work() == 1
    assert len(receiver.came) == 1


@pytest.mark.parametrize(
    "text", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!", "whsec_c2hvcnQ="]
)
def test_a_weak_secret_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[WEBHOOK_SECRET\]"):
        read_secret(text)
    assert len(base64.b64decode(SECRET.removeprefix("whsec_"))) == 24
