"""The consortium's real contracts on the embedded chain, from genesis document to a decoded refusal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from engine_processes import Process, Sender, gateway, needs_engine

from ledger import abi
from ledger.commitments import key_id
from ledger.engine import ceremony
from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.signers import AccountKey
from protocol import document
from protocol.errors import ProtocolError

pytestmark = [pytest.mark.integration, needs_engine]

REGISTRY = AccountKey.new()
COUNCIL = sorted(key_id(AccountKey.new().key) for _ in range(3))


def creations(chain_id: int, consortium: bytes, deployer: bytes) -> Sequence[tuple[str, bytes]]:
    start = abi.Genesis(consortium, REGISTRY.key, tuple(COUNCIL), 2)
    return [(each.name, each.data) for each in abi.deployment(start, deployer)]


def test_the_real_contracts_stand_after_genesis_and_refuse_by_name(tmp_path: Path) -> None:
    keys = ledger_keys.create(tmp_path / "keys")
    me = keys.member("operator")
    body = asyncio.run(ceremony.build(me, [me], int(time.time()), creations, registry="Ledger"))
    genesis = genesis_document.check(document.sign(genesis_document.KIND, body, "operator", keys.identity))
    ceremony.check_build(genesis, creations)
    with pytest.raises(ProtocolError, match=r"\[GENESIS_OTHER_CODE\]"):
        ceremony.check_build(genesis, lambda *known: [*creations(*known)[:-1], ("AddressBook", b"\0")])
    write_genesis(tmp_path, document.sign(genesis_document.KIND, body, "operator", keys.identity))
    process = gateway(tmp_path).start()
    try:
        assert genesis.registry is not None
        sender = Sender(genesis.chain.chain_id)
        raw = sender.sign(genesis.registry.address, b"\xde\xad\xbe\xef", 1_000_000)
        transaction = process.result("eth_sendRawTransaction", "0x" + raw.hex())
        assert process.result("eth_getTransactionReceipt", transaction)["status"] == "0x0"
        data = bytes.fromhex(process.result("concordat_getRevertData", transaction)[2:])
        assert abi.decode_refusal(data).code.startswith("LEDGER_")
        before = process.health()["head"]
        process.kill()
        assert process.start().health()["head"] == before
    finally:
        Process.stop_all()
