"""How fast the ledger is with its real contracts, how it grows, and what a proof costs.

``python -m benchmarks.ledger [--quick] [--operations N] [--documents N,N] [--claims N] [--out FILE]``

Starts a real gateway process; everything is signed ahead and sent over HTTP. A rate counts operations that are
durable, executed, answered and applied. One JSON object on stdout; figures to hold: 150 operations a second one at a
time, 600 in blocks of 50, 10,000 documents anchored a second, and a transaction at 100,000 claims at most three times
as dear as at 1,000.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.ledger_desk import BATCH, Desk, RealGateway, Receivable, Sender
from ledger.commitments import Draft
from ledger.proofs.making import make
from ledger.proofs.statements import Absence, Presence, Statement
from ledger.proofs.trust import Trust
from ledger.proofs.verifying import verify
from protocol.merkle import Frontier

SENDERS = 5


def _chunks(items: list[bytes], size: int) -> Iterator[list[bytes]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def run(senders: list[Sender], payloads: list[list[bytes]], size: int) -> float:
    """Send each sender's payloads, `size` a request, and return operations a second."""
    signed = [[sender.sign(data) for data in part] for sender, part in zip(senders, payloads, strict=True)]

    def one(at: int) -> list[str]:
        return [digest for chunk in _chunks(signed[at], size) for digest in senders[at].send(chunk)]

    start = time.perf_counter()
    with ThreadPoolExecutor(len(senders)) as pool:
        hashes = list(pool.map(one, range(len(senders))))
    seconds = time.perf_counter() - start
    for sender, found in zip(senders, hashes, strict=True):
        sender.require_applied(found)
    return sum(map(len, payloads)) / seconds


class Bench:
    """One gateway and its parties."""

    def __init__(self, gateway: RealGateway) -> None:
        self.gateway = gateway
        self.desk = Desk(gateway)
        self.first = Sender(gateway)

    def fresh(self, count: int) -> list[Receivable]:
        """Receivables whose drafts are anchored."""
        made: list[Receivable] = []
        while len(made) < count:
            part, anchors = self.desk.receivables(min(1_000, count - len(made)))
            for data in anchors:
                self.first.require_applied(self.first.send([self.first.sign(data)]))
            made += part
        return made

    def rates(self, count: int, senders: list[Sender], size: int) -> dict[str, float]:
        """Operations a second by action, with so many senders and so many transactions a request."""
        each = [self.fresh(count // len(senders)) for _ in senders]
        found = {"confirm": run(senders, [[self.desk.confirm(one) for one in part] for part in each], size)}
        pledges = [[self.desk.pledge(one) for one in part] for part in each]
        found["pledge"] = run(senders, [[data for data, _ in part] for part in pledges], size)
        released = [
            [self.desk.release(one, lien) for one, (_, lien) in zip(part, made, strict=True)]
            for part, made in zip(each, pledges, strict=True)
        ]
        found["release"] = run(senders, released, size)
        found["settle"] = run(senders, [[self.desk.settle(one) for one in part] for part in each], size)
        attested = [self.fresh(count // len(senders)) for _ in senders]
        calls = [[self.desk.attest(one) for one in part] for part in attested]
        found["attest"] = run(senders, calls, size)
        return {name: round(rate, 1) for name, rate in found.items()}

    def lifecycles(self, count: int, senders: list[Sender]) -> float:
        """Receivables a second through confirm, pledge, release and settle, one operation after the other."""
        payloads = []
        for _ in senders:
            part = []
            for one in self.fresh(count // len(senders)):
                pledge, lien = self.desk.pledge(one)
                part += [self.desk.confirm(one), pledge, self.desk.release(one, lien), self.desk.settle(one)]
            payloads.append(part)
        return round(run(senders, payloads, 1) / 4, 2)


def anchoring(bench: Bench, counts: list[int]) -> list[dict[str, Any]]:
    """Documents a second: each is committed to, hashed into a tree, and the root anchored."""
    found = []
    for count in counts:
        owner, start = bench.desk.owner.key_id, time.perf_counter()
        tree = Frontier()
        for at in range(count):
            word = at.to_bytes(32, "big")
            tree.append(Draft(owner, word, word, word, word, word).leaf_data())
        data = bench.desk.anchor(tree.root(), count)
        bench.first.require_applied(bench.first.send([bench.first.sign(data)]))
        seconds = time.perf_counter() - start
        found.append(
            {"documents": count, "seconds": round(seconds, 3), "documentsPerSecond": round(count / seconds)}
        )
    return found


def growth(bench: Bench, claims: int, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Cost of a transaction and memory of the engine as the state grows, in blocks of 50."""
    points, have, found = (
        sorted({n for n in (100, 1_000, 10_000, 30_000, 100_000) if n < claims} | {claims}),
        0,
        [],
    )
    for point in points:
        while have < point:
            part = bench.fresh(min(1_000, point - have))
            payload = [bench.desk.confirm(one) for one in part]
            rate = run([bench.first], [payload], BATCH)
            have += len(part)
        memory = round(bench.gateway.engine_memory() / 2**20)
        found.append(
            {"claims": have, "millisecondsPerTransaction": round(1000 / rate, 3), "engineMiB": memory}
        )
        report(f"{have} claims: {found[-1]}")
    return found


def proofs(bench: Bench) -> dict[str, Any]:
    """Making and verifying a proof of each kind about claims."""
    one = bench.fresh(1)[0]
    pledge, lien = bench.desk.pledge(one)
    sent = bench.first.send([bench.first.sign(bench.desk.confirm(one))])
    sent += bench.first.send([bench.first.sign(pledge)])
    bench.first.require_applied(sent)
    time.sleep(3)  # until the operator has signed a checkpoint over it
    trust, now = Trust.of(bench.gateway.genesis), int(time.time())
    tags = one.sets[0].tags
    found = {}
    statements: dict[str, Statement] = {
        "presence": Presence(one.claim, bench.desk.body(one), tags, (lien,)),
        "absence": Absence(((bytes(31) + b"\1",),)),
    }
    for name, statement in statements.items():
        start = time.perf_counter()
        data = make(statement, bench.gateway, trust, now=now)
        made = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(50):
            verify(data, trust, now=now)
        found[name] = {
            "bytes": len(data),
            "makeMilliseconds": round(1000 * made, 1),
            "verifyMilliseconds": round(1000 * (time.perf_counter() - start) / 50, 2),
        }
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything on one ledger."""

    def report(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    with tempfile.TemporaryDirectory() as folder:
        gateway = RealGateway(Path(folder))
        gateway.start()
        try:
            bench, count = Bench(gateway), options.operations
            five = [Sender(gateway) for _ in range(SENDERS)]
            found: dict[str, Any] = {"operationsPerSecond": {}}
            rates = found["operationsPerSecond"]
            rates["oneSenderOneAtATime"] = bench.rates(count, [bench.first], 1)
            report(f"one at a time: {rates}")
            rates["oneSenderBlocksOf50"] = bench.rates(count, [bench.first], BATCH)
            rates["fiveSendersOneAtATime"] = bench.rates(count, five, 1)
            rates["fiveSendersBlocksOf50"] = bench.rates(max(count, SENDERS * BATCH), five, BATCH)
            report(f"all rates: {rates}")
            found["lifecyclesPerSecond"] = {
                "oneSender": bench.lifecycles(max(4, count // 4), [bench.first]),
                "fiveSenders": bench.lifecycles(max(SENDERS, count // 4), five),
            }
            found["anchoring"] = anchoring(bench, options.documents)
            report(f"anchoring: {found['anchoring']}")
            found["growth"] = growth(bench, options.claims, report)
            found["proofs"] = proofs(bench)
            records = gateway.rpc("eth_blockNumber")
            gateway.kill()
            start = time.perf_counter()
            ready = gateway.start()
            found["replay"] = {
                "blocks": int(records, 16),
                "replaySeconds": ready["replaySeconds"],
                "startSeconds": round(time.perf_counter() - start, 2),
            }
        finally:
            gateway.kill()
    return found


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute on an idle machine")
    parser.add_argument("--operations", type=int, default=1_000, help="of each kind")
    parser.add_argument("--documents", default="1000,10000,100000,1000000", help="sizes to anchor")
    parser.add_argument("--claims", type=int, default=100_000, help="how far the state grows")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.operations, options.documents, options.claims = 50, "1000,10000", 300
    options.documents = [int(each) for each in options.documents.split(",")]
    text = json.dumps(measure(options), indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
