"""The desk and its worker without a chain: requests are durable, and a peer's word opens nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from ledger.eip712 import Domain
from ledger.index import tables
from ledger.intents import ConfirmIntent
from ledger.keyring import Keyring
from ledger.service.answering import MAX_OPEN, Answering
from ledger.service.desk import Desk
from ledger.service.tray import DECLINED, DONE, IN, OPEN, REFUSED, SENT, Tray
from ledger.service.wallet import Wallet, purpose
from ledger.service.worker import Worker
from ledger.signers import Role, certify
from protocol.errors import ConcordatError, LedgerError, NotApproved, ProtocolError, Unavailable

DOMAIN = Domain(77, b"\7" * 20, b"\1" * 32)
CLAIM = b"\5" * 32


class Peers:
    """Other institutions; a test decides what they answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.fault: ConcordatError | None = None

    def ask(self, name: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((name, path, body))
        if self.fault is not None:
            raise self.fault
        return {}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = tables.connect(f"sqlite:///{tmp_path / 'service.sqlite'}")
    keyring, registry = (
        Keyring.create(tmp_path / "keys"),
        Keyring(secrets.token_bytes(32)).account("registry"),
    )
    certificates = {
        (role, index): certify(registry, DOMAIN, role, keyring.account(purpose(role), index).key, 1 << 40)
        for role in (Role.OBLIGOR, Role.SUPPLIER)
        for index in range(3)
    }
    wallet = Wallet(engine, keyring.account, certificates, keyring.secret("sealing"))
    kernel = SimpleNamespace(
        name="core",
        engine=engine,
        wallet=wallet,
        peers=Peers(),
        where=SimpleNamespace(domain=DOMAIN, contract=DOMAIN.contract),
        plays=lambda role: role is Role.OBLIGOR,
        reader=None,
    )
    yield Desk(kernel, Tray(engine, wallet))  # type: ignore[arg-type]
    engine.dispose()


def statement(desk: Desk) -> tuple[ConfirmIntent, Any]:
    words = [secrets.token_bytes(32) for _ in range(6)]
    signer = desk.kernel.wallet.party(Role.SUPPLIER, 0)
    return ConfirmIntent(CLAIM, *words[:5], 3_000, words[5], 1_900_000_000), signer


def asked(desk: Desk, key: str = "") -> Any:
    intent, signer = statement(desk)
    return desk._ask("core", "confirm", CLAIM, intent, signer, {}, key)


def peers(desk: Desk) -> Peers:
    found: Any = desk.kernel.peers
    return found  # type: ignore[no-any-return]


def test_a_request_waits_for_a_silent_peer_and_is_delivered_once_it_answers(desk: Desk) -> None:
    peers(desk).fault = Unavailable("PEER_SILENT", "silent")
    request = asked(desk)
    assert (request.state, request.told) == (OPEN, False)
    with pytest.raises(Unavailable):
        desk.deliver(request)
    peers(desk).fault = None
    desk.deliver(request)
    assert desk.tray.request(request.id).told
    assert {body["id"] for _, _, body in peers(desk).asked} == {request.id}


def test_a_refusing_peer_ends_the_request(desk: Desk) -> None:
    peers(desk).fault = LedgerError("TRAY_FULL", "full")
    with pytest.raises(LedgerError, match=r"\[TRAY_FULL\]"):
        asked(desk, "0" * 32)
    ended = desk.tray.request("0" * 32)
    assert (ended.state, ended.code) == (REFUSED, "TRAY_FULL")


def test_a_peers_word_refuses_and_never_fulfils(desk: Desk) -> None:
    request = asked(desk)
    worker = Worker(desk, None)  # type: ignore[arg-type]
    for state in (DONE, SENT, "final", None):
        worker.hear("core", {"id": request.id, "state": state})
        assert desk.tray.request(request.id).state == OPEN
    with pytest.raises(LedgerError, match=r"\[REQUEST_UNKNOWN\]"):
        worker.hear("bank-a", {"id": request.id, "state": DECLINED})
    worker.hear("core", {"id": request.id, "state": REFUSED, "code": "X", "detail": {"free": 3, "tag": "aa"}})
    ended = desk.tray.request(request.id)
    assert (ended.state, ended.code, ended.detail) == (REFUSED, "X", {"free": 3})
    worker.hear("core", {"id": request.id, "state": DECLINED})
    assert desk.tray.request(request.id).state == REFUSED, "once"


def message(desk: Desk, **changes: Any) -> dict[str, Any]:
    intent, signer = statement(desk)
    request = desk._ask("core", "confirm", CLAIM, intent, signer, {}, "")
    content = dict(request.content)
    found = {"id": secrets.token_hex(16), "kind": "confirm", "claim": CLAIM.hex(), "content": content}
    return {**found, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "short"},
        {"id": 5},
        {"kind": "release"},
        {"kind": "pledge"},
        {"claim": "00"},
        {"content": []},
        {"content": {}},
        {"content": {"statement": [], "signature": []}},
    ],
)
def test_what_is_no_request_is_not_kept(desk: Desk, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
        Answering(desk).take("supplier", message(desk, **changes))
    assert desk.tray.waiting() == 0


def test_a_request_is_kept_once_and_nobody_elses_id_is_taken(desk: Desk) -> None:
    answering, sent = Answering(desk), message(desk)
    first = answering.take("supplier", sent)
    assert answering.take("supplier", sent) == first
    with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
        answering.take("bank-a", sent)
    assert desk.tray.waiting() == 1
    assert answering.decline(first.id).state == DECLINED
    assert [each.id for each in desk.tray.untold()] == [first.id]
    outgoing = asked(desk)
    with pytest.raises(LedgerError, match=r"\[REQUEST_NOT_OURS\]"):
        answering.accept(outgoing.id)


def test_a_full_tray_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.tray, "waiting", lambda: MAX_OPEN)
    with pytest.raises(LedgerError, match=r"\[TRAY_FULL\]"):
        Answering(desk).take("supplier", message(desk))


def test_a_purpose_gets_one_key_until_it_has_signed(desk: Desk) -> None:
    answering = Answering(desk)
    first = answering.introduce("supplier", {"kind": "confirm", "claim": CLAIM.hex()})
    assert answering.introduce("supplier", {"kind": "confirm", "claim": CLAIM.hex()}) == first, (
        "a peer can't use keys up by asking again"
    )
    assert answering.introduce("other", {"kind": "confirm", "claim": CLAIM.hex()})["key"] != first["key"]
    with pytest.raises(NotApproved, match=r"\[ROLE_MISSING\]"):
        answering.introduce("supplier", {"kind": "pledge", "claim": CLAIM.hex()})
    with pytest.raises(ProtocolError, match=r"\[REQUEST_MALFORMED\]"):
        answering.introduce("supplier", {"kind": "release", "claim": CLAIM.hex()})


def test_a_peer_can_not_use_the_keys_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.service.answering.MAX_INTRODUCTIONS", 1)
    answering = Answering(desk)
    for _ in range(2):
        answering.introduce("supplier", {"kind": "confirm", "claim": CLAIM.hex()})
    with pytest.raises(LedgerError, match=r"\[INTRODUCTIONS\]"):
        answering.introduce("supplier", {"kind": "confirm", "claim": "06" * 32})
    answering.introduce("other", {"kind": "confirm", "claim": CLAIM.hex()})


def test_which_lien_is_paid_is_told_to_the_obligor_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else could learn from the answer which bank holds a lien."""
    answering, kernel = Answering(desk), cast(Any, desk.kernel)
    obligor, other = (kernel.wallet.party(Role.OBLIGOR, index) for index in range(2))
    kernel.body = lambda claim: SimpleNamespace(obligor=obligor.key_id)
    monkeypatch.setattr(desk.standing, "held", lambda claim: {b"\7" * 32: 0})
    asked = desk._payee_question(CLAIM, "core", obligor)
    assert answering.introduce("supplier", asked) == {"lien": "07" * 32}
    elsewhere = desk._payee_question(CLAIM, "bank-b", obligor)
    late = {**asked, "statement": {**asked["statement"], "notAfter": 1}}
    for wrong in (
        {"kind": "settle", "claim": CLAIM.hex()},
        desk._payee_question(CLAIM, "core", other),
        elsewhere,
        {**elsewhere, "salt": asked["salt"]},
        {**asked, "claim": "06" * 32},
        late,
    ):
        with pytest.raises(ProtocolError):
            answering.introduce("bank-b", wrong)


def test_a_key_that_was_not_offered_signs_nothing(desk: Desk) -> None:
    answering = Answering(desk)
    request = desk.tray.add(IN, "supplier", "confirm", CLAIM, {})
    offered = answering.introduce("supplier", {"kind": "confirm", "claim": CLAIM.hex()})
    party = desk.kernel.wallet.party(Role.OBLIGOR, 0)
    assert offered["key"] == party.certificate.key.hex()
    assert answering._own(request, Role.OBLIGOR, party.key_id) == (0, party)
    for named in (secrets.token_bytes(32), desk.kernel.wallet.party(Role.OBLIGOR, 1).key_id):
        with pytest.raises(ProtocolError, match=r"\[REQUEST_OTHER_KEY\]"):
            answering._own(request, Role.OBLIGOR, named)
    elsewhere = desk.tray.add(IN, "bank-a", "confirm", CLAIM, {})
    with pytest.raises(ProtocolError, match=r"\[REQUEST_OTHER_KEY\]"):
        answering._own(elsewhere, Role.OBLIGOR, party.key_id)


def test_what_is_stored_is_sealed_to_its_place(desk: Desk) -> None:
    wallet = desk.kernel.wallet
    sealed = wallet.seal({"a": 1}, "request/1")
    assert wallet.open(sealed, "request/1") == {"a": 1}
    for data, place in (
        (sealed, "request/2"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), "request/1"),
        (b"", "request/1"),
    ):
        with pytest.raises(ProtocolError, match=r"\[SEAL_BROKEN\]"):
            wallet.open(data, place)
    desk.tray.keep(CLAIM, "owner", {"dossier": "one"})
    with desk.kernel.engine.begin() as db:
        row = db.execute(sa.select(tables.receivables.c.sealed)).scalar_one()
        db.execute(
            sa.insert(tables.receivables).values(
                claim=b"\6" * 32, sealed=row, part="owner", key_index=0, created_at=0, paid=0, file=b""
            )
        )
    with pytest.raises(ProtocolError, match=r"\[SEAL_BROKEN\]"):
        desk.tray.receivable(b"\6" * 32)
