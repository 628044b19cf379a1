"""The product tour: a whole consortium on this machine trains one shared score, and what came of it in plain words.

Everything is the product's own: processes, keys, TLS, jobs, logs. What only a demo can do is compare with what nobody
may compute in real life, because it holds everybody's rows.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordat import dataset as datasets
from concordat.account import links_of, steps_of, summed, told_of
from concordat.economy import write_economy
from concordat.joint import coverage_of, partners_of, spent_of
from concordat.lab import Lab, Member
from concordat.simulate import Simulation, proposal_for
from concordat.yardsticks import compared
from coordinator.registration import card_of
from coordinator.store import Store as Records
from node.egress import EgressLog, read_head, verify
from node.ingest import Table
from node.keep import Keep, MemoryKeep, keep_of
from node.keystore import Keystore
from node.store import Store
from protocol.contract import DataContract
from protocol.errors import ConcordatError, JobVoid, Unavailable
from protocol.identity import Role
from protocol.job import Deadlines, Manifest, Proposal, Recipe, Release, Vertical
from protocol.join import bucketed
from protocol.mailbox import COORDINATOR

__all__ = ["COMPUTE", "Options", "members_of", "run", "steps_of"]

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
        ledger: play the chapter on the ledger, too; never in a simulation.
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
    ledger: bool = True


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
        partners = self._partners(data) if proposal.vertical is not None else {}
        out |= compared(out["figures"], contract, tables, partners, proposal, out["model"]["job"])
        out["seconds"]["baselines"] = round(time.monotonic() - then, 2)
        self._say("baselines", "done", seconds=out["seconds"]["baselines"])
        if proposal.vertical is not None:
            consents = data.consents() if proposal.vertical.consent else None
            listed = {name: table for name, (_, table) in partners.items()}
            out["coverage"] = coverage_of(tables, listed, consents)
        if self._options.ledger and not self._options.simulated:
            try:
                out["ledger"] = self._ledger()
            except ConcordatError as error:
                # The score is there; a ledger that can't be played here must not take it away.
                self._say("ledger", "left out", detail=f"{error.message} {error.hint}".strip())
        out["name"] = "Concordat demo"
        out["consortium"] = data.manifest.consortium
        out["data"] = self._described(data, contract, tables)
        out["seconds"]["total"] = round(time.monotonic() - began, 2)
        return out

    def _ledger(self) -> dict[str, Any]:
        """Two banks race for one invoice; the same invoice in another format is recognised."""
        from concordat import chapter_ledger

        self._say("ledger", "started")
        story = chapter_ledger.run(
            self._home / "ledger", lambda line: self._say("ledger", "progress", detail=line)
        )
        self._say("ledger", "done", seconds=story["seconds"]["total"])
        return {**story, "lines": chapter_ledger.lines(story)}

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

    def _partners(self, data: datasets.DataDirectory) -> dict[str, tuple[str, Table]]:
        """Return role and table of each data partner."""
        return {party.name: (party.role, data.table(party)) for party in data.parties if party.role != "bank"}

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
        return {
            "title": "Shared risk model",
            "vertical": terms,
            "witnesses": tuple(sorted([*partners, COMPUTE])),
        }

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
        terms, keeps = proposal.vertical, dict[str, MemoryKeep]()
        job = Simulation(
            proposal,
            contract,
            tables,
            self._home / "models",
            progress,
            partners={name: (Role(role), table) for name, (role, table) in self._partners(data).items()},
            keeps=keeps,
            consents=_codes(data) if terms is not None and terms.consent else None,
        )
        told = job.session()
        made = job.finish(*job.rounds())
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
            **_accounts(job.manifest, made.figures, told, {}, keeps),
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
        egress, own, heads = self._egress(lab, shown["result"]["job"])
        figures = shown["result"]["figures"]
        return {
            "figures": figures,
            "seconds": {"start_up": 0.0, "job": round(seconds, 2)},
            "steps": steps_of(events, own),
            "links": links_of(egress, events),
            "egress": egress,
            "verified": heads,
            "model": {name: model[name] for name in ("version", "digest", "job", "state")},
            "card": model["card"],
            "release": proposal.release.body,
            "privacy": model["card"]["privacy"],
            **_accounts(_manifest(lab, job["id"]), figures, told_of(events), own, _keeps(lab, proposal)),
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

    def _egress(
        self, lab: Lab, job: str
    ) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]], dict[str, bool]]:
        """Return what left each node ever and for this job, from its own log, each log verified first."""
        found: dict[str, list[dict[str, Any]]] = {}
        own: dict[str, list[dict[str, Any]]] = {}
        verified: dict[str, bool] = {}
        for name in lab.nodes():
            config = lab.node(name)
            store = Store.open(config.database_url(config.database.url))
            key = Keystore(config.path("keys"), config.passphrase()).identity()
            log = EgressLog(store, key, config.path("egress.head"))
            head = read_head(config.path("egress.head"))
            verify(store, key.public, {} if head is None else {"the node's head file": head})
            verified[name] = True
            found[name], own[name] = summed(log.records()), summed(log.records(job))
        return found, own, verified

    def _say(self, step: str, kind: str, party: str = "", **detail: Any) -> None:
        self._tell({"at": time.time(), "step": step, "party": party, "kind": kind, "detail": detail})


def _manifest(lab: Lab, job: str) -> Manifest:
    """Return a job's manifest from the coordinator's records."""
    config = lab.coordinator()
    row = Records.open(config.database_url(config.database.url), upgrade=False).job(job)
    assert row is not None
    return Manifest.parse(json.loads(row["manifest"]))


def _keeps(lab: Lab, proposal: Proposal) -> dict[str, Keep]:
    """Return the keeps of the parties that sign releases."""
    if proposal.vertical is None:
        return {}
    return {name: keep_of(lab.node(name)) for name in (*proposal.banks, proposal.vertical.compute)}


def _accounts(
    manifest: Manifest,
    figures: dict[str, Any],
    told: dict[str, Any],
    egress: dict[str, list[dict[str, Any]]],
    keeps: Mapping[str, Keep],
) -> dict[str, Any]:
    """Return what the result says of partners: nothing of a job without them."""
    terms = manifest.proposal.vertical
    if terms is None:
        return {}
    partners = partners_of(manifest, terms, told, figures.get("partners", []), egress)
    released = [name for name, partner in partners.items() if partner["released"]]
    signers = [keep for name, keep in keeps.items() if name not in terms.partners]
    return {"partners": partners, "privacy_spent": spent_of(manifest, terms, released, signers)}


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
