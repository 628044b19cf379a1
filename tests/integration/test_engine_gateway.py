"""The gateway as its clients see it: one process that starts, takes transactions, and comes back after a
kill."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_processes import Process, Sender, counter_code, gateway, needs_engine
from eth_hash.auto import keccak
from web3 import Web3

from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import Contract
from protocol import document

pytestmark = [pytest.mark.integration, needs_engine]


def counter_ledger(data: Path, engine: str = "edr") -> bytes:
    """Write keys and a genesis with the counter contract; return its address."""
    keys = ledger_keys.create(data / "keys")
    me = keys.member("operator")
    chain_id = genesis_document.new_chain_id()
    creation, runtime = counter_code()
    raws, addresses = genesis_document.deploy(chain_id, [("registry", creation)])
    contracts = [Contract("registry", addresses["registry"], keccak(runtime))]
    body = genesis_document.draft(
        me, [me], int(time.time()), engine=engine, chain_id=chain_id, deployments=raws, contracts=contracts
    )
    write_genesis(data, document.sign(genesis_document.KIND, body, "operator", keys.identity))
    return addresses["registry"]


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture(params=["edr", "anvil"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Process, bytes]]:
    address = counter_ledger(tmp_path / "ledger", request.param)
    process = gateway(tmp_path / "ledger").start()
    yield process, address
    process.stop()


def test_a_web3_client_sends_and_the_head_survives_a_kill(ledger: tuple[Process, bytes]) -> None:
    process, address = ledger
    web3 = Web3(Web3.HTTPProvider(process.url))
    sender = Sender(web3.eth.chain_id)
    hashes = [web3.eth.send_raw_transaction(sender.sign(address, word(number))) for number in (1, 2, 3)]
    receipts = [web3.eth.wait_for_transaction_receipt(each, timeout=10) for each in hashes]
    assert [each["status"] for each in receipts] == [1, 1, 1]
    assert int.from_bytes(web3.eth.call({"to": Web3.to_checksum_address(address)}), "big") == 6
    before = process.health()["head"]
    process.kill()
    process.start()
    assert process.health()["head"] == before
    assert Web3(Web3.HTTPProvider(process.url)).eth.get_transaction_receipt(hashes[2]) == receipts[2]
