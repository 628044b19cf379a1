"""Kill -9 at random: jobs on a consortium of real processes, a process of any party killed every few seconds.

Each job must end with the model of its undisturbed twin, or with a stated cause; nothing may hang past its deadline.
The test suite holds the kills that CI can afford; this finds what they don't.

    python benchmarks/chaos.py --jobs 5 --banks 4 --every 8 --seed 1 --json chaos.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from concordat import dataset
from concordat.economy import write_economy
from concordat.lab import Lab, Member
from concordat.simulate import proposal_for, simulate
from coordinator.store import ENDED, Store
from node import egress
from node.keystore import Keystore
from node.store import Store as NodeStore
from protocol.contract import DataContract
from protocol.errors import ConcordatError
from protocol.job import Deadlines, Proposal, Recipe

CONSORTIUM = "Chaos"
# Longest time that a job may take: every stage its whole deadline, in every attempt that four banks can have.
ATTEMPTS = 2


def main() -> None:
    """Run the benchmark."""
    options = _options()
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    write_economy(home / "economy", count=options.enterprises, banks=options.banks, seed=5, kind="parquet")
    data = dataset.load(home / "economy")
    banks = [party.name for party in data.parties if party.role == "bank"]
    contract = data.contract()
    proposal = _proposal(banks, contract, options)
    twin = simulate(proposal, contract, {bank: data.table(bank) for bank in banks}, home / "twin").model
    lab = Lab(home / "lab")
    document = json.dumps(contract.document()).encode()
    lab.create(
        CONSORTIUM,
        [
            Member(bank, "bank", document, data.materialise(bank, lab.directory / bank / "data"))
            for bank in banks
        ],
    )
    _say(f"up in {lab.up(patience=240):.1f} s; logs lie in {lab.directory / 'logs'}")
    rng = np.random.Generator(np.random.PCG64(options.seed))
    try:
        jobs = [_job(lab, banks, contract, options, twin, rng) for _ in range(options.jobs)]
    finally:
        lab.down()
    logs = {bank: _egress(lab, bank) for bank in banks}
    result = {
        "jobs": jobs,
        "ends": dict(Counter(job["end"] for job in jobs)),
        "kills": sum(len(job["kills"]) for job in jobs),
        "egress": logs,
        "held": all(job["held"] for job in jobs),
    }
    text = json.dumps(result, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    sys.exit(0 if result["held"] else 1)


def _job(
    lab: Lab,
    banks: list[str],
    contract: DataContract,
    options: argparse.Namespace,
    twin: str,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Run one job and kill meanwhile; tells how it ended."""
    proposal = _proposal(banks, contract, options)
    body = {name: value for name, value in proposal.body.items() if name not in ("consortium", "code")}
    job = _patient(lab, "POST", "/jobs", body)["id"]
    config = lab.coordinator()
    store = Store.open(config.database_url(config.database.url), upgrade=False)
    limit = proposal.deadlines.enlist + ATTEMPTS * (
        proposal.deadlines.session
        + proposal.recipe.rounds * proposal.deadlines.round
        + proposal.deadlines.finish
    )
    began, kills = time.monotonic(), list[dict[str, Any]]()
    due = began + options.every
    row = store.job(job)
    while row is not None and row["state"] not in ENDED and time.monotonic() - began < limit:
        if time.monotonic() > due and len(kills) < options.kills:
            kills.append({"at": round(time.monotonic() - began, 1), "victim": _kill(lab, rng)})
            due = time.monotonic() + options.every * float(rng.uniform(0.5, 1.5))
        time.sleep(0.2)
        row = store.job(job)
    assert row is not None
    model = json.loads(row["result"])["model"] if row["result"] else ""
    same = row["attempt"] > 0 or model == twin
    held = (row["state"] == "finished" and same) or (row["state"] == "failed" and bool(row["cause"]))
    end = row["state"] if row["state"] in ENDED else "hung"
    _say(f"{end} after {time.monotonic() - began:.0f} s and {len(kills)} kills {row['cause']}")
    return {
        "end": end,
        "cause": row["cause"],
        "held": held,
        "same_model": bool(model) and model == twin,
        "attempts": row["attempt"] + 1,
        "resumes": row["resumes"],
        "seconds": round(time.monotonic() - began, 1),
        "kills": kills,
    }


def _kill(lab: Lab, rng: np.random.Generator) -> str:
    alive = [each for each in lab.supervisor.processes() if each["pid"]]
    victim = alive[int(rng.integers(len(alive)))]
    with suppress(ProcessLookupError):
        os.kill(int(victim["pid"]), signal.SIGKILL)
    return str(victim["name"])


def _proposal(banks: list[str], contract: DataContract, options: argparse.Namespace) -> Proposal:
    return proposal_for(
        banks,
        contract,
        CONSORTIUM,
        recipe=Recipe(rounds=options.rounds, local_steps=20, bins=4, hidden=(8,)),
        deadlines=Deadlines(enlist=120, session=180, round=180, finish=180),
        seed=11,
    )


def _patient(lab: Lab, method: str, path: str, body: Any) -> dict[str, Any]:
    """Call the coordinator, which the last job's kills may have left starting."""
    deadline = time.monotonic() + 120
    while True:
        try:
            found: dict[str, Any] = lab.call(method, path, body)
            return found
        except ConcordatError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _egress(lab: Lab, bank: str) -> int:
    """Verify a bank's egress log; returns its records."""
    config = lab.node(bank)
    key = Keystore(config.path("keys"), config.passphrase()).identity().public
    store = NodeStore.open(config.database_url(config.database.url))
    head = egress.read_head(config.path("egress.head"))
    assert head is not None
    return egress.verify(store, key, {"file": head}).seq


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--banks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--enterprises", type=int, default=3000)
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two kills, on average")
    parser.add_argument("--kills", type=int, default=8, help="kills in a job, at most")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of victims")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
