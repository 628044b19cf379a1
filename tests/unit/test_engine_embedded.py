"""What the client believes of gateway and member, with every answer made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import coincurve
import httpx
import pytest
from eth_hash.auto import keccak
from test_engine_witness import GENESIS, KEYS, NOW, checkpoint, stated

from ledger.client.embedded import EmbeddedChain
from ledger.client.ports import Place, Receipt
from ledger.engine.acknowledgement import Acknowledgement
from ledger.engine.genesis import sign_legacy
from protocol.errors import ConcordatError, LedgerError, ProtocolError, SignatureInvalid, Unavailable

RAW = sign_legacy(coincurve.PrivateKey(b"\5" * 32), GENESIS.chain.chain_id, 0, b"\1" * 20, b"", 50_000)
HASH = keccak(RAW)
PLACE = Place(3, b"\7" * 32)
ACK = Acknowledgement(GENESIS.consortium.hex(), GENESIS.chain.chain_id, HASH, 3, 0, PLACE.block_hash, NOW)
RECEIPT = {"blockNumber": "0x3", "blockHash": "0x" + "07" * 32, "status": "0x1"}


class World:
    """Answers by method or path; a test replaces one."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "concordat_sendRawTransaction": ACK.sign(KEYS["operator"].identity),
            "eth_getTransactionReceipt": RECEIPT,
            "eth_getBlockByNumber": {"hash": "0x" + "07" * 32},
            "eth_call": "0x2a",
        }
        note = stated(checkpoint(5), "bank-a", "bank-b", "bank-c").note.encode()
        self.final: tuple[int, Any] = (200, {"note": note, "size": 5, "asOf": NOW})

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/final":
            return httpx.Response(self.final[0], json=self.final[1])
        method = json.loads(request.content)["method"]
        writes = method == "concordat_sendRawTransaction"
        assert (request.url.host == "gateway") == writes, "receipts and blocks come from the own member"
        answer = self.answers[method]
        if isinstance(answer, httpx.Response):
            return answer
        if isinstance(answer, LedgerError):
            error = {"code": -32000, "message": answer.message, "data": {"code": answer.code}}
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "error": error})
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": answer})


def run(world: World, what: Callable[[EmbeddedChain], Any], now: int = NOW) -> Any:
    with httpx.Client(transport=httpx.MockTransport(world.handle)) as client:
        return what(EmbeddedChain(GENESIS, "http://gateway", "http://member/", client, lambda: now))


def send(chain: EmbeddedChain) -> Place | None:
    return chain.send(RAW)


def final(chain: EmbeddedChain) -> bool:
    return chain.is_final(PLACE)


def test_a_signed_place_that_the_own_member_has_is_believed() -> None:
    assert run(World(), send) == PLACE
    assert run(World(), lambda chain: chain.receipt(HASH)) == Receipt(PLACE, True)


@pytest.mark.parametrize("receipt", [None, {**RECEIPT, "blockHash": "0x" + "08" * 32}])
def test_a_place_that_the_own_member_has_not_is_not_yet_believed(receipt: Any) -> None:
    world = World()
    world.answers["eth_getTransactionReceipt"] = receipt
    assert run(world, send) is None


OTHER = {
    "another key": ACK.sign(KEYS["bank-a"].identity),
    "another transaction": Acknowledgement(
        ACK.consortium, ACK.chain_id, b"\1" * 32, 3, 0, PLACE.block_hash, NOW
    ).sign(KEYS["operator"].identity),
    "another chain": Acknowledgement(ACK.consortium, 5, HASH, 3, 0, PLACE.block_hash, NOW).sign(
        KEYS["operator"].identity
    ),
    "another consortium": Acknowledgement("ab" * 32, ACK.chain_id, HASH, 3, 0, PLACE.block_hash, NOW).sign(
        KEYS["operator"].identity
    ),
    "changed": {**ACK.sign(KEYS["operator"].identity), "logIndex": 4},
    "bare hash": "0x" + HASH.hex(),
    "nothing": None,
}


@pytest.mark.parametrize("name", OTHER)
def test_other_acknowledgements_are_not_used(name: str) -> None:
    world = World()
    world.answers["concordat_sendRawTransaction"] = OTHER[name]
    with pytest.raises(ProtocolError, match=r"\[LEDGER_ANSWER\]"):
        run(world, send)


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (LedgerError("TX_FEE", "fee"), LedgerError, "TX_FEE"),
        (LedgerError("LEDGER_BUSY", "busy"), Unavailable, "LEDGER_BUSY"),
        (LedgerError("LEDGER_STOPPED", "stopped"), Unavailable, "LEDGER_STOPPED"),
        (httpx.Response(200, text="nonsense"), Unavailable, "LEDGER_SILENT"),
        (httpx.Response(503, json={"title": "x"}), ProtocolError, "LEDGER_ANSWER"),
        (httpx.Response(200, json={"error": "x"}), Unavailable, "LEDGER_REFUSES"),
    ],
)
def test_refusals_are_told_from_silence(answer: Any, kind: type[ConcordatError], code: str) -> None:
    world = World()
    world.answers["concordat_sendRawTransaction"] = answer
    with pytest.raises(kind) as caught:
        run(world, send)
    assert caught.value.code == code


def test_final_is_what_enough_members_cosigned() -> None:
    assert run(World(), final) is True
    assert run(World(), lambda chain: chain.view(b"\1" * 20, b"")) == (b"\x2a", 4)
    assert run(World(), lambda chain: chain.is_final(Place(5, PLACE.block_hash))) is False


def test_two_of_three_are_not_enough_whatever_the_member_says() -> None:
    world = World()
    world.final = (200, {"note": stated(checkpoint(5), "bank-a", "bank-b").note.encode(), "asOf": NOW})
    for what in (final, lambda chain: chain.view(b"\1" * 20, b"")):
        with pytest.raises(SignatureInvalid, match=r"\[CHECKPOINT_NOT_FINAL\]"):
            run(world, what)


def test_old_words_are_unknown() -> None:
    assert run(World(), final, NOW + 30) is True
    for what in (final, lambda chain: chain.view(b"\1" * 20, b"")):
        with pytest.raises(Unavailable, match=r"\[LEDGER_STALE\]"):
            run(World(), what, NOW + 31)


@pytest.mark.parametrize("block", [{"hash": "0x" + "08" * 32}, None, "x"])
def test_another_block_under_a_final_checkpoint_stops_everything(block: Any) -> None:
    world = World()
    world.answers["eth_getBlockByNumber"] = block
    with pytest.raises(LedgerError, match=r"\[LEDGER_FORKED\]"):
        run(world, final)


@pytest.mark.parametrize(
    ("status", "content", "kind", "code"),
    [
        (409, {"title": "LEDGER_HALTED", "detail": "evidence"}, LedgerError, "LEDGER_HALTED"),
        (503, {"title": "LEDGER_BEHIND"}, Unavailable, "LEDGER_BEHIND"),
        (500, [], Unavailable, "LEDGER_SILENT"),
        (200, {"note": 5}, ProtocolError, "LEDGER_ANSWER"),
        (200, {"note": "x", "asOf": NOW}, ProtocolError, "NOTE_MALFORMED"),
    ],
)
def test_a_member_that_cannot_say_is_unknown(
    status: int, content: Any, kind: type[ConcordatError], code: str
) -> None:
    world = World()
    world.final = (status, content)
    with pytest.raises(kind) as caught:
        run(world, final)
    assert caught.value.code == code
