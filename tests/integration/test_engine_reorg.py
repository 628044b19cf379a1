"""The client on a raw chain whose blocks are replaced: anvil, asked to reorganise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coincurve
import httpx
import pytest
from engine_processes import needs_engine
from sqlalchemy.engine import Engine

from ledger.client.outbox import Outbox, connect
from ledger.client.pump import Pump
from ledger.client.raw import RawChain
from ledger.client.signer import LocalSigner
from ledger.client.submission import Answer, State, view
from ledger.engine.anvil import AnvilEngine
from ledger.engine.port import ChainParameters
from protocol.errors import LedgerError, ProtocolError, Unavailable

pytestmark = [pytest.mark.integration, needs_engine]
CHAIN = 777


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'outbox.sqlite'}")
    yield engine
    engine.dispose()


def test_a_call_whose_block_is_replaced_is_sent_again(database: Engine) -> None:
    async def run() -> None:
        engine = AnvilEngine()
        await engine.start(ChainParameters(CHAIN, int(time.time())))
        try:
            await asyncio.to_thread(story, engine.url, database)
        finally:
            await engine.close()

    asyncio.run(run())


def story(url: str, database: Engine) -> None:
    with httpx.Client(trust_env=False, timeout=20) as client:

        def ask(method: str, *params: Any) -> Any:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
            answer = client.post(url, json=body).json()
            assert "error" not in answer, answer
            return answer["result"]

        outbox, signer = Outbox(database), LocalSigner(coincurve.PrivateKey(), CHAIN)
        chain = RawChain(url, client, depth=2)
        pump = Pump(outbox, chain, {signer.address: signer}, lambda data: data.hex())
        outbox.add("a", signer, b"\1" * 20, b"data", 100_000)
        assert pump.work() == 0, "in the pool, in no block"
        fork = ask("evm_snapshot")
        ask("evm_mine")
        assert pump.work() == 1
        assert outbox.get("a").state is State.INCLUDED
        ask("evm_mine")
        assert pump.work() == 0, "not deep enough"
        ask("evm_revert", fork)
        ask("anvil_dropAllTransactions")
        ask("evm_mine")
        assert pump.work() == 1
        assert (outbox.get("a").state, pump.alerts) == (State.QUEUED, 1)
        pump.work()
        for _ in range(3):
            ask("evm_mine")
        pump.work()
        pump.work()
        assert view(outbox.get("a"), fresh=True) is Answer.DONE
        assert int(ask("eth_getTransactionCount", "0x" + signer.address.hex(), "latest"), 16) == 1
        # A chain that stands still is not judged by.
        late = RawChain(url, client, clock=lambda: time.time() + 1000)
        with pytest.raises(Unavailable, match=r"\[LEDGER_STALE\]"):
            late.is_final(outbox_place(outbox))


def outbox_place(outbox: Outbox) -> Any:
    from ledger.client.ports import Place

    call = outbox.get("a")
    assert call.block is not None
    return Place(call.block, call.block_hash)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("nonce too low", "TX_NONCE_USED"),
        ("Intrinsic gas exceeds gas limit", "TX_REFUSED"),
        ("already known", None),
        ("Transaction pool is full", "LEDGER_REFUSES"),
    ],
)
def test_what_nodes_say(message: str, expected: str | None) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"error": {"message": message}}))
    with httpx.Client(transport=answer) as client:
        chain = RawChain("http://node", client)
        if expected is None:
            assert chain.send(b"raw") is None
            return
        with pytest.raises((LedgerError, Unavailable), match=rf"\[{expected}\]"):
            chain.send(b"raw")


@pytest.mark.parametrize("content", [b"[]", b'{"result": {"status": 1}}', b"nonsense"])
def test_answers_that_cannot_be_used_are_refused(content: bytes) -> None:
    with httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    ) as client:
        chain = RawChain("http://node", client)
        with pytest.raises((ProtocolError, Unavailable)):
            chain.receipt(b"\1" * 32)


def test_headers_of_proof_of_authority_chains_are_read() -> None:
    """QBFT puts validators and seals into extra data, far beyond 32 bytes."""
    header = {"number": "0x9", "hash": "0x" + "11" * 32, "timestamp": hex(int(time.time()))}
    block = {"result": {**header, "extraData": "0x" + "00" * 400}}
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=block))) as client:
        from ledger.client.ports import Place

        chain = RawChain("http://node", client)
        assert chain.is_final(Place(8, b"\x11" * 32))
        assert not chain.is_final(Place(8, b"\x22" * 32))
        assert not chain.is_final(Place(9, b"\x11" * 32))
