"""The coordinator's database: parties, jobs and their openings, leases, events, models.

It holds no row, no label, no network: the totals in ``openings`` are under the banks' group mask.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from node.store import connect, migrate

metadata = sa.MetaData()
MIGRATIONS = Path(__file__).parent / "migrations"


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, metadata, *columns)


invitations = _table(
    "invitations",
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("admit", sa.Boolean, nullable=False),
    sa.Column("expires_at", sa.Integer, nullable=False),
    sa.Column("request", sa.Text, nullable=False, default=""),
)
parties = _table(
    "parties",
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("certificate", sa.Text, nullable=False),
    sa.Column("admitted_at", sa.Integer, nullable=False),
)
jobs = _table(
    "jobs",
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("cause", sa.Text, nullable=False, default=""),
    sa.Column("manifest", sa.Text, nullable=False, default=""),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("generation", sa.Integer, nullable=False, default=0),
    sa.Column("roster", sa.Text, nullable=False, default="[]"),
    sa.Column("run", sa.String(24), nullable=False, default=""),
    sa.Column("resumes", sa.Integer, nullable=False, default=0),
    sa.Column("cancel", sa.Boolean, nullable=False, default=False),
    sa.Column("submitted_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False, default=0),
    sa.Column("finished_at", sa.Float, nullable=False, default=0),
    sa.Column("result", sa.Text, nullable=False, default=""),
)
approvals = _table(
    "approvals",
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("party", sa.String(40), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
)
openings = _table(
    "openings",
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("total", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
leases = _table(
    "leases",
    sa.Column("party", sa.String(40), primary_key=True),
    sa.Column("job", sa.String(64), nullable=False),
)
events = _table(
    "events",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("step", sa.String(40), nullable=False),
    sa.Column("party", sa.String(40), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
counters = _table(
    "counters",
    sa.Column("name", sa.String(160), primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
models = _table(
    "models",
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("job", sa.String(64), nullable=False, unique=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("statements", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

ENDED = ("finished", "failed", "cancelled", "rejected")


class Store:
    """What the coordinator remembers."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str, *, upgrade: bool = True) -> Store:
        """Open the database; ``upgrade`` brings its schema up to date."""
        engine = connect(url)
        if upgrade:
            migrate(engine, MIGRATIONS)
        return cls(engine)

    # -- parties --------------------------------------------------------------------------------------------

    def invite(self, token: str, name: str, role: str, admit: bool, expires_at: int) -> None:
        """Keep an invitation under the digest of its token; a newer one for the same name replaces it."""
        with self.engine.begin() as db:
            db.execute(invitations.delete().where(invitations.c.name == name, invitations.c.request == ""))
            row = {"token": token, "name": name, "role": role, "admit": admit, "expires_at": expires_at}
            db.execute(invitations.insert().values(request="", **row))

    def invitation(self, token: str) -> dict[str, Any] | None:
        """Return an invitation by the digest of its token."""
        return self._one(sa.select(invitations).where(invitations.c.token == token))

    def pending(self, name: str) -> dict[str, Any] | None:
        """Return the invitation under which a party asked to be admitted."""
        query = sa.select(invitations).where(invitations.c.name == name, invitations.c.request != "")
        return self._one(query)

    def keep_request(self, token: str, request: dict[str, Any]) -> None:
        """Keep the enrolment request that came with an invitation."""
        with self.engine.begin() as db:
            db.execute(
                invitations.update().where(invitations.c.token == token).values(request=json.dumps(request))
            )

    def admit(self, name: str, role: str, statement: dict[str, Any], certificate: str) -> None:
        """Record an admitted party."""
        with self.engine.begin() as db:
            db.execute(parties.delete().where(parties.c.name == name))
            row = {"name": name, "role": role, "statement": json.dumps(statement), "certificate": certificate}
            db.execute(parties.insert().values(admitted_at=int(time.time()), **row))

    def party(self, name: str) -> dict[str, Any] | None:
        """Return a party, or None."""
        return self._one(sa.select(parties).where(parties.c.name == name))

    def list_parties(self) -> list[dict[str, Any]]:
        """Return all parties by name."""
        return self._all(sa.select(parties).order_by(parties.c.name))

    # -- jobs -----------------------------------------------------------------------------------------------

    def submit(self, job: str, document: dict[str, Any]) -> bool:
        """Keep a proposal as a job; returns whether it is new."""
        with self.engine.begin() as db:
            if db.execute(sa.select(jobs.c.id).where(jobs.c.id == job)).first():
                return False
            db.execute(
                jobs.insert().values(
                    id=job,
                    document=json.dumps(document),
                    state="proposed",
                    cause="",
                    manifest="",
                    attempt=0,
                    generation=0,
                    roster="[]",
                    run="",
                    resumes=0,
                    cancel=False,
                    submitted_at=time.time(),
                    started_at=0,
                    finished_at=0,
                    result="",
                )
            )
            return True

    def job(self, job: str) -> dict[str, Any] | None:
        """Return a job, or None."""
        return self._one(sa.select(jobs).where(jobs.c.id == job))

    def list_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, the newest first."""
        return self._all(sa.select(jobs).order_by(jobs.c.submitted_at.desc()))

    def set_job(self, job: str, **values: Any) -> None:
        """Change columns of a job."""
        with self.engine.begin() as db:
            db.execute(jobs.update().where(jobs.c.id == job).values(**values))

    def end_job(self, job: str, state: str, cause: str = "", result: dict[str, Any] | None = None) -> bool:
        """End a job once; returns False if it had ended before. Its leases are given back."""
        with self.engine.begin() as db:
            done = db.execute(
                jobs.update()
                .where(jobs.c.id == job, jobs.c.state.not_in(ENDED))
                .values(
                    state=state,
                    cause=cause,
                    finished_at=time.time(),
                    result=json.dumps(result) if result is not None else "",
                )
            )
            db.execute(leases.delete().where(leases.c.job == job))
            return done.rowcount == 1

    def approve(self, job: str, party: str, document: dict[str, Any], decision: str) -> None:
        """Record an institution's decision; a later one replaces it."""
        with self.engine.begin() as db:
            db.execute(approvals.delete().where(approvals.c.job == job, approvals.c.party == party))
            row = {"job": job, "party": party, "document": json.dumps(document), "decision": decision}
            db.execute(approvals.insert().values(**row))

    def approvals(self, job: str) -> dict[str, str]:
        """Return each institution's decision about a job."""
        rows = self._all(sa.select(approvals).where(approvals.c.job == job))
        return {row["party"]: row["decision"] for row in rows}

    def take_leases(self, job: str, names: list[str]) -> list[str]:
        """Take the leases of all institutions of a job, or none; returns those that another job holds."""
        try:
            return self._take_leases(job, names)
        except IntegrityError:
            # Another job took one between the look and the taking; nothing of this one's stands.
            return self._take_leases(job, names)

    def _take_leases(self, job: str, names: list[str]) -> list[str]:
        with self.engine.begin() as db:
            held = db.execute(sa.select(leases).where(leases.c.party.in_(names))).mappings().all()
            busy = [row["party"] for row in held if row["job"] != job]
            if busy:
                return sorted(busy)
            mine = {row["party"] for row in held}
            for name in names:
                if name not in mine:
                    db.execute(leases.insert().values(party=name, job=job))
            return []

    # -- openings, counters, events -------------------------------------------------------------------------

    def save_opening(self, job: str, name: str, attempt: int, total: bytes) -> None:
        """Keep an opened total; the first one stands, whatever comes later."""
        key = (openings.c.job == job, openings.c.name == name, openings.c.attempt == attempt)
        row = {"job": job, "name": name, "attempt": attempt, "total": total, "at": time.time()}
        with suppress(IntegrityError), self.engine.begin() as db:
            if db.execute(sa.select(openings.c.job).where(*key)).first() is None:
                db.execute(openings.insert().values(**row))

    def openings(self, job: str) -> dict[tuple[str, int], bytes]:
        """Return the opened totals of a job by (name, attempt)."""
        rows = self._all(sa.select(openings).where(openings.c.job == job))
        return {(row["name"], row["attempt"]): row["total"] for row in rows}

    def next(self, counter: str) -> int:
        """Return the next number of a counter, from 1."""
        try:
            return self._next(counter)
        except IntegrityError:
            # Another transaction has just made the counter; now it is there to be counted up.
            return self._next(counter)

    def _next(self, counter: str) -> int:
        with self.engine.begin() as db:
            changed = db.execute(
                counters.update().where(counters.c.name == counter).values(value=counters.c.value + 1)
            )
            if changed.rowcount == 0:
                db.execute(counters.insert().values(name=counter, value=1))
                return 1
            return int(db.execute(sa.select(counters.c.value).where(counters.c.name == counter)).scalar_one())

    def event(self, job: str, step: str, kind: str, party: str = "", **detail: Any) -> None:
        """Append to a job's log of events."""
        with self.engine.begin() as db:
            row = {"job": job, "at": time.time(), "step": step, "party": party, "kind": kind}
            db.execute(events.insert().values(detail=json.dumps(detail), **row))

    def last_event(self, job: str) -> float:
        """Return the Unix time of a job's last event, 0 if there is none."""
        with self.engine.connect() as db:
            found = db.execute(sa.select(sa.func.max(events.c.at)).where(events.c.job == job)).scalar()
        return float(found or 0.0)

    def events(self, job: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's events after one of them."""
        rows = self._all(
            sa.select(events).where(events.c.job == job, events.c.id > after).order_by(events.c.id)
        )
        return [{**row, "detail": json.loads(row["detail"])} for row in rows]

    # -- models ---------------------------------------------------------------------------------------------

    def register_model(
        self, job: str, digest: str, card: dict[str, Any], statements: list[dict[str, Any]]
    ) -> int:
        """Register a model as a candidate; a job registers one, whatever is repeated. Returns its version."""
        with self.engine.begin() as db:
            known = db.execute(sa.select(models.c.version).where(models.c.job == job)).first()
            if known:
                return int(known[0])
            row = {
                "job": job,
                "digest": digest,
                "card": json.dumps(card),
                "statements": json.dumps(statements),
            }
            made = db.execute(models.insert().values(state="candidate", created_at=time.time(), **row))
            key = made.inserted_primary_key
            assert key is not None
            return int(key[0])

    def list_models(self) -> list[dict[str, Any]]:
        """Return all models, the newest first."""
        return [self._model(row) for row in self._all(sa.select(models).order_by(models.c.version.desc()))]

    def model(self, version: int) -> dict[str, Any] | None:
        """Return a model, or None."""
        row = self._one(sa.select(models).where(models.c.version == version))
        return None if row is None else self._model(row)

    @staticmethod
    def _model(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "card": json.loads(row["card"]), "statements": json.loads(row["statements"])}

    def _one(self, query: sa.Select[Any]) -> dict[str, Any] | None:
        with self.engine.connect() as db:
            row = db.execute(query).mappings().first()
        return None if row is None else dict(row)

    def _all(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self.engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]
