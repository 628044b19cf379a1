"""The node's database: what it has decided, received and released. SQLite on one machine, PostgreSQL by URL.

Tables are made by the migrations in ``node/migrations``; the definitions here are what the code reads and writes.
No row of an enterprise is kept here, and no secret: those lie in the vault.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

metadata = sa.MetaData()

egress = sa.Table(
    "egress",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
)
proposals = sa.Table(
    "proposals",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("received_at", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("decided_by", sa.String(200), nullable=False, default=""),
    sa.Column("decided_at", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("approval", sa.Text, nullable=False, default=""),
)
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("proposal", sa.String(64), nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("generation", sa.Integer, nullable=False, default=0),
    sa.Column("updated_at", sa.Integer, nullable=False),
)
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Integer, nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
replay = sa.Table(
    "replay",
    metadata,
    sa.Column("guard", sa.String(64), primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
)
models = sa.Table(
    "models",
    metadata,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
)


def connect(url: str) -> sa.Engine:
    """Open the database; SQLite waits for locks and syncs every commit to disk."""
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


def hosts_of(*urls: str) -> set[str]:
    """Return the hosts that database URLs name."""
    made = [sa.make_url(url) for url in urls]
    named = [(url.host, *(url.normalized_query.get("host", ()))) for url in made]
    return {host for hosts in named for host in hosts if host}


def migrate(engine: sa.Engine, scripts: Path) -> None:
    """Bring the schema to the newest version of the migrations in ``scripts``."""
    newest = max(path.name.split("_")[0] for path in (scripts / "versions").glob("[0-9]*.py"))
    if _version(engine) == newest:
        return
    # Imported only where there is something to do: it takes a third of a second.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version(engine: sa.Engine) -> str:
    if not sa.inspect(engine).has_table("alembic_version"):
        return ""
    with engine.connect() as db:
        return str(db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() or "")


MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """What a node remembers."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """Open the database and bring its schema up to date."""
        engine = connect(url)
        migrate(engine, MIGRATIONS)
        return cls(engine)

    # -- proposals and decisions ----------------------------------------------------------------------------

    def add_proposal(self, digest: str, document: dict[str, Any]) -> bool:
        """Keep a proposal; returns whether it is new."""
        with self.engine.begin() as db:
            if db.execute(sa.select(proposals.c.digest).where(proposals.c.digest == digest)).first():
                return False
            db.execute(
                proposals.insert().values(
                    digest=digest,
                    document=json.dumps(document),
                    received_at=int(time.time()),
                    state="pending",
                )
            )
            return True

    def decide(self, digest: str, state: str, by: str, reason: str, approval: dict[str, Any]) -> None:
        """Record the institution's decision about a proposal."""
        with self.engine.begin() as db:
            db.execute(
                proposals.update()
                .where(proposals.c.digest == digest)
                .values(
                    state=state,
                    decided_by=by,
                    decided_at=int(time.time()),
                    reason=reason,
                    approval=json.dumps(approval),
                )
            )

    def proposal(self, digest: str) -> dict[str, Any] | None:
        """Return a proposal with its decision, or None."""
        with self.engine.connect() as db:
            row = db.execute(sa.select(proposals).where(proposals.c.digest == digest)).mappings().first()
        return None if row is None else dict(row)

    def list_proposals(self) -> list[dict[str, Any]]:
        """Return all proposals, the newest first."""
        with self.engine.connect() as db:
            rows = db.execute(sa.select(proposals).order_by(proposals.c.received_at.desc())).mappings()
            return [dict(row) for row in rows]

    # -- jobs -----------------------------------------------------------------------------------------------

    def open_job(self, job: str, proposal: str, manifest: dict[str, Any]) -> None:
        """Remember a job by its manifest's hash; a repeat changes nothing."""
        with self.engine.begin() as db:
            if db.execute(sa.select(jobs.c.job).where(jobs.c.job == job)).first():
                return
            db.execute(
                jobs.insert().values(
                    job=job,
                    proposal=proposal,
                    manifest=json.dumps(manifest),
                    state="open",
                    updated_at=int(time.time()),
                )
            )

    def set_job(self, job: str, **values: Any) -> None:
        """Change a job's state, attempt or generation."""
        with self.engine.begin() as db:
            db.execute(jobs.update().where(jobs.c.job == job).values(updated_at=int(time.time()), **values))

    def job(self, job: str) -> dict[str, Any] | None:
        """Return a job, or None."""
        with self.engine.connect() as db:
            row = db.execute(sa.select(jobs).where(jobs.c.job == job)).mappings().first()
        return None if row is None else dict(row)

    def job_of(self, proposal: str) -> list[dict[str, Any]]:
        """Return the jobs that came of a proposal."""
        with self.engine.connect() as db:
            rows = db.execute(sa.select(jobs).where(jobs.c.proposal == proposal)).mappings()
            return [dict(row) for row in rows]

    # -- refusals and replay guards ---------------------------------------------------------------------------

    def refuse(self, peer: str, code: str, message: str) -> None:
        """Log that something of a peer was refused."""
        with self.engine.begin() as db:
            values = {"at": int(time.time()), "peer": peer, "code": code, "message": message}
            db.execute(refusals.insert().values(**values))

    def list_refusals(self) -> list[dict[str, Any]]:
        """Return what was refused, in order."""
        with self.engine.connect() as db:
            return [dict(row) for row in db.execute(sa.select(refusals).order_by(refusals.c.id)).mappings()]

    def load_guard(self, name: str) -> dict[str, Any] | None:
        """Return a replay guard's state."""
        with self.engine.connect() as db:
            row = db.execute(sa.select(replay.c.state).where(replay.c.guard == name)).first()
        return None if row is None else json.loads(row[0])

    def save_guard(self, name: str, state: dict[str, Any]) -> None:
        """Keep a replay guard's state."""
        with self.engine.begin() as db:
            changed = db.execute(
                replay.update().where(replay.c.guard == name).values(state=json.dumps(state))
            )
            if changed.rowcount == 0:
                db.execute(replay.insert().values(guard=name, state=json.dumps(state)))

    # -- models -----------------------------------------------------------------------------------------------

    def save_model(self, job: str, digest: str, metrics: dict[str, Any]) -> None:
        """Record a model whose weights were written beside the database."""
        with self.engine.begin() as db:
            db.execute(models.delete().where(models.c.job == job))
            values = {"job": job, "digest": digest, "metrics": json.dumps(metrics)}
            db.execute(models.insert().values(created_at=int(time.time()), **values))

    def list_models(self) -> list[dict[str, Any]]:
        """Return the models that this node holds."""
        with self.engine.connect() as db:
            rows: Sequence[Any] = db.execute(sa.select(models).order_by(models.c.created_at)).mappings().all()
            return [dict(row) for row in rows]
