"""Which raw transactions the ledger takes; eth-account makes them, so the encoding is not our own word."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from ledger.engine import rlp
from ledger.engine.transactions import parse
from protocol.errors import LedgerError, ProtocolError

CHAIN = 4_033_412_734_550_614
KEY = Account.from_key(b"\7" * 32)
TO = "0x" + "11" * 20
BASE: dict[str, Any] = {
    "chainId": CHAIN,
    "nonce": 300,
    "to": TO,
    "value": 0,
    "gas": 100_000,
    "data": b"ab" * 40,
}
LEGACY = {"gasPrice": 0}
ACCESS = {"type": 1, "gasPrice": 0, "accessList": [{"address": TO, "storageKeys": ["0x" + "22" * 32]}]}
FEES = {"type": 2, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
KINDS = [LEGACY, ACCESS, FEES]
HALF_N = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def raw(**changes: Any) -> bytes:
    return bytes(KEY.sign_transaction({**BASE, **changes}).raw_transaction)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 300])
def test_sender_hash_and_nonce_are_those_of_eth_account(kind: dict[str, Any], nonce: int) -> None:
    signed = KEY.sign_transaction({**BASE, **kind, "nonce": nonce})
    found = parse(bytes(signed.raw_transaction), CHAIN)
    assert found.hash == bytes(signed.hash)
    assert found.sender.hex() == KEY.address[2:].lower()
    assert (found.nonce, found.gas, found.to.hex()) == (nonce, 100_000, "11" * 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chainId": CHAIN + 1}, "TX_CHAIN"),
        ({"to": ""}, "TX_CREATES_CONTRACT"),
        ({"value": 1}, "TX_VALUE"),
        ({"gas": 20_999}, "TX_GAS"),
        ({"gas": (1 << 24) + 1}, "TX_GAS"),
        ({"nonce": (1 << 64) - 1}, "TX_MALFORMED"),
        ({"data": bytes(130_000)}, None),
        ({"data": bytes(131_072)}, "TX_SIZE"),
    ],
)
def test_what_the_ledger_does_not_take(
    kind: dict[str, Any], changes: dict[str, Any], code: str | None
) -> None:
    data = raw(**{**kind, **changes})
    if code is None:
        parse(data, CHAIN)
        return
    with pytest.raises(LedgerError) as caught:
        parse(data, CHAIN)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "fees",
    [
        *[{"gasPrice": 1}, {**ACCESS, "gasPrice": 1}, {**FEES, "maxFeePerGas": 1}],
        {**FEES, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1},
    ],
)
def test_fees_are_refused(fees: dict[str, Any]) -> None:
    with pytest.raises(LedgerError, match=r"\[TX_FEE\]"):
        parse(raw(**fees), CHAIN)


def test_a_creation_is_taken_from_the_genesis_document_only() -> None:
    data = raw(**LEGACY, to="")
    assert parse(data, CHAIN, deployment=True).to == b""
    with pytest.raises(LedgerError, match=r"\[TX_CREATES_CONTRACT\]"):
        parse(data, CHAIN)


def test_a_transaction_for_any_chain_is_refused() -> None:
    tx = {key: value for key, value in {**BASE, **LEGACY}.items() if key != "chainId"}
    with pytest.raises(LedgerError, match=r"\[TX_CHAIN\]"):
        parse(bytes(KEY.sign_transaction(tx).raw_transaction), CHAIN)


def test_set_code_and_blob_transactions_are_refused() -> None:
    authorisation = KEY.sign_authorization({"chainId": CHAIN, "address": TO, "nonce": 0})
    signed = KEY.sign_transaction({**BASE, **FEES, "type": 4, "authorizationList": [authorisation]})
    for data in (bytes(signed.raw_transaction), b"\3" + raw(**FEES)[1:], b"\0" + raw(**FEES)[1:], b"\x7f"):
        with pytest.raises(LedgerError, match=r"\[TX_TYPE\]"):
            parse(data, CHAIN)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mirrored_signature_is_refused(kind: dict[str, Any]) -> None:
    """(r, n − s, 1 − v) also recovers the sender; with it one intent would have two hashes."""
    data = raw(**kind)
    prefix, body = (b"", data) if data[0] >= 0xC0 else (data[:1], data[1:])
    fields = [content if content is not None else encoded for encoded, content in rlp.items(body)]
    order = 2 * HALF_N + 1
    v, s = int.from_bytes(fields[-3], "big"), int.from_bytes(fields[-1], "big")
    mirrored_v = (2 * (CHAIN * 2 + 35) + 1 - v) if not prefix else 1 - v
    encoded = [each[0] for each in rlp.items(body)]
    encoded[-3], encoded[-1] = rlp.encode_number(mirrored_v), rlp.encode_number(order - s)
    with pytest.raises(LedgerError, match=r"\[TX_SIGNATURE\]"):
        parse(prefix + rlp.encode_list(encoded), CHAIN)


@given(st.sampled_from(KINDS), st.data())
def test_a_changed_byte_never_keeps_the_sender(kind: dict[str, Any], data: st.DataObject) -> None:
    original = raw(**kind)
    at = data.draw(st.integers(0, len(original) - 1))
    changed = original[:at] + bytes([original[at] ^ data.draw(st.integers(1, 255))]) + original[at + 1 :]
    with contextlib.suppress(LedgerError):
        assert parse(changed, CHAIN).sender.hex() != KEY.address[2:].lower()


@given(st.binary(max_size=300))
def test_noise_is_refused_cleanly(data: bytes) -> None:
    with pytest.raises(LedgerError):
        parse(data, CHAIN)


@given(st.lists(st.binary(max_size=70), max_size=20))
def test_lists_of_bytes_round_trip(values: list[bytes]) -> None:
    encoded = rlp.encode_list([rlp.encode_bytes(value) for value in values])
    assert [content for _, content in rlp.items(encoded)] == values


@pytest.mark.parametrize(
    "data",
    [
        *["", "80", "c1", "c28100", "c281 7f", "c3b801ff", "f80101", "c0c0", "f90001c0", "c2ff", "c4b800"],
        *["f8", "c1b9", "f838" + "00" * 55],
    ],
)
def test_other_spellings_of_a_list_are_refused(data: str) -> None:
    with pytest.raises(ProtocolError, match=r"\[RLP_MALFORMED\]"):
        rlp.items(bytes.fromhex(data))
