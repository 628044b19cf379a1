"""Jobs: proposed, approved by every institution, queued, run, ended.

An institution takes part in one job at a time: a job runs once it holds the leases of all its parties.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from coordinator.flower import Control
from coordinator.store import ENDED, Store
from node.flower.bundle import bundle, code_hash
from protocol.errors import ConcordatError, ConfigurationError, NotApproved
from protocol.identity import Directory, IdentityKey, Role
from protocol.job import Approval, Proposal
from protocol.mailbox import COORDINATOR

log = logging.getLogger(__name__)
PROPOSED, QUEUED, RUNNING = "proposed", "queued", "running"
TURN_SECONDS = 0.7
SILENCE_SECONDS = 120.0


class Jobs:
    """The coordinator's jobs."""

    def __init__(
        self,
        consortium: str,
        store: Store,
        key: IdentityKey,
        directory: Callable[[], Directory],
        control: Control,
        *,
        start: Callable[[str], None],
    ) -> None:
        self._consortium, self._store, self._key = consortium, store, key
        self._directory, self._control, self._start = directory, control, start

    # -- people ---------------------------------------------------------------------------------------------

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Accept a proposal from a risk modeller.

        Raises:
            ConfigurationError: it names parties that aren't members, or in other roles.
            ProtocolError: it is malformed.
        """
        proposal = Proposal.parse({**body, "consortium": self._consortium, "code": code_hash()})
        directory = self._directory()
        for name in proposal.parties:
            party = directory.get(name)
            if party is None:
                raise ConfigurationError("PARTY_UNKNOWN", f"{name} is no member of the consortium")
            if (party.role is Role.BANK) != (name in proposal.banks):
                raise ConfigurationError(
                    "PARTY_ROLE", f"{name} can't take part as proposed: it is a {party.role}"
                )
        signed = proposal.sign(COORDINATOR, self._key)
        if self._store.submit(proposal.digest, signed):
            self._store.event(proposal.digest, "proposal", "submitted", title=proposal.title)
            self._start(proposal.digest)
        return self.show(proposal.digest)

    def find(self, prefix: str) -> dict[str, Any]:
        """Return the job whose id begins with ``prefix``.

        Raises:
            ConfigurationError: none or several do.
        """
        rows = [row for row in self._store.list_jobs() if row["id"].startswith(prefix)]
        if len(rows) != 1:
            what = "no job begins" if not rows else "several jobs begin"
            raise ConfigurationError(
                "JOB_UNKNOWN", f"{what} with {prefix[:16]}", "`concordat job list` shows them."
            )
        return rows[0]

    def show(self, prefix: str) -> dict[str, Any]:
        """Return everything that the coordinator knows of a job."""
        row = self.find(prefix)
        return {
            **self.summary(row),
            "proposal": json.loads(row["document"])["body"],
            "approvals": self._store.approvals(row["id"]),
            "roster": json.loads(row["roster"]),
            "result": json.loads(row["result"]) if row["result"] else None,
        }

    @staticmethod
    def summary(row: dict[str, Any]) -> dict[str, Any]:
        """Return a job in a line."""
        body = json.loads(row["document"])["body"]
        kept = (
            "id",
            "state",
            "cause",
            "attempt",
            "run",
            "resumes",
            "submitted_at",
            "started_at",
            "finished_at",
        )
        return {
            **{name: row[name] for name in kept},
            "title": body["title"],
            "release": body["release"]["kind"],
        }

    def cancel(self, prefix: str) -> dict[str, Any]:
        """Cancel a job that hasn't ended."""
        row = self.find(prefix)
        if row["state"] in ENDED:
            raise ConfigurationError("JOB_ENDED", f"the job has ended already: {row['state']}")
        self._store.set_job(row["id"], cancel=True)
        self._store.event(row["id"], "job", "cancel asked")
        return self.show(row["id"])

    # -- institutions ---------------------------------------------------------------------------------------

    def open_proposals(self, party: str) -> list[dict[str, Any]]:
        """Return the signed proposals that a party should know: those not ended in which it takes part."""
        rows = [row for row in self._store.list_jobs() if row["state"] not in ENDED]
        documents = [json.loads(row["document"]) for row in rows]
        return [d for d in documents if party in (*d["body"]["banks"], *d["body"]["witnesses"])]

    def take_decisions(self, party: str, data: bytes) -> None:
        """Record what an institution decided; what can't be read or believed is logged and left out."""
        try:
            documents = json.loads(data)
        except (ValueError, RecursionError):
            documents = None
        if not isinstance(documents, list) or not all(isinstance(signed, dict) for signed in documents):
            log.warning("the decisions of %s can't be read", party)
            return
        for signed in documents:
            try:
                decision = Approval.verified(signed, self._directory(), party)
                if decision.party != party:
                    raise NotApproved("APPROVAL_PARTY", "a decision names another party than its signer")
            except ConcordatError as error:
                log.warning("a decision of %s was refused: %s", party, error.code)
                continue
            row = self._store.job(decision.proposal)
            if row is None or self._store.approvals(decision.proposal).get(party) == decision.decision:
                continue
            self._store.approve(decision.proposal, party, signed, decision.decision)
            self._store.event(decision.proposal, "approval", decision.decision, party)

    # -- the queue ------------------------------------------------------------------------------------------

    def await_approvals(self, job: str, deadline: float, ended: Callable[[], bool]) -> str:
        """Wait until every party has decided; returns ``""``, or why the job can't run."""
        proposal = self.proposal(job)
        while not ended():
            row = self._store.job(job)
            decisions = self._store.approvals(job)
            rejected = sorted(name for name, decision in decisions.items() if decision == "reject")
            missing = sorted(set(proposal.parties) - set(decisions))
            if row is None or row["cancel"]:
                return "cancelled"
            if rejected:
                return f"rejected by {', '.join(rejected)}"
            if not missing:
                return ""
            if time.time() > deadline:
                return f"not approved in time by {', '.join(missing)}"
            time.sleep(0.2)
        raise SystemExit

    def await_leases(self, job: str, ended: Callable[[], bool]) -> str:
        """Wait until the job holds the leases of all its parties; returns ``""``, or that it was cancelled."""
        names, told = list(self.proposal(job).parties), ""
        self._store.set_job(job, state=QUEUED)
        while not ended():
            row = self._store.job(job)
            if row is None or row["cancel"]:
                return "cancelled"
            busy = self._store.take_leases(job, names)
            if not busy:
                return ""
            if ", ".join(busy) != told:
                told = ", ".join(busy)
                self._store.event(job, "queue", "waiting", detail=f"busy: {told}")
            time.sleep(0.5)
        raise SystemExit

    def run(self, job: str, resumes: int, ended: Callable[[], bool]) -> None:
        """Start the job's run and see it through; a run that dies is started again from the last opening.

        A run of which nothing is heard for longer than any stage may take counts as dead, so that no job hangs
        whatever becomes of Flower's processes.
        """
        patience = max(self.proposal(job).deadlines.body.values()) + SILENCE_SECONDS
        row = self._store.job(job)
        assert row is not None
        if row["state"] != RUNNING:
            self._store.set_job(job, state=RUNNING, started_at=time.time())
            self._store.event(job, "job", "started")
        while not ended():
            row = self._store.job(job)
            assert row is not None
            if row["state"] in ENDED:
                return
            if row["cancel"]:
                self._stop(row["run"])
                self._store.end_job(job, "cancelled", "cancelled by an operator")
                self._store.event(job, "job", "cancelled")
                return
            silent = time.time() - self._store.last_event(job) > patience
            if silent or not row["run"] or self._over(row["run"]):
                row = self._store.job(job)
                assert row is not None
                if row["state"] in ENDED:
                    return
                if silent and not row["run"]:
                    self._fail(job, "Flower's SuperLink takes no run")
                    return
                if row["run"] and row["resumes"] >= resumes:
                    self._fail(job, "the server of the rounds died too often, or fell silent")
                    return
                if silent:
                    self._stop(row["run"])
                self._launch(job, row)
            time.sleep(TURN_SECONDS)

    def _fail(self, job: str, cause: str) -> None:
        if self._store.end_job(job, "failed", cause):
            self._store.event(job, "job", "failed", detail=cause)

    def _launch(self, job: str, row: dict[str, Any]) -> None:
        try:
            run = self._control.start(bundle(), {"job": job})
        except Exception as error:  # noqa: BLE001 - whatever keeps the SuperLink from answering, it is tried again
            log.warning("the SuperLink takes no run: %s", type(error).__name__)
            time.sleep(1)
            return
        resumes = row["resumes"] + (1 if row["run"] else 0)
        self._store.set_job(job, run=run, resumes=resumes)
        self._store.event(job, "job", "resumed" if row["run"] else "run", run=run)

    def _over(self, run: str) -> bool:
        try:
            return self._control.state(run).over
        except Exception as error:  # noqa: BLE001 - the SuperLink is restarting
            log.warning("the SuperLink doesn't tell of a run: %s", type(error).__name__)
            return False

    def _stop(self, run: str) -> None:
        if run:
            try:
                self._control.stop(run)
            except Exception as error:  # noqa: BLE001 - it may have ended by itself
                log.warning("a run could not be stopped: %s", type(error).__name__)

    def proposal(self, job: str) -> Proposal:
        """Return a job's proposal."""
        row = self._store.job(job)
        assert row is not None
        return Proposal.parse(json.loads(row["document"])["body"])
