"""A ledger service on a chain of validators: real contracts on a raw node whose blocks are replaced."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from engine_processes import needs_engine

from ledger.client.submission import State
from ledger.eip712 import Domain
from ledger.engine import founding
from ledger.engine import genesis as genesis_document
from ledger.engine.anvil import AnvilEngine
from ledger.engine.port import ChainParameters
from ledger.index import tables
from ledger.index.audit import audit
from ledger.keyring import Keyring
from ledger.service.config import ServiceConfig
from ledger.service.runtime import Runtime
from ledger.service.wallet import certificate_json, purpose
from ledger.signers import Role, certify
from ledger.tags import KeeperKeys
from node.keystore import write_private
from protocol.errors import ConfigurationError, Unavailable

pytestmark = [pytest.mark.integration, needs_engine]
CHAIN, DEPTH = 777, 2

Ask = Callable[..., Any]


def test_calls_and_index_survive_replaced_blocks(tmp_path: Path) -> None:
    async def run() -> None:
        engine = AnvilEngine()
        await engine.start(ChainParameters(CHAIN, int(time.time())))
        try:
            await asyncio.to_thread(story, engine.url, tmp_path)
        finally:
            await engine.close()

    asyncio.run(run())


def service(url: str, home: Path, ask: Ask) -> Runtime:
    """Deploy the contracts and wire a member's service to them."""
    authority, consortium = founding.authority(home / "authority"), os.urandom(32)
    raws, at = genesis_document.deploy(
        CHAIN, lambda deployer: authority.creations(CHAIN, consortium, deployer)
    )
    for raw in raws:
        ask("eth_sendRawTransaction", "0x" + raw.hex())
    ask("evm_mine")
    domain = Domain(CHAIN, at["Ledger"], consortium)
    key = Keyring.create(home / "keys").account(purpose(Role.MEMBER)).key
    made = certify(authority.registry, domain, Role.MEMBER, key, int(time.time()) + 86_400)
    (home / "certificates.json").write_text(json.dumps({"certificates": [certificate_json(made, 0)]}))
    write_private(home / "operator.token", secrets.token_urlsafe(32).encode())
    seed = secrets.token_bytes(32)
    write_private(home / "seed", seed.hex().encode())
    public = {str(epoch): one.hex() for epoch, one in KeeperKeys(seed, consortium, (1,)).public.items()}
    chain = {
        "kind": "validators",
        "node": url,
        "depth": DEPTH,
        "max_age": 3_600,
        "chain_id": CHAIN,
        "consortium": consortium.hex(),
        "contract": at["Ledger"].hex(),
    }
    config = {
        "institution": {"name": "member", "roles": ["member"]},
        "chain": chain,
        "tags": {"keeper": "member", "public_keys": public, "seed_file": "seed"},
    }
    return Runtime(ServiceConfig.model_validate(config).model_copy(update={"base": home}))


def story(url: str, home: Path) -> None:
    with httpx.Client(trust_env=False, timeout=20) as client:

        def ask(method: str, *params: Any) -> Any:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
            answer = client.post(url, json=body).json()
            assert "error" not in answer, answer
            return answer["result"]

        runtime = service(url, home, ask)
        try:
            replaced_before_it_is_final(runtime, ask)
            replaced_below_what_was_final(runtime, ask)
        finally:
            runtime.kernel.close()


def mine(ask: Ask, count: int) -> None:
    for _ in range(count):
        ask("evm_mine")


def told(runtime: Runtime) -> list[str]:
    with runtime.kernel.engine.begin() as db:
        return list(db.execute(sa.select(tables.events.c.name)).scalars())


def replaced_before_it_is_final(runtime: Runtime, ask: Ask) -> None:
    kernel, worker = runtime.kernel, runtime.worker
    opening = runtime.desk.anchoring.anchor([os.urandom(32)], 1)[0]
    fork = ask("evm_snapshot")
    worker.tick()
    mine(ask, 1)
    worker.tick()
    call = kernel.outbox.open(1)[0]
    assert call.state is State.INCLUDED
    ask("evm_revert", fork)
    ask("anvil_dropAllTransactions")
    mine(ask, 1)
    worker.tick()
    assert kernel.pump.alerts == 1
    for _ in range(5):
        worker.tick()
        mine(ask, 1)
    worker.tick()
    assert kernel.outbox.get(call.key).state is State.FINAL
    assert told(runtime) == ["RootAnchored"], "once, wherever it stands"
    anchored = kernel.view("anchoredAt", 1, opening.root, opening.count, opening.member)[0]
    assert anchored[0] > 0
    assert audit(kernel.engine, kernel.reader, kernel.where.contract).differences == ()
    assert runtime.health()["status"] == "ok"


def replaced_below_what_was_final(runtime: Runtime, ask: Ask) -> None:
    """Deeper than the configured depth: the index goes back with the chain, and the operator sees it."""
    kernel, worker = runtime.kernel, runtime.worker
    fork = ask("evm_snapshot")
    runtime.desk.anchoring.anchor([os.urandom(32)], 1)
    worker.tick()
    mine(ask, DEPTH + 2)
    worker.tick()
    worker.tick()
    assert told(runtime) == ["RootAnchored"] * 2
    ask("evm_revert", fork)
    ask("anvil_dropAllTransactions")
    mine(ask, DEPTH + 4)
    worker.tick()
    assert told(runtime) == ["RootAnchored"]
    assert runtime.health()["reorganisations"] == 1
    assert audit(kernel.engine, kernel.reader, kernel.where.contract).differences == ()


def test_a_chain_of_validators_must_be_named(tmp_path: Path) -> None:
    from ledger.service.kernel import build

    chain = {"kind": "validators", "node": "http://127.0.0.1:1", "contract": "00"}
    config = {"institution": {"name": "member", "roles": ["member"]}, "chain": chain, "tags": {"keeper": "x"}}
    with pytest.raises(ConfigurationError, match=r"\[CHAIN_CONFIG\]"):
        build(ServiceConfig.model_validate(config).model_copy(update={"base": tmp_path}))
    config["chain"] = {"kind": "embedded"}
    with pytest.raises(ConfigurationError, match=r"\[CHAIN_CONFIG\]"):
        build(ServiceConfig.model_validate(config).model_copy(update={"base": tmp_path}))


def test_what_a_stale_node_says_is_unknown(tmp_path: Path) -> None:
    from ledger.client.raw import RawChain

    old = {"number": "0x9", "hash": "0x" + "11" * 32, "timestamp": hex(int(time.time()) - 120)}
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"result": old}))
    with httpx.Client(transport=answer) as client:
        chain = RawChain("http://node", client)
        for look in (chain.final_height, lambda: chain.view(bytes(20), b"")):
            with pytest.raises(Unavailable, match=r"\[LEDGER_STALE\]"):
                look()
