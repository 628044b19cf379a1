"""What a job with partners costs as tables grow: seconds and CPU per step and party, bytes per link, memory.

    python -m benchmarks.vertical --rows 3000 30000 100000 300000 --out out/vertical.json --chart out/vertical.svg
    python -m benchmarks.vertical --rows 8000 --partner-rows 200000
    python -m benchmarks.vertical --parts-only
    python -m benchmarks.vertical --quick

Each size brings up a real consortium (three banks, an e-commerce platform, a government office, a compute party T,
real processes over TLS) on a synthetic economy with that many rows per bank, and runs two jobs in one epoch of the
partners' keys: a first one, in which every identifier is new, then, after each bank's table has grown by 5 %, a
retraining that asks for the new ones only. Consent codes are left out.

A step's seconds are the time between messages in the parties' own egress logs, all on this machine's clock:

    V        from the first blinded point to T's last share; of it "own outputs", the partners' epoch preparation,
             which they state themselves, is given apart
    serving  points and answers under the serving keys, and the partners' outputs: epoch preparation too
    P        from a partner's first publication to its last piece

CPU is read from the kernel for every process of a party, children included, and interpolated at those moments. Bytes
per link and class stand next to the specification's formulas. Parts that need no consortium: ``vertical_parts``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bank_node.data import split_salt
from bank_node.training import is_holdout
from benchmarks import vertical_parts
from benchmarks.training import BANKS, Watch
from benchmarks.vertical_growth import chart, growth
from concordat import dataset
from concordat.demo import COMPUTE, steps_of
from concordat.economy import write_economy
from concordat.lab import Lab, Member
from concordat.simulate import proposal_for
from coordinator.store import ENDED, Store
from node.egress import EgressLog, Record
from node.keystore import Keystore
from node.store import Store as NodeStore
from protocol.contract import DataContract
from protocol.job import Deadlines, Manifest, Proposal, Recipe, SharedRecipe, Vertical
from protocol.join import TAG_BYTES, bucketed
from protocol.product import WIDTH
from protocol.vertical import BIN_BITS, batches, terms_of
from protocol.voprf import PROOF_BYTES

PARTNERS = ("e-commerce", "government")
NEW_SHARE = 0.05
PARTNER_SHARE = 1.1
"""A partner of the economy lists about this many enterprises for every client of a bank."""
DAY, UNAPPROVED = 86_400, 300.0
SOUGHT = {"ask": "points", "answer": "answers", "table": "table", "dense": "D", "bins": "bins"}


@dataclass(frozen=True)
class Size:
    """One measurement: rows of each bank, rows of each partner (None: as the economy has them), the job's effort."""

    rows: int
    partner_rows: int | None
    quick: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000, 30_000, 100_000, 300_000])
    parser.add_argument(
        "--partner-rows", type=int, nargs="+", help="one number for every size, or one for all"
    )
    parser.add_argument("--ids", type=int, default=20_000, help="identifiers through the VOPRF in the parts")
    parser.add_argument("--table-rows", type=int, default=1_000_000, help="partner rows in the parts")
    parser.add_argument("--parts-only", action="store_true", help="without a consortium")
    parser.add_argument(
        "--quick", action="store_true", help="a small size and two rounds: does it run at all?"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--keep", type=Path, help="use this directory and leave it")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.ids, options.table_rows = [1_000], 1_000, 20_000
    result: dict[str, Any] = {"cores": os.cpu_count(), "banks": BANKS, "partners": list(PARTNERS)}
    if not options.parts_only:
        given = options.partner_rows or [None]
        if len(given) not in (1, len(options.rows)):
            parser.error("--partner-rows takes one number, or one for every size")
        sizes = []
        for rows, partner_rows in zip(
            options.rows, given * len(options.rows) if len(given) == 1 else given, strict=True
        ):
            print(f"{rows:,} rows per bank …", file=sys.stderr, flush=True)
            home = options.keep / str(rows) if options.keep else Path(tempfile.mkdtemp(prefix="bench-"))
            try:
                sizes.append(measure(Size(rows, partner_rows, options.quick), home))
            finally:
                if not options.keep:
                    shutil.rmtree(home, ignore_errors=True)
            written(options.out, {**result, "sizes": sizes})
        result |= {"sizes": sizes, "growth": growth(sizes)}
        if options.chart:
            options.chart.parent.mkdir(parents=True, exist_ok=True)
            options.chart.write_text(chart(sizes))
    print("parts in one process …", file=sys.stderr, flush=True)
    result["parts"] = vertical_parts.measure(options.ids, options.table_rows)
    written(options.out, result)
    print(json.dumps(result, indent=1))


def written(out: Path | None, result: dict[str, Any]) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1))


# -- one size -------------------------------------------------------------------------------------------------


def measure(size: Size, home: Path) -> dict[str, Any]:
    clients = size.rows * BANKS
    grown = round(clients * (1 + NEW_SHARE))
    listed = max(grown, math.ceil((size.partner_rows or 0) / PARTNER_SHARE * 1.02))
    # The first enterprises of a large economy are those of a small one: the second table holds the first.
    economies = {}
    for name, count in (("first", clients), ("grown", grown), ("listed", listed)):
        write_economy(home / name, count=count, banks=BANKS, seed=7, kind="parquet", replace=True)
        economies[name] = dataset.load(home / name)
    contract = economies["first"].contract()
    document = json.dumps(contract.document()).encode()
    lab = Lab(home / "lab")
    members, ids, partner_rows = [], {}, {}
    for party in economies["first"].parties:
        folder = lab.directory / party.name / "data"
        source = economies["first" if party.role == "bank" else "listed"]
        mapping = source.materialise(party.name, folder)
        if party.role == "bank":
            ids[party.name] = ids_of(mapping.path, mapping.id)
        else:
            partner_rows[party.name] = cut(mapping.path, size.partner_rows)
        members.append(Member(party.name, party.role, document, mapping))
    lab.create("benchmark", [*members, Member(COMPUTE, "compute")])
    start_up = lab.up(patience=900)
    try:
        first = Run(lab, contract, size, ids, {}).measure()
        # A node reads its table once. All stop and start, so that the same code runs everywhere.
        lab.down()
        more = {}
        for bank in ids:
            mapping = economies["grown"].materialise(bank, lab.directory / bank / "data")
            more[bank] = ids_of(mapping.path, mapping.id)
        lab.up(patience=900)
        again = Run(lab, contract, size, more, ids).measure()
    finally:
        lab.down()
    return {
        "rows_per_bank": size.rows,
        "rows": {bank: len(own) for bank, own in ids.items()} | partner_rows,
        "start_up_seconds": round(start_up, 2),
        "first": first,
        "retraining": again,
    }


def ids_of(path: Path, column: str) -> list[str]:
    found: list[str] = pq.read_table(path, columns=[column]).column(0).to_pylist()
    return found


def cut(path: Path, rows: int | None) -> int:
    """Keep so many rows of a table; returns how many it has."""
    table = pq.read_table(path)
    if rows is None or rows == len(table):
        return len(table)
    if rows > len(table):
        raise SystemExit(f"the economy has {len(table)} rows for a partner, fewer than {rows}")
    # Sorted by id, which is as good as random: coverage falls with the number of rows.
    pq.write_table(table.slice(0, rows), path)
    return rows


class Run:
    """One job.

    Args:
        lab: the running consortium.
        contract: its data contract.
        size: what is measured.
        ids: identifiers of each bank's table.
        asked: those of an earlier job of the epoch, whose outputs the banks have kept.
    """

    def __init__(
        self,
        lab: Lab,
        contract: DataContract,
        size: Size,
        ids: Mapping[str, list[str]],
        asked: Mapping[str, list[str]],
    ) -> None:
        self._lab, self._ids, self._asked = lab, ids, asked
        everybody = sum(map(len, ids.values()))
        short: dict[str, Any] = {"rounds": 1, "local_steps": 10} if size.quick else {"local_steps": 50}
        terms = Vertical(
            partners=PARTNERS,
            compute=COMPUTE,
            epoch="benchmark",
            base_rate=0.1,
            rows=bucketed(round(everybody * 0.8)),
            patience=DAY,
            recipe=SharedRecipe(**short),
        )
        self._proposal: Proposal = proposal_for(
            sorted(ids),
            contract,
            "benchmark",
            seed=1,
            recipe=Recipe(**short),
            deadlines=Deadlines(enlist=3600, session=DAY, round=3600, finish=3600),
            vertical=terms,
            witnesses=tuple(sorted([*PARTNERS, COMPUTE])),
        )

    def measure(self) -> dict[str, Any]:
        watch = Watch(self._lab)
        watch.start()
        samples = [(time.time(), watch.cpu())]
        body = {k: v for k, v in self._proposal.body.items() if k not in ("consortium", "code")}
        began = time.monotonic()
        job = self._lab.call("POST", "/jobs", body)["id"]
        events: list[dict[str, Any]] = []
        while True:
            fresh = self._lab.call("GET", f"/jobs/{job}/events?after={events[-1]['id'] if events else 0}")
            events += fresh
            shown = self._lab.call("GET", f"/jobs/{job}")
            if shown["state"] in ENDED and not fresh:
                break
            if shown["state"] == "proposed" and time.monotonic() - began > UNAPPROVED:
                raise SystemExit("not every party approves the job: does each run the same code?")
            samples.append((time.time(), watch.cpu()))
            time.sleep(0.3)
        seconds = time.monotonic() - began
        watch.stop()
        if shown["state"] != "finished":
            raise SystemExit(f"the job ended as {shown['state']}: {shown['cause']}")
        told = {e["party"]: e["detail"]["told"] for e in events if e["step"] == "with partners"}
        records = self._records(shown["result"]["job"])
        rounds = [s["seconds"] for s in steps_of(events) if s["step"].startswith("round")]
        windows = windows_of(records)
        preparation = [told[partner]["seconds"].get("own outputs", 0.0) for partner in PARTNERS]
        stage_v = windows["V"][1] - windows["V"][0]
        return {
            "job_seconds": round(seconds, 2),
            "stage_v_seconds": round(stage_v, 2),
            "stage_v_less_own_outputs_seconds": round(stage_v - max(preparation), 2),
            "serving_seconds": round(windows["serving"][1] - windows["serving"][0], 2),
            "stage_p_seconds": round(windows["P"][1] - windows["P"][0], 2),
            "steps": {what: round(last - first, 2) for what, (first, last) in windows.items()},
            "partners_say": {party: said for party, said in told.items() if party in PARTNERS},
            "round_seconds_mean": round(sum(rounds) / len(rounds), 2),
            "coordinator_steps": steps_of(events),
            "cpu_seconds": {what: spent_in(samples, *window) for what, window in windows.items()},
            "cpu_seconds_job": spent_in(samples, samples[0][0], samples[-1][0]),
            "peak_memory_mb": {name: round(peak / 2**20) for name, peak in watch.peaks.items()},
            "bytes": self._bytes(job, records),
            "partners_in_the_model": shown["result"]["figures"].get("partners", []),
            "auc": shown["result"]["figures"]["auc"],
        }

    # -- messages -------------------------------------------------------------------------------------------

    def _records(self, job: str) -> list[tuple[str, Record]]:
        found = []
        for name in self._lab.nodes():
            config = self._lab.node(name)
            store = NodeStore.open(config.database_url(config.database.url))
            key = Keystore(config.path("keys"), config.passphrase()).identity()
            found += [(name, r) for r in EgressLog(store, key, config.path("egress.head")).records(job)]
        return sorted(found, key=lambda one: one[1].at)

    def _bytes(self, job: str, records: Sequence[tuple[str, Record]]) -> list[dict[str, Any]]:
        """Return what left, by link and class, with what the specification's formulas give."""
        sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for name, record in records:
            step = record.purpose.split(".")[0]
            purpose = next((p for p in ("training", "serving") if f".{p}" in record.purpose), "")
            what = f"{SOUGHT[step]} {purpose}".strip() if step in SOUGHT else "small"
            if what == "D":
                what = f"D for {record.purpose.split('.')[1]}"
            elif step not in SOUGHT and "Flower" in record.purpose:
                what = "Flower"
            entry = sums[(name, record.peer, what)]
            entry[0] += 1
            entry[1] += record.bytes
        specified = self._specified(job)
        return [
            {
                "from": link[0],
                "to": link[1],
                "class": link[2],
                "messages": count,
                "bytes": size,
                **({"specified": specified[link]} if link in specified else {}),
            }
            for link, (count, size) in sorted(sums.items())
        ]

    def _specified(self, job: str) -> dict[tuple[str, str, str], int]:
        config = self._lab.coordinator()
        row = Store.open(config.database_url(config.database.url), upgrade=False).job(job) or {}
        manifest = Manifest.parse(json.loads(row["manifest"]))
        salt = split_salt(self._proposal, "")
        found = {}
        for bank, ids in self._ids.items():
            new = sorted(set(ids) - set(self._asked.get(bank, [])))
            training = int((~is_holdout(new, salt, self._proposal.holdout)).sum()) if new else 0
            for partner in PARTNERS:
                terms = terms_of(manifest, partner)
                entry = TAG_BYTES + -(-terms.components // 8)
                found[(partner, bank, "table")] = terms.slots * entry
                found[(bank, COMPUTE, f"D for {partner}")] = terms.slots * terms.components * WIDTH // 8
                found[(partner, bank, "bins")] = terms.slots * (TAG_BYTES + -(-BIN_BITS // 8))
                for purpose, count in (("training", training), ("serving", len(new))):
                    points = bucketed(count) if count else 0
                    found[(bank, partner, f"points {purpose}")] = 32 * points
                    found[(partner, bank, f"answers {purpose}")] = 32 * points + PROOF_BYTES * len(
                        batches(points)
                    )
        return found


def windows_of(records: Sequence[tuple[str, Record]]) -> dict[str, tuple[float, float]]:
    """Return when each step's first and last message left, Unix time, from all parties' logs."""
    found: dict[str, tuple[float, float]] = {}

    def seen(what: str, steps: Sequence[str]) -> None:
        begun = tuple(f"{step}." for step in steps)
        times = [r.at / 1000 for _, r in records if r.purpose in steps or r.purpose.startswith(begun)]
        if times:
            found[what] = (min(times), max(times))

    for what, steps in {
        "points": ["ask.training"],
        "answers": ["answer.training"],
        "tables": ["table"],
        "products": ["dense"],
        "openings": ["signature", "share", "opening"],
        "serving points": ["ask.serving"],
        "serving answers": ["answer.serving"],
        "publication": ["publication", "bins"],
        "session": ["state", "publication", "bins"],
    }.items():
        seen(what, steps)
    # Banks ask for the serving key once their products are out, while others are still in stage V.
    found["V"] = (found["points"][0], found["openings"][1])
    asked = found["serving points"]
    found["serving"] = (asked[0], found.get("publication", asked)[0])
    found["P"] = found.get("publication", asked)
    return found


def spent_in(
    samples: Sequence[tuple[float, dict[str, float]]], first: float, last: float
) -> dict[str, float]:
    """Return each party's CPU-seconds between two moments, interpolated."""
    at = [when for when, _ in samples]
    found = {}
    for party in samples[0][1]:
        values = [spent.get(party, 0.0) for _, spent in samples]
        low, high = np.interp([first, last], at, values)
        found[party] = round(float(high - low), 2)
    return found


if __name__ == "__main__":
    main()
