"""The product tour: a whole consortium on this machine trains one shared score, and what came of it in plain words.

Everything is the product's own: processes, keys, TLS, jobs, logs. What only a demo can do is compare with what nobody
may compute in real life, because it holds everybody's rows.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordat import dataset as datasets
from concordat.economy import write_economy
from concordat.lab import Lab, Member
from concordat.simulate import proposal_for, simulate
from concordat.yardsticks import yardsticks
from coordinator.registration import card_of
from node.egress import EgressLog, read_head, verify
from node.keystore import Keystore
from node.store import Store
from protocol.contract import DataContract
from protocol.errors import JobVoid, Unavailable
from protocol.identity import Role
from protocol.job import Deadlines, Proposal, Recipe, Release, Vertical
from protocol.join import bucketed
from protocol.mailbox import COORDINATOR

# In the synthetic economy a tenth default and the signal is weak: the recipe's 150 local steps a round fit noise there.
ECONOMY_STEPS = 50
COMPUTE = "compute"
ENDED = ("finished", "failed", "cancelled", "rejected")
Tell = Callable[[dict[str, Any]], None]
"""Called with each event: ``step``, ``party``, ``kind``, ``detail``, ``at`` (Unix time)."""


@dataclass(frozen=True)
class Options:
    """What a demo is to do.

    Attributes:
        directory: where the consortium lives; a temporary one if None.
        data: a data directory with a manifest; the synthetic economy if None.
        enterprises: size of the synthetic economy.
        seed: of the synthetic economy, and stated in a job without privacy.
        release: ``none`` or ``dp``.
        epsilon: privacy of a ``dp`` release.
        partners: whether data partners bring their columns in.
        partner_epsilon: privacy of the release to each partner; None for an exact one, which only tests ask for.
        simulated: run the job in this process instead of a consortium of processes.
        keep: leave the consortium running.
    """

    directory: Path | None = None
    data: Path | None = None
    enterprises: int = 24_000
    seed: int = 7
    release: str = "none"
    epsilon: float = 8.0
    partners: bool = True
    partner_epsilon: float | None = 1.0
    simulated: bool = False
    keep: bool = False


def run(options: Options, tell: Tell = lambda _: None) -> dict[str, Any]:
    """Run the tour and return its result (``concordat.report.result``).

    Raises:
        ConcordatError: a table, the consortium or the job failed; the message says why.
    """
    began = time.monotonic()
    temporary = options.directory is None
    home = options.directory or Path(tempfile.mkdtemp(prefix="concordat-"))
    try:
        return _Tour(options, home, tell).run(began)
    finally:
        if temporary and not options.keep:
            shutil.rmtree(home, ignore_errors=True)


class _Tour:
    def __init__(self, options: Options, home: Path, tell: Tell) -> None:
        self._options, self._home, self._tell = options, home, tell

    def run(self, began: float) -> dict[str, Any]:
        data, contract = self._data()
        banks = [party.name for party in data.parties if party.role == "bank"]
        tables = {bank: data.table(bank) for bank in banks}
        for bank, table in tables.items():
            self._say("data", "table", bank, rows=table.rows)
        proposal = self._proposal(data, tables, contract)
        if self._options.simulated:
            out = self._simulated(data, proposal, contract, tables)
        else:
            out = self._deployed(data, contract, proposal)
        self._say("baselines", "started")
        then = time.monotonic()
        alone, pooled = yardsticks(contract.dataset_for("bank"), tables, proposal, out["model"]["job"])
        out["seconds"]["baselines"] = round(time.monotonic() - then, 2)
        self._say("baselines", "done", seconds=out["seconds"]["baselines"])
        figures = out["figures"]
        for figure in ("auc", "ks"):
            found = {bank: getattr(yardstick, figure) for bank, yardstick in alone.items()}
            out[figure] = {
                "bank_only": found,
                "bank_only_mean": sum(found.values()) / len(found),
                "federated": figures[figure],
                "pooled": getattr(pooled, figure),
            }
        out["curves"] = {
            "bank_only": {bank: yardstick.roc for bank, yardstick in alone.items()},
            "pooled": pooled.roc,
        }
        out["name"] = "Concordat demo"
        out["consortium"] = data.manifest.consortium
        out["data"] = self._described(data, contract, tables)
        out["seconds"]["total"] = round(time.monotonic() - began, 2)
        return out

    # -- data -----------------------------------------------------------------------------------------------

    def _data(self) -> tuple[datasets.DataDirectory, DataContract]:
        options = self._options
        folder = options.data
        if folder is None:
            folder = self._home / "economy"
            if not (folder / "dataset.toml").exists():
                self._say("data", "started", detail=f"{options.enterprises:,} made-up enterprises")
                write_economy(
                    folder, count=options.enterprises, banks=3, seed=options.seed, kind="csv", replace=True
                )
        data = datasets.load(folder)
        self._say("data", "done", detail=data.manifest.name)
        return data, data.contract()

    def _proposal(
        self,
        data: datasets.DataDirectory,
        tables: dict[str, Any],
        contract: DataContract,
    ) -> Proposal:
        banks, consortium = sorted(tables), data.manifest.consortium
        private = self._options.release == "dp"
        release = Release(kind="dp", epsilon=self._options.epsilon, delta=1e-5) if private else Release()
        return proposal_for(
            banks,
            contract,
            consortium,
            release=release,
            seed=None if private else self._options.seed,
            recipe=Recipe(local_steps=ECONOMY_STEPS) if self._options.data is None else Recipe(),
            deadlines=Deadlines(enlist=120, session=600, round=180, finish=180),
            **self._joint(data, tables),
        )

    def _joint(self, data: datasets.DataDirectory, tables: dict[str, Any]) -> dict[str, Any]:
        """Return what a proposal says of partners: nothing where there are none, or the model is private."""
        partners = sorted(party.name for party in data.parties if party.role != "bank")
        if not partners or not self._options.partners or self._options.release == "dp":
            return {}
        rows = sum(table.rows for table in tables.values())
        rate = sum(int(table.label.sum()) for table in tables.values()) / rows
        terms = Vertical(
            partners=tuple(partners),
            compute=COMPUTE,
            epoch="demo",
            # A public constant: the consortium would publish it once, here the demo rounds what it sees.
            base_rate=min(max(round(rate * 20) / 20, 0.05), 0.95),
            rows=bucketed(int(rows * 0.75)),
            epsilon=self._options.partner_epsilon,
            consent=bool(data.consents()),
        )
        return {"vertical": terms, "witnesses": tuple(sorted([*partners, COMPUTE]))}

    def _described(
        self, data: datasets.DataDirectory, contract: DataContract, tables: dict[str, Any]
    ) -> dict[str, Any]:
        parties, everyone = [], set[str]()
        for party in data.parties:
            table = tables.get(party.name) or data.table(party.name)
            if party.role == "bank":
                everyone |= set(table.frame.index)
            parties.append(
                {
                    "name": party.name,
                    "role": party.role,
                    "rows": table.rows,
                    "fields": len(contract.dataset_for(party.role).fields),
                }
            )
        return {
            "name": data.manifest.name,
            "enterprises": len(everyone),
            "parties": parties,
            "banks_defaults": {bank: int(table.label.sum()) for bank, table in tables.items()},
        }

    # -- one process ----------------------------------------------------------------------------------------

    def _simulated(
        self,
        data: datasets.DataDirectory,
        proposal: Proposal,
        contract: DataContract,
        tables: dict[str, Any],
    ) -> dict[str, Any]:
        steps: list[dict[str, Any]] = []

        def progress(step: str, seconds: float) -> None:
            steps.append(
                {"step": step, "seconds": round(seconds, 2), "bytes": 0, "parties": len(proposal.banks)}
            )
            self._say(step, "done", seconds=round(seconds, 2))

        began = time.monotonic()
        partners = {
            party.name: (Role(party.role), data.table(party))
            for party in data.parties
            if party.role != "bank"
        }
        made = simulate(
            proposal,
            contract,
            tables,
            self._home / "models",
            progress,
            partners=partners,
            consents=_codes(data) if proposal.vertical is not None and proposal.vertical.consent else None,
        )
        card = card_of(proposal, made.job, list(proposal.banks), 0, made.figures, [made.figures["privacy"]])
        return {
            "figures": made.figures,
            "seconds": {"start_up": 0.0, "job": round(time.monotonic() - began, 2)},
            "steps": steps,
            "links": [],
            "egress": {},
            "verified": {},
            "model": {"version": 0, "digest": made.model, "job": made.job, "state": "simulated"},
            "card": card,
            "release": proposal.release.body,
            "privacy": [made.figures["privacy"]],
        }

    # -- a consortium of processes --------------------------------------------------------------------------

    def _deployed(
        self, data: datasets.DataDirectory, contract: DataContract, proposal: Proposal
    ) -> dict[str, Any]:
        lab = Lab(self._home)
        if not (self._home / COORDINATOR / "coordinator.toml").exists():
            document = json.dumps(contract.document()).encode()
            members = members_of(data, self._home, document)
            lab.create(
                proposal.consortium,
                [*members, Member(COMPUTE, "compute")],
                max_partner_epsilon=self._options.partner_epsilon or 1.0,
                exact_releases=self._options.partner_epsilon is None,
            )
        self._say("start-up", "started", detail="coordinator, exchange, Flower, one node per party")
        if lab.supervisor.alive():
            start_up = 0.0
        else:
            start_up = lab.up(tell=lambda what: self._say("start-up", "progress", detail=what))
        self._say("start-up", "done", seconds=round(start_up, 2))
        try:
            out = self._job(lab, proposal)
            out["seconds"]["start_up"] = round(start_up, 2)
            return out
        finally:
            if not self._options.keep:
                self._say("shut-down", "started")
                lab.down()

    def _job(self, lab: Lab, proposal: Proposal) -> dict[str, Any]:
        began = time.monotonic()
        body = {name: value for name, value in proposal.body.items() if name not in ("consortium", "code")}
        job = lab.call("POST", "/jobs", body)
        events: list[dict[str, Any]] = []
        seen: dict[str, str] = {}
        while True:
            fresh = lab.call("GET", f"/jobs/{job['id']}/events?after={events[-1]['id'] if events else 0}")
            for event in fresh:
                events.append(event)
                self._tell(event)
            self._nodes(lab, job["proposal"]["banks"], seen)
            shown = lab.call("GET", f"/jobs/{job['id']}")
            if shown["state"] in ENDED and not fresh:
                break
            time.sleep(0.25)
        seconds = time.monotonic() - began
        if shown["state"] != "finished":
            raise JobVoid(
                "DEMO_JOB_ENDED",
                f"the job ended as {shown['state']}: {shown['cause']}",
                f"Logs lie in {lab.directory / 'logs'}.",
            )
        model = lab.call("GET", f"/models/{shown['result']['version']}")
        egress, heads = self._egress(lab, shown["result"]["job"])
        return {
            "figures": shown["result"]["figures"],
            "seconds": {"start_up": 0.0, "job": round(seconds, 2)},
            "steps": steps_of(events),
            "links": _links(egress, events),
            "egress": egress,
            "verified": heads,
            "model": {name: model[name] for name in ("version", "digest", "job", "state")},
            "card": model["card"],
            "release": proposal.release.body,
            "privacy": model["card"]["privacy"],
        }

    def _nodes(self, lab: Lab, banks: list[str], seen: dict[str, str]) -> None:
        """Tell what the banks' own daemons say of their work: rows, which the coordinator never learns."""
        for bank in banks:
            try:
                status = lab.status(bank)
            except Unavailable:
                continue
            if status["state"] == "working" and "rows" in status and seen.get(bank) != status["step"]:
                seen[bank] = status["step"]
                self._say(status["step"], "at the bank", bank, rows=status["rows"])

    def _egress(self, lab: Lab, job: str) -> tuple[dict[str, list[dict[str, Any]]], dict[str, bool]]:
        """Return what left each node, from its own log, each log verified first."""
        found: dict[str, list[dict[str, Any]]] = {}
        verified: dict[str, bool] = {}
        for name in lab.nodes():
            config = lab.node(name)
            store = Store.open(config.database_url(config.database.url))
            key = Keystore(config.path("keys"), config.passphrase()).identity()
            log = EgressLog(store, key, config.path("egress.head"))
            head = read_head(config.path("egress.head"))
            verify(store, key.public, {} if head is None else {"the node's head file": head})
            verified[name] = True
            sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
            for record in log.records():
                entry = sums[(record.peer, record.purpose, record.field_class)]
                entry[0] += 1
                entry[1] += record.bytes
            found[name] = [
                {
                    "peer": peer,
                    "purpose": purpose,
                    "field_class": kind,
                    "records": count,
                    "bytes": size,
                }
                for (peer, purpose, kind), (count, size) in sums.items()
            ]
        return found, verified

    def _say(self, step: str, kind: str, party: str = "", **detail: Any) -> None:
        self._tell({"at": time.time(), "step": step, "party": party, "kind": kind, "detail": detail})


def members_of(data: datasets.DataDirectory, home: Path, contract: bytes) -> list[Member]:
    """Write each party's own table, and its consent codes if there are any, into its own folder."""
    consents = data.consents()
    members = []
    for party in data.parties:
        folder = home / party.name / "data"
        mapping = data.materialise(party, folder)
        file = folder / "consents.csv" if consents is not None else None
        if consents is not None and file is not None:
            consents.write(party.name, file)
        members.append(Member(party.name, party.role, contract, mapping, file))
    return members


def _codes(data: datasets.DataDirectory) -> dict[str, Any]:
    consents = data.consents()
    if consents is None:
        return {}
    return {
        party.name: consents.of_bank(party.name) if party.role == "bank" else consents.of_partner(party.name)
        for party in data.parties
    }


def steps_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return seconds, bytes and parties of each step of a job, from its events."""
    order: list[str] = []
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    size: dict[str, int] = defaultdict(int)
    parties: dict[str, set[str]] = defaultdict(set)
    round_ = 0
    for event in events:
        step = event["step"]
        if step.startswith("round "):
            round_ = int(step.split()[1])
            last[step] = event["at"]
            continue
        if step == "train":
            step = f"round {round_ + 1}"
        if not event["party"]:
            if step in last:
                last[step] = event["at"]
            continue
        if step not in first:
            order.append(step)
            first[step] = event["at"]
        last[step] = event["at"]
        parties[step].add(event["party"])
        if event["kind"] in ("asked", "asked again", "answered", "sent", "gave"):
            size[step] += event["detail"].get("bytes", 0)
    return [
        {
            "step": step,
            "seconds": round(last[step] - first[step], 2),
            "bytes": size[step],
            "parties": len(parties[step]),
        }
        for step in order
    ]


def _links(egress: dict[str, list[dict[str, Any]]], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages and bytes of each link: from nodes by their own logs, from the coordinator by the job's."""
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for name, records in egress.items():
        for record in records:
            via = "Flower" if record["purpose"].endswith("(Flower)") else "exchange"
            entry = sums[(name, record["peer"], via)]
            entry[0] += record["records"]
            entry[1] += record["bytes"]
    for event in events:
        if event["kind"] in ("asked", "asked again", "gave"):
            via = "exchange" if event["kind"] == "gave" else "Flower"
            entry = sums[(COORDINATOR, event["party"], via)]
            entry[0] += 1
            entry[1] += event["detail"]["bytes"]
    return [
        {"from": sender, "to": recipient, "via": via, "messages": count, "bytes": size}
        for (sender, recipient, via), (count, size) in sorted(sums.items())
    ]
