"""What a training job costs as the banks grow: seconds and CPU-seconds per step and party, bytes per link, memory.

    python -m benchmarks.training --rows 3000 30000 100000 300000 --out out/training.json --chart out/training.svg

Each size brings up a real consortium (three banks, a compute party, real processes over TLS), runs one job on a
synthetic economy with that many rows per bank, and takes it down. CPU and memory are read from the kernel for
every process of a party, children included, at the moments at which the job's steps end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from concordat import dataset
from concordat.demo import steps_of
from concordat.economy import write_economy
from concordat.lab import Lab, Member
from concordat.simulate import proposal_for
from node.egress import EgressLog
from node.keystore import Keystore
from node.store import Store
from protocol.job import Deadlines

TICKS = os.sysconf("SC_CLK_TCK")
BANKS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000, 30_000, 100_000, 300_000])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--keep", type=Path, help="use this directory and leave it")
    options = parser.parse_args()
    sizes = []
    for rows in options.rows:
        print(f"{rows:,} rows per bank …", file=sys.stderr)
        home = options.keep / str(rows) if options.keep else Path(tempfile.mkdtemp(prefix="bench-"))
        try:
            sizes.append(measure(rows, home))
        finally:
            if not options.keep:
                shutil.rmtree(home, ignore_errors=True)
    result = {"cores": os.cpu_count(), "banks": BANKS, "sizes": sizes}
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    if options.chart:
        options.chart.parent.mkdir(parents=True, exist_ok=True)
        options.chart.write_text(chart(sizes))
    print(text)


def measure(rows: int, home: Path) -> dict[str, Any]:
    # About 6.5 % of enterprises have two banks, so that the sum of rows is a little above their number.
    write_economy(home / "economy", count=rows * BANKS, banks=BANKS, seed=7, kind="parquet", replace=True)
    data = dataset.load(home / "economy")
    contract = data.contract()
    document = json.dumps(contract.document()).encode()
    lab = Lab(home / "lab")
    members = []
    for party in data.parties:
        if party.role == "bank":
            mapping = data.materialise(party, lab.directory / party.name / "data")
            members.append(Member(party.name, party.role, document, mapping))
    lab.create("benchmark", [*members, Member("compute", "compute")])
    start_up = lab.up(patience=300)
    try:
        return {"rows_per_bank": rows, "start_up_seconds": round(start_up, 2), **job(lab, contract)}
    finally:
        lab.down()


def job(lab: Lab, contract: Any) -> dict[str, Any]:
    banks = [name for name in lab.nodes() if name.startswith("bank")]
    long = Deadlines(enlist=600, session=1800, round=1800, finish=1800)
    proposal = proposal_for(banks, contract, "benchmark", seed=1, deadlines=long)
    watch = Watch(lab)
    watch.start()
    body = {k: v for k, v in proposal.body.items() if k not in ("consortium", "code")}
    began = time.monotonic()
    submitted = lab.call("POST", "/jobs", body)
    events: list[dict[str, Any]] = []
    cpu: dict[str, dict[str, float]] = {}
    last = watch.cpu()
    step = "enlist"
    while True:
        fresh = lab.call("GET", f"/jobs/{submitted['id']}/events?after={events[-1]['id'] if events else 0}")
        for event in fresh:
            events.append(event)
            ended = event["kind"] in ("done", "opened", "finished") and not event["party"]
            if ended and event["step"] not in ("roster", "knots", "centring", "edges", "histogram"):
                now = watch.cpu()
                step = "finish" if event["step"] == "job" else event["step"]
                cpu[step] = {name: round(now[name] - last.get(name, 0.0), 2) for name in now}
                last = now
        shown = lab.call("GET", f"/jobs/{submitted['id']}")
        if shown["state"] in ("finished", "failed", "cancelled", "rejected") and not fresh:
            break
        time.sleep(0.2)
    seconds = time.monotonic() - began
    watch.stop()
    if shown["state"] != "finished":
        raise SystemExit(f"the job ended as {shown['state']}: {shown['cause']}")
    rounds = [s["seconds"] for s in steps_of(events) if s["step"].startswith("round")]
    return {
        "job_seconds": round(seconds, 2),
        "round_seconds_mean": round(sum(rounds) / len(rounds), 2),
        "steps": steps_of(events),
        "cpu_seconds": cpu,
        "peak_memory_mb": {name: round(peak / 2**20) for name, peak in watch.peaks.items()},
        "bytes_per_link": links(lab),
        "auc": shown["result"]["figures"]["auc"],
    }


def links(lab: Lab) -> dict[str, int]:
    """Return bytes that left each node, by peer, from its own egress log."""
    found: dict[str, int] = {}
    for name in lab.nodes():
        config = lab.node(name)
        store = Store.open(config.database_url(config.database.url))
        key = Keystore(config.path("keys"), config.passphrase()).identity()
        for record in EgressLog(store, key, config.path("egress.head")).records():
            link = f"{name} to {record.peer}"
            found[link] = found.get(link, 0) + record.bytes
    return found


class Watch(threading.Thread):
    """Samples CPU and memory of every party's processes, children included."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self._roots: dict[str, list[int]] = {}
        for process in lab.supervisor.processes():
            self._roots.setdefault(process["group"], []).append(process["pid"])
        self._ended = threading.Event()
        # CPU of processes that have ended is counted by their parents once they are waited for.
        self.peaks: dict[str, int] = dict.fromkeys(self._roots, 0)

    def run(self) -> None:
        while not self._ended.wait(0.5):
            children = tree()
            for party, roots in self._roots.items():
                memory = sum(resident(pid) for root in roots for pid in below(root, children))
                self.peaks[party] = max(self.peaks[party], memory)

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def cpu(self) -> dict[str, float]:
        children = tree()
        return {
            party: sum(spent(pid) for root in roots for pid in below(root, children))
            for party, roots in self._roots.items()
        }


def tree() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    return children


def below(root: int, children: dict[int, list[int]]) -> list[int]:
    found, open_ = [], [root]
    while open_:
        pid = open_.pop()
        found.append(pid)
        open_ += children.get(pid, [])
    return found


def stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return []


def spent(pid: int) -> float:
    fields = stat(pid)
    # user and system time of the process, and of its children that have been waited for
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS if fields else 0.0


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def chart(sizes: list[dict[str, Any]]) -> str:
    """Return an SVG: seconds of the job and of a round, and a bank's peak memory, over rows per bank (log-log)."""
    import math

    series = {
        "job, s": [s["job_seconds"] for s in sizes],
        "round, s": [s["round_seconds_mean"] for s in sizes],
        "bank's peak memory, 100 MB": [
            max(v for k, v in s["peak_memory_mb"].items() if k.startswith("bank")) / 100 for s in sizes
        ],
    }
    rows = [s["rows_per_bank"] for s in sizes]
    width, height, pad = 720, 420, 60
    top = max(max(v) for v in series.values()) * 1.5

    def x(value: float) -> float:
        low, high = math.log(min(rows)), math.log(max(rows) * 1.01)
        return pad + (math.log(value) - low) / (high - low or 1) * (width - 2 * pad)

    def y(value: float) -> float:
        return (
            height
            - pad
            - (math.log(max(value, 0.5)) - math.log(0.5)) / math.log(top / 0.5) * (height - 2 * pad)
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        'font-family="sans-serif" font-size="12">',
    ]
    for value in rows:
        parts.append(f'<text x="{x(value):.0f}" y="{height - 35}" text-anchor="middle">{value:,}</text>')
    for value in (1, 3, 10, 30, 100, 300, 1000):
        if value < top:
            parts.append(
                f'<line x1="{pad}" x2="{width - pad}" y1="{y(value):.0f}" y2="{y(value):.0f}" stroke="#ddd"/>'
            )
            parts.append(f'<text x="{pad - 8}" y="{y(value) + 4:.0f}" text-anchor="end">{value}</text>')
    for colour, (name, values) in zip(("#0072b2", "#d55e00", "#009e73"), series.items(), strict=True):
        points = " ".join(f"{x(r):.1f},{y(v):.1f}" for r, v in zip(rows, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{width - pad}" y="{y(values[-1]) - 6:.0f}" text-anchor="end" fill="{colour}">{name}</text>'
        )
    parts.append(
        f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">rows per bank (log scale)</text></svg>'
    )
    return "\n".join(parts)


if __name__ == "__main__":
    main()
