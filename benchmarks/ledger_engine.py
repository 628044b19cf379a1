"""How fast the embedded ledger is, how it grows, and how it comes back.

Starts a real gateway process on a contract whose call writes four fresh storage slots (what registering a claim
costs), sends to it over HTTP, kills it, and replays. Prints one JSON object. Rates are of durable, executed and
answered transactions.

    python benchmarks/ledger_engine.py                    # small: some seconds
    python benchmarks/ledger_engine.py --state 100000     # grow to 100,000 claims; memory and cost as it grows
    python benchmarks/ledger_engine.py --kills 300        # kill -9 under load, again and again
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import coincurve
from eth_hash.auto import keccak

from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import Contract, sign_legacy
from protocol import document

SLOTS = 4
GAS = 200_000


def storer() -> tuple[bytes, bytes]:
    """Return creation code and runtime of a contract that sets slots word, word + 1, … to 1."""
    runtime = b"".join(bytes.fromhex(f"600160003560{at:02x}0155") for at in range(SLOTS)) + b"\0"
    return bytes.fromhex(f"60{len(runtime):02x}600c60003960{len(runtime):02x}6000f3") + runtime, runtime


class Gateway:
    """A gateway process and a keep-alive connection to it."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        keys = ledger_keys.create(folder / "keys")
        me, chain_id = keys.member("operator"), genesis_document.new_chain_id()
        creation, runtime = storer()
        raws, addresses = genesis_document.deploy(chain_id, [("registry", creation)])
        body = genesis_document.draft(
            me,
            [me],
            int(time.time()),
            engine=engine,
            chain_id=chain_id,
            deployments=raws,
            contracts=[Contract("registry", addresses["registry"], keccak(runtime))],
        )
        write_genesis(folder, document.sign(genesis_document.KIND, body, "operator", keys.identity))
        self.chain_id, self.address = chain_id, addresses["registry"]

    def start(self) -> dict[str, Any]:
        """Start the process and return its ready line and the seconds that it took."""
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ledger.engine", "up", "--data", str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout is None:
            raise RuntimeError("no output")
        select.select([self.process.stdout], [], [], 600)
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.port = int(self.ready["url"].rsplit(":", 1)[1])
        return {**self.ready, "startSeconds": time.perf_counter() - started}

    def connection(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.communicate()

    def engine_memory(self) -> int:
        """Return the resident bytes of the engine process."""
        found, waiting = 0, [self.process.pid]
        while waiting:
            pid = waiting.pop()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            waiting += [int(child) for child in children]
            found += sum(
                int(Path(f"/proc/{child}/statm").read_text().split()[1]) * 4096 for child in children
            )
        return found


class Load:
    """Signed transactions of one key, made ahead of the measurement."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.key = coincurve.PrivateKey(secrets.token_bytes(32))
        self.nonce = 0

    def bodies(self, count: int) -> list[dict[str, Any]]:
        """Return JSON-RPC requests."""
        made = []
        for _ in range(count):
            data = secrets.token_bytes(31) + b"\0"
            raw = sign_legacy(self.key, self.gateway.chain_id, self.nonce, self.gateway.address, data, GAS)
            self.nonce += 1
            params = ["0x" + raw.hex()]
            made.append(
                {"jsonrpc": "2.0", "id": self.nonce, "method": "eth_sendRawTransaction", "params": params}
            )
        return made


def post(connection: http.client.HTTPConnection, body: Any) -> Any:
    """Send one HTTP request and return the decoded answer."""
    connection.request("POST", "/", json.dumps(body), {"content-type": "application/json"})
    return json.loads(connection.getresponse().read())


def one_at_a_time(gateway: Gateway, count: int) -> dict[str, float]:
    """Send one after the other over one connection."""
    bodies, connection, spent = Load(gateway).bodies(count), gateway.connection(), []
    started = time.perf_counter()
    for body in bodies:
        before = time.perf_counter()
        if "result" not in post(connection, body):
            raise RuntimeError("refused")
        spent.append(time.perf_counter() - before)
    total = time.perf_counter() - started
    spent.sort()
    return {
        "perSecond": round(count / total, 1),
        "p50ms": round(1000 * spent[count // 2], 2),
        "p99ms": round(1000 * spent[count * 99 // 100], 2),
    }


def in_batches(gateway: Gateway, count: int, size: int = 50) -> dict[str, float]:
    """Send batches of 50 over one connection."""
    bodies, connection = Load(gateway).bodies(count), gateway.connection()
    before = height(gateway)
    started = time.perf_counter()
    for at in range(0, count, size):
        if any("result" not in answer for answer in post(connection, bodies[at : at + size])):
            raise RuntimeError("refused")
    total = time.perf_counter() - started
    return {"perSecond": round(count / total, 1), "perBlock": round(count / (height(gateway) - before), 1)}


def by_many(gateway: Gateway, count: int, senders: int) -> dict[str, float]:
    """Send one at a time over several connections at once."""
    work = [(Load(gateway).bodies(count // senders), gateway.connection()) for _ in range(senders)]

    def send(bodies: list[dict[str, Any]], connection: http.client.HTTPConnection) -> None:
        for body in bodies:
            post(connection, body)

    threads = [threading.Thread(target=send, args=each) for each in work]
    before = height(gateway)
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = time.perf_counter() - started
    done = count // senders * senders
    return {"perSecond": round(done / total, 1), "perBlock": round(done / (height(gateway) - before), 1)}


def height(gateway: Gateway) -> int:
    """Return the head's number."""
    answer = post(gateway.connection(), {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"})
    return int(answer["result"], 16)


def _timed(connection: http.client.HTTPConnection, body: Any) -> float:
    """Return the seconds that one request takes."""
    started = time.perf_counter()
    post(connection, body)
    return time.perf_counter() - started


def growth(gateway: Gateway, state: int, steps: int = 5) -> list[dict[str, float]]:
    """Grow the state in batches; return cost and memory on the way."""
    found, done, load, connection = [], 0, Load(gateway), gateway.connection()
    for step in range(1, steps + 1):
        target = state * step // steps
        spent = 0.0
        grown = target - done
        while done < target:
            bodies = load.bodies(min(50, target - done))
            started = time.perf_counter()
            post(connection, bodies)
            spent += time.perf_counter() - started
            done += len(bodies)
        single = sorted(_timed(connection, body) for body in load.bodies(20))
        found.append(
            {
                "claims": done,
                "slots": done * SLOTS,
                "perSecond": round(grown / spent, 1),
                "singleP50ms": round(1000 * single[10], 2),
                "engineMB": round(gateway.engine_memory() / 1e6, 1),
                "logMB": round(sum(path.stat().st_size for path in gateway.folder.glob("log.*")) / 1e6, 1),
            }
        )
    return found


def replay(gateway: Gateway, transactions: int) -> dict[str, Any]:
    """Kill the gateway, start it again, and compare the head."""
    before = post(
        gateway.connection(), {"id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}
    )
    gateway.kill()
    ready = gateway.start()
    return {
        "transactions": transactions,
        "seconds": ready["replaySeconds"],
        "perSecond": round(transactions / ready["replaySeconds"], 1),
        "startSeconds": round(ready["startSeconds"], 2),
        "sameHead": ready["head"]["hash"] == before["result"]["hash"],
    }


def kills(folder: Path, engine: str, count: int) -> dict[str, int]:
    """Kill -9 at random instants under load, on a new ledger every 25 kills; count what is missing afterwards."""
    total, wrong, largest = 0, 0, 0
    for group in range(0, count, 25):
        gateway = Gateway(folder / f"killed-{group}", engine)
        gateway.start()
        acknowledged: dict[str, Any] = {}
        for _ in range(min(25, count - group)):
            _kill_once(gateway, acknowledged)
        connection = gateway.connection()
        for transaction, found in acknowledged.items():
            request = {"id": 1, "method": "concordat_getAcknowledgement", "params": [transaction]}
            wrong += post(connection, request).get("result") != found
        largest = max(largest, height(gateway))
        total += len(acknowledged)
        gateway.kill()
    return {"kills": count, "acknowledged": total, "lostOrMoved": wrong, "longestLog": largest}


def _kill_once(gateway: Gateway, acknowledged: dict[str, Any]) -> None:
    def load(mine: Load) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
            connection = gateway.connection()
            while True:
                (body,) = mine.bodies(1)
                found = post(connection, {**body, "method": "concordat_sendRawTransaction"})["result"]
                acknowledged[found["transactionHash"]] = found

    threads = [threading.Thread(target=load, args=(Load(gateway),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(secrets.randbelow(300) / 1000)
    gateway.kill()
    for thread in threads:
        thread.join()
    gateway.start()


def main() -> None:
    """Run what the options ask for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="edr", choices=["edr", "anvil"])
    parser.add_argument("--count", type=int, default=1000, help="transactions per rate")
    parser.add_argument("--state", type=int, default=2000, help="claims to grow to")
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder) / "ledger", options.engine)
        first = gateway.start()
        try:
            result: dict[str, Any] = {
                "engine": options.engine,
                "cores": os.cpu_count(),
                "coldStartSeconds": round(first["startSeconds"], 2),
                "oneAtATime": one_at_a_time(gateway, options.count),
                "batchesOf50": in_batches(gateway, options.count),
                "eightSenders": by_many(gateway, options.count, 8),
                "growth": growth(gateway, options.state),
            }
            sent = options.count * 2 + options.count // 8 * 8 + options.state
            result["replay"] = replay(gateway, sent)
            if options.kills:
                result["killed"] = kills(Path(folder), options.engine, options.kills)
        finally:
            gateway.kill()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
