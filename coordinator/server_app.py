"""The Flower ServerApp: runs one job through enlistment, session, rounds and end, from wherever it stopped.

What is done lies in the coordinator's database; a server that was killed is started again as a new run and goes on
after the last opening. A bank that drops makes its attempt void: the stage starts afresh without it if three remain.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coordinator import founding
from coordinator.config import CONFIG_VARIABLE, CoordinatorConfig, load
from coordinator.fleet import Fleet, PartiesMissing, Place
from coordinator.hub import PUBLISHED, ROSTER, Hub
from coordinator.mail import Mail
from coordinator.registration import register
from coordinator.store import ENDED, Store
from coordinator.strategy import MaskedFedAvg, arrays_of, framed
from node.exchange import Exchange
from protocol.canonical import encode
from protocol.errors import ConcordatError, JobVoid
from protocol.identity import Directory
from protocol.job import Manifest, Proposal
from protocol.mailbox import COORDINATOR
from protocol.opening import Roster

log = logging.getLogger(__name__)
UPDATE = "update"
# Kept once every party has answered: an attempt without it opens its session again.
SESSION = "session"
STANDING = ("knots", "centring", "edges")
SESSION_OPENINGS = (ROSTER, "knots", "centring")
JOINT = "with partners"
LEAST_BANKS = 3
SUPERSEDED, CANCELLED = "RUN_SUPERSEDED", "JOB_CANCELLED"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job that the run's configuration names."""
    config = load(Path(os.environ[CONFIG_VARIABLE]))
    server = Server(config, grid, str(context.run_config["job"]))
    try:
        server.run()
    finally:
        server.close()


class Server:
    """One run of one job."""

    def __init__(self, config: CoordinatorConfig, grid: Grid, job: str) -> None:
        self._config, self._job, self._generation = config, job, 0
        self._store = Store.open(config.database_url(config.database.url), upgrade=False)
        keys = founding.load_keystore(config)
        self._key = keys.identity()
        registry = founding.load_registry_key(config)
        statements = [json.loads(row["statement"]) for row in self._store.list_parties()]
        self._directory = Directory.from_statements(
            statements, config.consortium, registry.public, int(time.time())
        )
        authority = config.path(founding.AUTHORITY_CERTIFICATE)
        self._exchange = Exchange(
            f"tls://{config.exchange_dial()}", keys.tls_context(authority), config.consortium, COORDINATOR
        )
        self._fleet = Fleet(
            grid,
            self._directory,
            self._key,
            self._sequence,
            self._watch,
            self._told,
            config.jobs.poll_seconds,
            Mail(self._exchange),
        )
        row = self._row()
        self._proposal = Proposal.parse(json.loads(row["document"])["body"])

    def close(self) -> None:
        """Leave the exchange."""
        self._exchange.close()

    def run(self) -> None:
        """Bring the job to its end, whatever the end is."""
        try:
            self._exchange.open(self._proposal.parties, patience=60)
            manifest = self._manifest()
            while True:
                try:
                    self._attempt(manifest)
                    return
                except PartiesMissing as missing:
                    self._without(manifest, missing)
        except ConcordatError as error:
            if error.code == SUPERSEDED:
                # This run was thought dead and isn't; the job belongs to the newer one.
                log.warning("%s", error.message)
                return
            if error.code == CANCELLED:
                # Whoever notices first, the daemon or this run: it ends as what it is.
                if self._store.end_job(self._job, "cancelled", "cancelled by an operator"):
                    self._told("job", "", "cancelled")
                return
            if self._store.end_job(self._job, "failed", f"{error.message} [{error.code}]"):
                self._told("job", "", "failed", cause=error.message, code=error.code)

    # -- stages ---------------------------------------------------------------------------------------------

    def _manifest(self) -> Manifest:
        """Return the manifest, enlisting the parties if that hasn't been done."""
        row = self._row()
        if row["manifest"]:
            return Manifest.parse(json.loads(row["manifest"]))
        proposal = self._proposal
        asked = encode({"proposal": proposal.digest})
        answers = self._fleet.ask(
            "enlist",
            dict.fromkeys(proposal.parties, asked),
            Place(proposal.digest, 0, 0),
            proposal.deadlines.enlist,
        )
        manifest = Manifest.assemble(proposal, [json.loads(answer) for answer in answers.values()])
        self._store.set_job(
            self._job, manifest=json.dumps(manifest.body), roster=json.dumps(list(proposal.banks))
        )
        self._told("enlist", "", "done", manifest=manifest.digest)
        return manifest

    def _attempt(self, manifest: Manifest) -> None:
        row = self._row()
        attempt, generation = row["attempt"], row["generation"] + 1
        self._store.set_job(self._job, generation=generation)
        self._generation = generation
        roster = manifest.roster(attempt, json.loads(row["roster"]))
        place = Place(manifest.digest, attempt, generation)
        rounds = self._rounds(attempt)
        if (SESSION, attempt) not in self._store.openings(self._job):
            self._session(manifest, roster, place)
        self._train(roster, place, rounds)
        self._finish(roster, place)

    def _session(self, manifest: Manifest, roster: Roster, place: Place) -> None:
        seconds = self._proposal.deadlines.session
        joint = self._proposal.vertical is not None
        hub = self._hub(roster, place, (*SESSION_OPENINGS, *((PUBLISHED,) if joint else ())))
        witnesses = self._proposal.witnesses
        head = {
            "manifest": manifest.body,
            "roster": list(roster.banks),
            "opened": hub.opened(),
            "seconds": seconds,
        }
        answers = self._fleet.ask(
            "session",
            {party: framed(head) for party in (*roster.banks, *witnesses)},
            place,
            seconds,
            hub.turn,
            witnesses,
        )
        for party in sorted(set(answers) & set(witnesses)):
            self._told(JOINT, party, "ended", told=json.loads(answers[party]))
        found = {answers[bank] for bank in roster.banks}
        if len(found) != 1:
            raise JobVoid("ENCODING_DIFFERS", "the banks did not arrive at the same encoding")
        self._store.save_opening(self._job, SESSION, roster.attempt, encode(roster.body))
        self._told("session", "", "done", **json.loads(found.pop()))

    def _train(self, roster: Roster, place: Place, rounds: dict[int, bytes]) -> None:
        wanted = self._proposal.rounds
        opened = len(rounds)
        if opened == wanted:
            return
        strategy = MaskedFedAvg(
            self._fleet, roster, place, opened, self._proposal.deadlines.round, self._keep(place.attempt)
        )
        strategy.start(
            grid=self._fleet,
            initial_arrays=arrays_of(rounds[opened] if opened else b""),
            num_rounds=wanted - opened,
            timeout=self._proposal.deadlines.round,
        )

    def _keep(self, attempt: int) -> Any:
        def keep(round_: int, total: bytes) -> None:
            self._store.save_opening(self._job, f"{UPDATE}.{round_}", attempt, total)
            self._told(f"round {round_}", "", "opened", bytes=len(total))

        return keep

    def _finish(self, roster: Roster, place: Place) -> None:
        seconds = self._proposal.deadlines.finish
        names: tuple[str, ...] = ("edges", "histogram")
        if self._proposal.release.kind == "dp":
            names = ("histogram",)
        elif self._proposal.vertical is not None:
            names = ("edges", "histogram", "comparison")
        hub = self._hub(roster, place, names)
        total = self._rounds(place.attempt)[self._proposal.rounds]
        head = {"roster": list(roster.banks), "opened": hub.opened(), "seconds": seconds}
        answers = self._fleet.ask(
            "finish", {bank: framed(head, total) for bank in roster.banks}, place, seconds, hub.turn
        )
        result = register(self._store, self._directory, self._proposal, self._row(), place.job, answers)
        if self._store.end_job(self._job, "finished", "", result):
            self._told("job", "", "finished", model=result["version"])

    def _without(self, manifest: Manifest, missing: PartiesMissing) -> None:
        """Go on without the banks that are silent, if enough remain; a new attempt either way."""
        row = self._row()
        roster = [bank for bank in json.loads(row["roster"]) if bank not in missing.silent]
        lost = sorted(set(missing.silent) & set(self._proposal.witnesses))
        if (
            not row["manifest"]
            or len(roster) < LEAST_BANKS
            or lost
            or row["attempt"] >= len(self._proposal.banks)
        ):
            raise JobVoid(
                "TOO_FEW_BANKS",
                f"{missing.message}; attempt {row['attempt']} is void and fewer than {LEAST_BANKS} banks remain",
            ) from missing
        self._store.set_job(self._job, attempt=row["attempt"] + 1, roster=json.dumps(roster))
        self._told("attempt", "", "void", cause=missing.message, roster=roster)

    # -- what the stages share ------------------------------------------------------------------------------

    def _hub(self, roster: Roster, place: Place, names: tuple[str, ...]) -> Hub:
        return Hub(
            self._store,
            self._exchange,
            self._key,
            self._directory,
            self._job,
            roster,
            place.generation,
            names,
            STANDING,
            self._sequence,
            self._told,
        )

    def _rounds(self, attempt: int) -> dict[int, bytes]:
        """Return the totals of the rounds that an attempt has opened."""
        made = self._store.openings(self._job)
        return {
            int(name.split(".")[1]): total
            for (name, at), total in made.items()
            if at == attempt and name.startswith(f"{UPDATE}.")
        }

    def _row(self) -> dict[str, Any]:
        row = self._store.job(self._job)
        if row is None:
            raise JobVoid("JOB_UNKNOWN", "the run names a job that this coordinator doesn't have")
        return row

    def _sequence(self, party: str) -> int:
        return self._store.next(f"sequence {self._job} {party}")

    def _watch(self) -> None:
        row = self._row()
        if row["cancel"] or row["state"] in ENDED:
            raise JobVoid(CANCELLED, "the job was cancelled")
        if self._generation and row["generation"] != self._generation:
            raise JobVoid(SUPERSEDED, "another run of the job has begun")

    def _told(self, step: str, party: str, kind: str, **detail: Any) -> None:
        self._store.event(self._job, step, kind, party, **detail)
