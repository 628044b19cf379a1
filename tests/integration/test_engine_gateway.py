"""The gateway as its clients see it: one process that starts, takes transactions, and comes back after a
kill."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from engine_processes import Process, Sender, counter_code, eventually, gateway, needs_engine
from eth_hash.auto import keccak
from web3 import Web3

from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine import records
from ledger.engine.acknowledgement import verify
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import Contract, Member, sign_legacy
from ledger.engine.log import DurableLog
from ledger.engine.records import BlockRecord
from protocol import document
from protocol.errors import SignatureInvalid
from protocol.keys import PublicKey

pytestmark = [pytest.mark.integration, needs_engine]


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    before = list(Process.alive)
    yield
    Process.stop_all(*before)


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


def test_a_refused_call_keeps_its_reason(ledger: tuple[Process, bytes]) -> None:
    process, address = ledger
    sender = Sender(process.health()["chainId"])
    raw = sender.sign(address, b"\xff" * 32)
    transaction = process.result("eth_sendRawTransaction", "0x" + raw.hex())
    assert process.result("eth_getTransactionReceipt", transaction)["status"] == "0x0"
    assert process.result("concordat_getRevertData", transaction) == "0xdeadbeef"
    error = process.rpc("eth_call", {"to": "0x" + address.hex(), "data": "0x" + "ff" * 32}, "latest")["error"]
    assert (error["code"], error["data"]) == (3, "0xdeadbeef")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, bytes]]:
    """One EDR ledger for the tests that leave it running."""
    data = tmp_path_factory.mktemp("shared") / "ledger"
    address = counter_ledger(data)
    process = gateway(data).start()
    yield process, address
    process.stop()


def test_acknowledgements_are_signed_and_the_same_for_a_transaction_sent_again(
    shared: tuple[Process, bytes],
) -> None:
    process, address = shared
    genesis = json.loads((Path(process.arguments[2]) / "genesis.json").read_text())["body"]
    operator = PublicKey.from_hex(genesis["operator"]["identity"])
    sender = Sender(genesis["chain_id"])
    raw = "0x" + sender.sign(address, word(5)).hex()
    first = process.result("concordat_sendRawTransaction", raw)
    found = verify(first, operator)
    block = process.result("eth_getBlockByNumber", hex(found.log_index), False)
    assert block["hash"] == first["blockHash"]
    assert block["transactions"][found.position] == first["transactionHash"]
    assert process.result("concordat_sendRawTransaction", raw) == first
    assert process.result("concordat_getAcknowledgement", first["transactionHash"]) == first
    with pytest.raises(SignatureInvalid):
        verify({**first, "logIndex": 1}, operator)


def test_refusals_name_their_code_and_leave_no_record(shared: tuple[Process, bytes]) -> None:
    process, address = shared
    chain_id, records = process.health()["chainId"], process.health()["records"]
    sender = Sender(chain_id)
    creation, _ = counter_code()
    cases = {
        "TX_CREATES_CONTRACT": sign_legacy(sender.key, chain_id, 0, b"", creation, 200_000),
        "TX_CHAIN": sign_legacy(sender.key, chain_id + 1, 0, address, b"", 200_000),
        "TX_NONCE_GAP": sign_legacy(sender.key, chain_id, 5, address, b"", 200_000),
        # Enough for the ledger's own check, not for the call data: the engine refuses it.
        "TX_REFUSED": sign_legacy(sender.key, chain_id, 0, address, b"\1" * 1000, 21_000),
        "TX_MALFORMED": b"\xc0",
    }
    for code, raw in cases.items():
        assert process.rpc("eth_sendRawTransaction", "0x" + raw.hex())["error"]["data"]["code"] == code
    answer = process.rpc("hardhat_setBalance", "0x" + address.hex(), "0x1")
    assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (-32601, "RPC_NOT_ALLOWED")
    assert process.health()["records"] == records
    # A used nonce, once the right transaction came.
    raw = sender.sign(address)
    process.result("eth_sendRawTransaction", "0x" + raw.hex())
    again = sign_legacy(sender.key, chain_id, 0, address, b"other", 200_000)
    assert (
        process.rpc("eth_sendRawTransaction", "0x" + again.hex())["error"]["data"]["code"] == "TX_NONCE_USED"
    )


def test_a_refused_transaction_takes_its_senders_later_ones_with_it(shared: tuple[Process, bytes]) -> None:
    process, address = shared
    sender = Sender(process.health()["chainId"])
    raws = [sender.sign(address, b"\1" * 1000, 21_000), sender.sign(address, word(1))]
    batch = [
        {"jsonrpc": "2.0", "id": at, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
        for at, raw in enumerate(raws)
    ]
    answers = process.client.post(process.url, json=batch).json()
    assert all("error" in answer for answer in answers)
    # The pool keeps nothing of them: the next block holds what it should.
    assert process.result("eth_sendRawTransaction", "0x" + Sender(sender.chain_id).sign(address).hex())


def test_nonces_that_arrive_in_any_order_are_put_in_order(shared: tuple[Process, bytes]) -> None:
    process, address = shared
    sender = Sender(process.health()["chainId"])
    raws = ["0x" + sender.sign(address, word(1)).hex() for _ in range(60)]
    with ThreadPoolExecutor(12) as pool:
        hashes = list(
            pool.map(lambda raw: process.result("eth_sendRawTransaction", raw), reversed(raws[:12]))
        )
    assert len(set(hashes)) == 12
    batch = [
        {"jsonrpc": "2.0", "id": at, "method": "eth_sendRawTransaction", "params": [raw]}
        for at, raw in enumerate(reversed(raws[12:]))
    ]
    before = process.health()["head"]["number"]
    answers = process.client.post(process.url, json=batch).json()
    assert all("result" in answer for answer in answers)
    assert process.health()["head"]["number"] - before < 10, "a batch should become few blocks"
    count = process.result("eth_getTransactionCount", "0x" + sender.address.hex(), "latest")
    assert int(count, 16) == 60


CLIENT = """
import sys, httpx
from engine_processes import Sender
url, chain_id, address, count = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), int(sys.argv[4])
sender = Sender(chain_id)
with httpx.Client(trust_env=False, timeout=30, verify=False) as client:
    for _ in range(count):
        raw = "0x" + sender.sign(address, (1).to_bytes(32, "big")).hex()
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw]}
        print(client.post(url, json=body).json()["result"], flush=True)
"""


def test_several_processes_send_at_once(shared: tuple[Process, bytes]) -> None:
    process, address = shared
    total = process.result("eth_call", {"to": "0x" + address.hex()}, "latest")
    chain_id = str(process.health()["chainId"])
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, process.url, chain_id, address.hex(), "40"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        for _ in range(3)
    ]
    hashes = [line for client in clients for line in client.communicate(timeout=60)[0].split()]
    assert len(set(hashes)) == 120
    after = process.result("eth_call", {"to": "0x" + address.hex()}, "latest")
    assert int(after, 16) - int(total, 16) == 120


def test_the_door_refuses_web_pages_and_other_hosts(shared: tuple[Process, bytes]) -> None:
    process, _ = shared
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}
    for headers in ({"origin": "https://example.com"}, {"host": "attacker.example"}):
        answer = process.client.post(process.url, json=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["title"] == "RPC_HOST"
    assert process.client.post(process.url, content=iter([b"{}"])).json()["title"] == "RPC_SIZE"
    assert process.client.get(f"{process.url}/docs").status_code == 404


def test_reads_between_blocks_do_not_change_what_replay_gives(tmp_path: Path) -> None:
    """Calls, proofs and estimates must not move any hidden state of the engine (its block randomness for
    one)."""
    address = counter_ledger(tmp_path / "ledger")
    process = gateway(tmp_path / "ledger").start()
    sender = Sender(process.health()["chainId"])
    call = {"to": "0x" + address.hex(), "data": "0x" + word(3).hex(), "from": "0x" + "22" * 20}
    for _ in range(5):
        process.result("eth_call", call, "pending")
        process.result("eth_estimateGas", call)
        process.result("eth_getProof", "0x" + address.hex(), ["0x0"], "latest")
        process.result("eth_getBlockByNumber", "pending", True)
        process.rpc("eth_call", call, "0x1")
        process.result("eth_sendRawTransaction", "0x" + sender.sign(address, word(1)).hex())
    before = process.health()["head"]
    process.kill()
    assert process.start().health()["head"] == before
    process.stop()


def test_one_process_a_folder_and_only_the_operator(tmp_path: Path) -> None:
    data = tmp_path / "ledger"
    process = gateway(data).start()
    second = gateway(data)
    with pytest.raises(AssertionError, match=r"\[LEDGER_IN_USE\]"):
        second.start()
    process.stop()
    other = ledger_keys.create(tmp_path / "other")
    assert other.identity.public is not None
    (data / "keys").rename(data / "old")
    (tmp_path / "other").rename(data / "keys")
    with pytest.raises(AssertionError, match=r"\[NOT_THE_OPERATOR\]"):
        gateway(data).start()


def test_a_dead_engine_ends_the_gateway(tmp_path: Path) -> None:
    process = gateway(tmp_path / "ledger").start()
    assert process.process is not None
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    assert children, "the engine is a child process"
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert "[ENGINE_GONE]" in process.error()
    assert process.process.returncode == 7


def test_no_engine_outlives_its_gateway(tmp_path: Path) -> None:
    for engine in ("edr", "anvil"):
        counter_ledger(tmp_path / engine, engine)
        process = gateway(tmp_path / engine).start()
        assert process.process is not None
        children = (
            Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
        )
        process.kill()
        eventually(lambda found=children: not any(running(int(child)) for child in found))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_damaged_log_is_not_served(tmp_path: Path) -> None:
    address = counter_ledger(tmp_path / "ledger")
    process = gateway(tmp_path / "ledger").start()
    sender = Sender(process.health()["chainId"])
    for _ in range(3):
        process.result("eth_sendRawTransaction", "0x" + sender.sign(address, word(1)).hex())
    process.stop()
    database = sqlite3.connect(tmp_path / "ledger/log.sqlite")
    with database:
        database.execute(
            "UPDATE record SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE idx = 2"
        )
    database.close()
    with pytest.raises(AssertionError, match=r"\[LOG_CORRUPT\]"):
        gateway(tmp_path / "ledger").start()


@pytest.mark.parametrize("place", [2, 4], ids=["middle", "last"])
def test_a_rewritten_log_with_good_digests_is_not_served(tmp_path: Path, place: int) -> None:
    """Somebody who changes a record and repairs every digest: the engine takes the other call as well.

    In the middle the next record names the old block's hash; at the end the operator's own checkpoint does.
    """
    address = counter_ledger(tmp_path / "ledger")
    process = gateway(tmp_path / "ledger").start()
    sender = Sender(process.health()["chainId"])
    for _ in range(3):
        process.result("eth_sendRawTransaction", "0x" + sender.sign(address, word(1)).hex())
    eventually(lambda: process.health()["checkpoint"] == 5)
    process.stop()
    old = DurableLog(tmp_path / "ledger")
    bodies = old.read(0, 100)
    old.close()
    for name in ("log.sqlite", "log.mark"):
        (tmp_path / "ledger" / name).unlink()
    record = records.decode(bodies[place])
    assert isinstance(record, BlockRecord)
    other = sign_legacy(sender.key, sender.chain_id, place - 2, address, word(1_000_000), 200_000)
    bodies[place] = records.encode(dataclasses.replace(record, raws=(other,)))
    new = DurableLog(tmp_path / "ledger")
    for body in bodies:
        new.append(body)
    new.close()
    code = "REPLAY_DIFFERS" if place == 2 else "CHECKPOINT_DIFFERS"
    with pytest.raises(AssertionError, match=rf"\[{code}\]"):
        gateway(tmp_path / "ledger").start()


KILLS = int(os.environ.get("CONCORDAT_KILLS", "5"))


def test_kills_at_random_instants_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """kill -9 under load; every acknowledged transaction stands at its place afterwards, none twice."""
    address = counter_ledger(tmp_path / "ledger")
    process = gateway(tmp_path / "ledger").start()
    chain_id = process.health()["chainId"]
    acknowledged: dict[str, dict[str, object]] = {}
    sent: set[str] = set()
    for _ in range(KILLS):
        stop, before = threading.Event(), len(acknowledged)

        def load(stop: threading.Event = stop) -> None:
            sender = Sender(chain_id)
            with (
                httpx.Client(trust_env=False, timeout=10, verify=False) as client,
                contextlib.suppress(httpx.HTTPError),
            ):
                while not stop.is_set():
                    raw = sender.sign(address, word(1))
                    sent.add("0x" + keccak(raw).hex())
                    body = {"jsonrpc": "2.0", "id": 1, "method": "concordat_sendRawTransaction"}
                    answer = client.post(process.url, json={**body, "params": ["0x" + raw.hex()]}).json()
                    if "result" in answer:
                        acknowledged[answer["result"]["transactionHash"]] = answer["result"]
                    else:
                        return

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        eventually(lambda before=before: len(acknowledged) > before)
        time.sleep(secrets.randbelow(400) / 1000)
        process.kill()
        stop.set()
        for thread in threads:
            thread.join()
        process.start()
    assert len(acknowledged) >= KILLS
    for transaction, acknowledgement in acknowledged.items():
        found = process.result("concordat_getAcknowledgement", transaction)
        assert found == acknowledgement
    total = int(process.result("eth_call", {"to": "0x" + address.hex()}, "latest"), 16)
    assert len(acknowledged) <= total <= len(sent)
    process.stop()


def test_the_command_line_draws_keys_signs_and_checks(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ledger.engine", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    names = ("operator", "bank")
    public = {
        name: json.loads(run("keys", "--data", str(tmp_path / name), "--name", name).stdout) for name in names
    }
    again = run("keys", "--data", str(tmp_path / "bank"), "--name", "bank")
    assert (again.returncode, "[LEDGER_KEYS_EXIST]" in again.stderr) == (2, True)
    members = [Member(each["name"], *keys_of(each)) for each in public.values()]
    file = tmp_path / "genesis.json"
    file.write_text(json.dumps(genesis_document.draft(members[0], members, int(time.time()))))
    stranger = run("sign", "--data", str(tmp_path / "bank"), "--name", "operator", str(file))
    assert "[NOT_A_PARTY]" in stranger.stderr
    for name in names:
        assert run("sign", "--data", str(tmp_path / name), "--name", name, str(file)).returncode == 0
    file.rename(tmp_path / "operator/genesis.json")
    process = gateway(tmp_path / "operator").start()
    head = process.health()["head"]["hash"]
    busy = run("check", "--data", str(tmp_path / "operator"))
    assert "[LEDGER_IN_USE]" in busy.stderr
    process.stop()
    assert "0x" + json.loads(run("check", "--data", str(tmp_path / "operator")).stdout)["hash"] == head


def keys_of(public: dict[str, str]) -> tuple[PublicKey, PublicKey]:
    return PublicKey.from_hex(public["identity"]), PublicKey.from_hex(public["checkpoint"])
