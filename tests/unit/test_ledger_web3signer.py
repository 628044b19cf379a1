"""Keys in a signing service: what it is asked, and that no other key's signature passes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import coincurve
import httpx
import pytest
from eth_utils.crypto import keccak

from ledger.client.web3signer import RemoteKey, RemoteSigner
from ledger.eip712 import Domain
from ledger.engine.genesis import sign_legacy
from ledger.engine.transactions import parse
from ledger.intents import ReleaseIntent
from ledger.signers import AccountKey, Certificate, Custodian, Party, Role
from protocol.errors import ConcordatError, ConfigurationError, ProtocolError, Unavailable

DOMAIN = Domain(77, b"\7" * 20, b"\1" * 32)
URL = "http://127.0.0.1:9000"


class Service:
    """A Web3Signer that has one key, as its API describes itself."""

    def __init__(self) -> None:
        self.secret = coincurve.PrivateKey()
        self.public = self.secret.public_key.format(compressed=False)[1:]
        self.answer: httpx.Response | None = None
        self.asked: list[bytes] = []
        self.client = httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.answer is not None:
            return self.answer
        if request.url.path != f"/api/v1/eth1/sign/0x{self.public.hex()}":
            return httpx.Response(404)
        data = bytes.fromhex(json.loads(request.content)["data"][2:])
        self.asked.append(data)
        raw = self.secret.sign_recoverable(keccak(data), hasher=None)
        return httpx.Response(200, text="0x" + (raw[:64] + bytes([raw[64] + 27])).hex())


def test_a_statement_is_signed_over_what_the_service_can_read() -> None:
    service = Service()
    key = RemoteKey(URL, service.public, service.client)
    assert key.key == keccak(service.public)[12:]
    certificate = Certificate(Role.BANK, key.key, Custodian.NEUTRAL, bytes(32), 5)
    intent = ReleaseIntent(b"\1" * 32, b"\2" * 32, b"\3" * 32, 9)
    signed = Party(key, certificate).sign(DOMAIN, intent)
    local = Party(AccountKey(service.secret), replace(certificate, key=key.key)).sign(DOMAIN, intent)
    assert signed == local
    assert service.asked == [b"\x19\x01" + DOMAIN.separator() + intent.struct_hash()]
    with pytest.raises(ConfigurationError, match=r"\[SIGNER_DIGEST\]"):
        key.sign(bytes(32))


def test_a_transaction_is_the_one_that_a_local_key_signs() -> None:
    service = Service()
    signer = RemoteSigner(URL, service.public, 77, service.client)
    raw = signer.sign(3, b"\5" * 20, b"data", 100_000)
    assert raw == sign_legacy(service.secret, 77, 3, b"\5" * 20, b"data", 100_000)
    assert parse(raw, 77).sender == signer.address


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (httpx.Response(404), ConfigurationError, "SIGNER_KEY"),
        (httpx.Response(403), Unavailable, "SIGNER_REFUSES"),
        (httpx.Response(500), Unavailable, "SIGNER_REFUSES"),
        (httpx.Response(200, text="no hexadecimal digits"), ProtocolError, "SIGNER_ANSWER"),
        (httpx.Response(200, text="0x" + "11" * 64), ProtocolError, "SIGNER_ANSWER"),
        (httpx.Response(200, text="0x" + "00" * 65), ProtocolError, "SIGNER_ANSWER"),
    ],
)
def test_what_is_no_signature_is_refused(answer: Any, kind: type[ConcordatError], code: str) -> None:
    service = Service()
    service.answer = answer
    with pytest.raises(kind) as refused:
        RemoteKey(URL, service.public, service.client).sign_preimage(b"x")
    assert refused.value.code == code


def test_another_keys_signature_is_refused() -> None:
    service, other = Service(), coincurve.PrivateKey()
    raw = other.sign_recoverable(keccak(b"x"), hasher=None)
    service.answer = httpx.Response(200, text="0x" + (raw[:64] + bytes([raw[64] + 27])).hex())
    with pytest.raises(ProtocolError, match=r"\[SIGNER_OTHER_KEY\]"):
        RemoteKey(URL, service.public, service.client).sign_preimage(b"x")
    raw = other.sign_recoverable(keccak(b"anything"), hasher=None)
    service.answer = httpx.Response(200, text="0x" + (raw[:64] + bytes([raw[64] + 27])).hex())
    with pytest.raises(ProtocolError, match=r"\[SIGNER_OTHER_KEY\]"):
        RemoteSigner(URL, service.public, 77, service.client).sign(0, b"\5" * 20, b"", 21_000)


def test_a_silent_service_and_a_nameless_key() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody listens")

    service = Service()
    client = httpx.Client(transport=httpx.MockTransport(silent))
    with pytest.raises(Unavailable, match=r"\[SIGNER_SILENT\]"):
        RemoteKey(URL, service.public, client).sign_preimage(b"x")
    for make in (lambda: RemoteKey(URL, b"", client), lambda: RemoteSigner(URL, b"\1" * 20, 77, client)):
        with pytest.raises(ConfigurationError, match=r"\[SIGNER_PUBLIC_KEY\]"):
            make()
