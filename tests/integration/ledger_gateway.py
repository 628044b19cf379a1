"""The consortium's real contracts behind real processes, with the same world that the contract tests stand on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from engine_processes import Process, Sender, free_port
from ledger_world import Outcome, World

from ledger import abi
from ledger.abi import Genesis, decode_event, decode_result, encode_call
from ledger.commitments import key_id
from ledger.eip712 import Domain
from ledger.engine import ceremony
from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.signers import AccountKey, Role
from protocol import document

BANKS = ("bank-a", "bank-b", "bank-c")
GAS = 16_000_000


class GatewayWorld(World):
    """The contract tests' world, on a chain behind a gateway; time is the clock's."""

    def __init__(
        self, url: str, genesis: genesis_document.Genesis, registry: AccountKey, council: Any
    ) -> None:
        self.url = url
        self.chain_id = genesis.chain.chain_id
        self.registry, self.council = registry, council
        assert genesis.registry is not None
        names = {"registry": "Ledger"}
        self.at = {names.get(each.name, each.name): each.address for each in genesis.contracts}
        self.domain = Domain(self.chain_id, self.at["Ledger"], genesis.consortium)
        self.client = httpx.Client(trust_env=False, timeout=60)
        self.sender = Sender(self.chain_id)
        self.members = [self.party(Role.MEMBER) for _ in range(2)]

    @property
    def time(self) -> int:  # type: ignore[override]
        """The clock's time."""
        return int(time.time())

    def pass_time(self, seconds: int = 12, blocks: int = 1) -> None:
        """Every transaction is a block of its own here."""

    def rpc(self, method: str, *params: Any) -> Any:
        """A JSON-RPC answer."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self.client.post(self.url, json=body).json()
        assert "error" not in answer, answer
        return answer["result"]

    def raw(self, to: bytes, data: bytes, gas: int = GAS) -> Outcome:
        """Submit calldata; a lien's id stands in for what the call returned."""
        raw = self.sender.sign(to, data, min(gas, GAS))
        transaction = self.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        receipt = self.rpc("eth_getTransactionReceipt", transaction)
        used = int(receipt["gasUsed"], 16)
        if receipt["status"] != "0x1":
            return Outcome(False, _bytes(self.rpc("concordat_getRevertData", transaction)), used)
        events = tuple(
            decode_event([_bytes(topic) for topic in log["topics"]], _bytes(log["data"]))
            for log in receipt["logs"]
        )
        lien = next((one.fields["lienId"] for one in events if one.name == "Pledged"), b"")
        return Outcome(True, lien, used, events)

    def view(self, function: str, *arguments: Any) -> Any:
        """Call a view; a single value comes back bare."""
        call = {"to": "0x" + self.at["Ledger"].hex(), "data": "0x" + encode_call(function, arguments).hex()}
        values = decode_result(function, _bytes(self.rpc("eth_call", call, "latest")))
        return values[0] if len(values) == 1 else values


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def found(folder: Path, names: tuple[str, ...], engine: str = "edr") -> tuple[AccountKey, list[AccountKey]]:
    """Write genesis documents and keys of an operator and members, each into a folder of its own."""
    registry = AccountKey.new()
    council = sorted((AccountKey.new() for _ in range(3)), key=lambda key: key_id(key.key))
    keys = {name: ledger_keys.create(folder / name / "keys") for name in dict.fromkeys(("operator", *names))}

    def creations(_chain: int, consortium: bytes, deployer: bytes) -> list[tuple[str, bytes]]:
        start = Genesis(consortium, registry.key, tuple(key_id(key.key) for key in council), 2)
        return [(each.name, each.data) for each in abi.deployment(start, deployer)]

    members = [keys[name].member(name) for name in names]
    operator = keys["operator"].member("operator")
    body = asyncio.run(
        ceremony.build(operator, members, int(time.time()), creations, registry="Ledger", engine=engine)
    )
    signed = document.sign(genesis_document.KIND, body, "operator", keys["operator"].identity)
    for name in names:
        if name != "operator":
            signed = document.add_signature(signed, name, keys[name].identity)
    for name in keys:
        write_genesis(folder / name, signed)
    return registry, council


def genesis_of(folder: Path) -> genesis_document.Genesis:
    """The checked genesis document."""
    return genesis_document.check(json.loads((folder / "operator" / "genesis.json").read_text()))


@contextmanager
def running(
    folder: Path, names: tuple[str, ...] = ("operator",), engine: str = "edr"
) -> Iterator[tuple[GatewayWorld, dict[str, str]]]:
    """A gateway, and a replica for each member that is not the operator; gives the world and all URLs."""
    registry, council = found(folder, names, engine)
    urls = {}
    try:
        operator = Process("up", "--data", str(folder / "operator")).start()
        urls["operator"] = operator.url
        ports = {name: free_port() for name in names if name != "operator"}
        replicas = {
            name: Process(
                *("member", "--data", str(folder / name), "--name", name),
                *("--operator", operator.url, "--port", str(port)),
                *(
                    part
                    for other, at in ports.items()
                    if other != name
                    for part in ("--peer", f"{other}=http://127.0.0.1:{at}")
                ),
            ).spawn()
            for name, port in ports.items()
        }
        for name, replica in replicas.items():
            urls[name] = replica.wait().url
        world = GatewayWorld(operator.url, genesis_of(folder), registry, council)
        with world.client:
            yield world, urls
    finally:
        Process.stop_all()
