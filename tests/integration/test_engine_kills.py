"""A client, its gateway and its replica are killed in turn under load; every call counts exactly once."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_processes import Process, counter_code, free_port, needs_engine
from eth_hash.auto import keccak

from ledger.client.outbox import Outbox, connect
from ledger.client.submission import State
from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import Contract
from protocol import document

pytestmark = [pytest.mark.integration, needs_engine]
ROUNDS = int(os.environ.get("CONCORDAT_KILLS", "4"))
CALLS = 25

CLIENT = """
import json, sys, time
from pathlib import Path
import coincurve, httpx
from ledger.client.embedded import EmbeddedChain
from ledger.client.outbox import Outbox, connect
from ledger.client.pump import Pump
from ledger.client.signer import LocalSigner
from ledger.engine.folder import read_genesis
data, url, gateway, member, address, first, last = sys.argv[1:]
genesis = read_genesis(Path(data))
engine = connect(url)
signer = LocalSigner(coincurve.PrivateKey(b"\\5" * 32), genesis.chain.chain_id)
with httpx.Client(trust_env=False, timeout=5) as client:
    outbox = Outbox(engine)
    chain = EmbeddedChain(genesis, gateway, member, client)
    pump = Pump(outbox, chain, {signer.address: signer}, bytes.hex)
    print("running", flush=True)
    for number in range(int(first), int(last)):
        outbox.add(f"call-{number}", signer, bytes.fromhex(address), (1).to_bytes(32, "big"), 200_000)
        pump.work()
    while outbox.open(1):
        pump.work()
        time.sleep(0.05)
engine.dispose()
"""


def test_every_call_counts_exactly_once(tmp_path: Path) -> None:
    keys = ledger_keys.create(tmp_path / "operator/keys")
    me, chain_id = keys.member("operator"), genesis_document.new_chain_id()
    creation, runtime = counter_code()
    raws, addresses = genesis_document.deploy(chain_id, [("registry", creation)])
    contracts = [Contract("registry", addresses["registry"], keccak(runtime))]
    body = genesis_document.draft(
        me, [me], int(time.time()), chain_id=chain_id, deployments=raws, contracts=contracts
    )
    signed = document.sign(genesis_document.KIND, body, "operator", keys.identity)
    write_genesis(tmp_path / "operator", signed)
    shutil.copytree(tmp_path / "operator", tmp_path / "member")
    ports = [free_port(), free_port()]
    gateway_url, member_url = (f"http://127.0.0.1:{port}" for port in ports)
    gateway = Process("up", "--data", str(tmp_path / "operator"), "--port", str(ports[0])).spawn()
    arguments = [
        "member",
        "--data",
        str(tmp_path / "member"),
        "--name",
        "operator",
        "--operator",
        gateway_url,
    ]
    replica = Process(*arguments, "--port", str(ports[1])).spawn()
    url = f"sqlite:///{tmp_path / 'outbox.sqlite'}"
    common = [str(tmp_path / "operator"), url, gateway_url, member_url, addresses["registry"].hex()]

    def client(last: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CLIENT, *common, "0", str(last)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    try:
        gateway.wait()
        replica.wait()
        for number in range(1, ROUNDS + 1):
            running = client(CALLS * number)
            assert running.stdout is not None
            assert running.stdout.readline() == "running\n"
            time.sleep(secrets.randbelow(600) / 1000)
            victim = (running, gateway, replica)[number % 3]
            victim.kill()
            if isinstance(victim, Process):
                victim.start()
                time.sleep(0.2)
                running.kill()
            running.communicate(timeout=30)
        last = client(CALLS * ROUNDS)
        assert last.communicate(timeout=120)[0] == "running\n"
        assert last.returncode == 0
        engine = connect(url)
        calls = [Outbox(engine).get(f"call-{number}") for number in range(CALLS * ROUNDS)]
        engine.dispose()
        assert {call.state for call in calls} == {State.FINAL}
        assert all(call.succeeded for call in calls)
        assert sorted(call.nonce for call in calls) == list(range(CALLS * ROUNDS))
        total = replica.result("eth_call", {"to": "0x" + addresses["registry"].hex()}, "latest")
        assert int(total, 16) == CALLS * ROUNDS
        assert replica.health()["status"] == "ok"
    finally:
        Process.stop_all()
