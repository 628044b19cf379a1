"""The page's sessions and its guard against other sites; statements that travel between institutions."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.commitments import FULL, Body, Opening
from ledger.eip712 import Domain
from ledger.intents import ConfirmIntent, DisputeIntent, PledgeConsent
from ledger.page.sessions import FAILURES, IDLE, LIFETIME, WINDOW, Sessions, check_form, check_origin
from ledger.service import statements
from ledger.signers import AccountKey, Certificate, Custodian, Party, Role
from protocol.errors import NotApproved, ProtocolError, SignatureInvalid

TOKEN = secrets.token_urlsafe(32)
DOMAIN = Domain(77, b"\7" * 20, b"\1" * 32)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def sessions() -> tuple[Sessions, Clock]:
    clock = Clock()
    return Sessions(hashlib.sha256(TOKEN.encode()).digest(), clock), clock


def test_a_session_begins_with_the_token_and_ends_by_itself() -> None:
    made, clock = sessions()
    cookie = made.begin(f" {TOKEN}\n")
    assert made.find(cookie) is not None
    assert made.find("") is None
    assert made.find(cookie + "x") is None
    clock.now += IDLE - 1
    assert made.find(cookie) is not None, "in use"
    clock.now += IDLE
    assert made.find(cookie) is None, "idle"
    cookie = made.begin(TOKEN)
    for _ in range(LIFETIME // (IDLE - 1) + 1):
        clock.now += IDLE - 1
        made.find(cookie)
    assert made.find(cookie) is None, "for however long it was used"
    cookie = made.begin(TOKEN)
    made.end(cookie)
    assert made.find(cookie) is None


def test_guessing_is_slowed_down() -> None:
    made, clock = sessions()
    for _ in range(FAILURES):
        with pytest.raises(NotApproved, match=r"\[LOGIN_WRONG\]"):
            made.begin(TOKEN[:-1])
    with pytest.raises(NotApproved, match=r"\[LOGIN_WAIT\]"):
        made.begin(TOKEN)
    clock.now += WINDOW
    assert made.begin(TOKEN)


def test_a_form_is_its_sessions_own() -> None:
    made, _ = sessions()
    first, second = (made.find(made.begin(TOKEN)) for _ in range(2))
    assert first is not None
    assert second is not None
    check_form(first, first.csrf)
    for wrong in ("", second.csrf, first.csrf + "x"):
        with pytest.raises(NotApproved, match=r"\[FORM_STALE\]"):
            check_form(first, wrong)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},
        {"origin": "http://127.0.0.1:80", "host": "127.0.0.1:80"},
        {"origin": "http://127.0.0.1:80", "host": "127.0.0.1:80", "sec-fetch-site": "same-origin"},
    ],
)
def test_a_request_of_this_site_passes(headers: dict[str, str]) -> None:
    check_origin(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "null", "host": "127.0.0.1:80"},
        {"origin": "http://evil.example", "host": "127.0.0.1:80"},
        {"origin": "http://127.0.0.1:81", "host": "127.0.0.1:80"},
        {"origin": "http://evil.example", "host": "127.0.0.1:80", "sec-fetch-site": "same-origin"},
        {"origin": "http://127.0.0.1:80", "host": "127.0.0.1:80", "sec-fetch-site": "cross-site"},
    ],
)
def test_a_request_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(NotApproved, match=r"\[CROSS_SITE\]"):
        check_origin(headers)


# -- statements that travel ---------------------------------------------------------------------------------------

WORDS = [bytes([number]) * 32 for number in range(1, 9)]
CONFIRM = ConfirmIntent(*WORDS[:6], 3_000, WORDS[6], 1_900_000_000)
CONSENT = PledgeConsent(WORDS[0], 3, *WORDS[1:5], 600_000, *WORDS[5:7], 0, WORDS[7], 1_900_000_000)


def party(role: Role = Role.SUPPLIER) -> Party:
    key = AccountKey.new()
    return Party(key, Certificate(role, key.key, Custodian.SELF, bytes(32), 5, b"\1" * 65))


@pytest.mark.parametrize(
    "statement", [CONFIRM, CONSENT, DisputeIntent(WORDS[0], 1, 1, WORDS[1], True, WORDS[2], 9)]
)
def test_a_statement_reads_back(statement: Any) -> None:
    found = statements.statement_json(statement)
    assert statements.read_statement(type(statement), found) == statement
    for name in found:
        with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
            statements.read_statement(
                type(statement), {key: value for key, value in found.items() if key != name}
            )
        for wrong in (None, -1, "zz", "00", 1 << 300, 1.5, [], {}):
            if wrong != found[name]:
                with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
                    statements.read_statement(type(statement), {**found, name: wrong})
    with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
        statements.read_statement(type(statement), {**found, "more": 1})


def test_a_signature_is_the_named_keys_over_this_very_statement() -> None:
    one, other = party(), party()
    signed = one.sign(DOMAIN, CONFIRM)
    statements.check_signed(DOMAIN, CONFIRM, signed, one.key_id)
    assert statements.read_signer(statements.signer_json(signed)) == signed
    swapped = (*signed[:6], other.sign(DOMAIN, CONFIRM)[6])
    cases = [
        (DOMAIN, CONFIRM, signed, other.key_id),
        (DOMAIN, replace(CONFIRM, due_week=3_001), signed, one.key_id),
        (replace(DOMAIN, chain_id=78), CONFIRM, signed, one.key_id),
        (replace(DOMAIN, consortium=b"\2" * 32), CONFIRM, signed, one.key_id),
        (DOMAIN, CONFIRM, swapped, one.key_id),
        (DOMAIN, CONFIRM, (*signed[:6], b""), one.key_id),
        (DOMAIN, CONFIRM, (*signed[:6], bytes(65)), one.key_id),
    ]
    for domain, statement, given_, named in cases:
        with pytest.raises(SignatureInvalid, match=r"\[REQUEST_SIGNATURE\]"):
            statements.check_signed(domain, statement, given_, named)


@pytest.mark.parametrize("found", [None, [], [1, 2, 3], [1, 0, 5, "00", "00" * 20, "", ""], {"a": 1}, "text"])
def test_what_is_no_signature_is_refused(found: Any) -> None:
    with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
        statements.read_signer(found)


def test_openings_and_bodies_read_back() -> None:
    opening = Opening(WORDS[0], WORDS[1], WORDS[2], 3, 1, (WORDS[3], WORDS[4]))
    assert statements.read_opening(statements.opening_json(opening)) == opening
    body = Body(*WORDS[:6])
    assert statements.read_body(statements.body_json(body)) == body
    for read, found in (
        (statements.read_opening, statements.opening_json(opening)),
        (statements.read_body, statements.body_json(body)),
    ):
        for name in found:
            with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
                read({**found, name: "xx"})


@given(st.integers(1, 10**15), st.data())
def test_shares_round_so_that_no_lien_is_short_and_no_capacity_too_much(payable: int, data: Any) -> None:
    minor = data.draw(st.integers(0, payable))
    up, down = statements.ceiling_ppm(minor, payable), statements.floor_ppm(minor, payable)
    assert 0 <= down <= up <= FULL
    assert up * payable >= minor * FULL, "a lien covers its amount"
    assert down * payable <= minor * FULL, "capacity never exceeds what is owed"
    assert up - down <= 1
    assert statements.ceiling_ppm(payable, payable) == statements.floor_ppm(payable, payable) == FULL
