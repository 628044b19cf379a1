"""The tables of a ledger service, made by the migrations beside this file. SQLite, or PostgreSQL by URL.

The first five are the event index and hold only what stands on the chain. The others are the institution's own: sealed
dossiers, the requests between parties, and the events that wait to be delivered.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ledger.database import open_engine

metadata = sa.MetaData()

blocks = sa.Table(
    "index_block",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
)
events = sa.Table(
    "index_event",
    metadata,
    sa.Column("block", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("transaction", sa.LargeBinary(32), nullable=False),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("claim", sa.LargeBinary(32), nullable=False, index=True),
    sa.Column("fields", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
)
claims = sa.Table(
    "index_claim",
    metadata,
    sa.Column("claim", sa.LargeBinary(32), primary_key=True),
    sa.Column("packed", sa.LargeBinary(32), nullable=False, default=bytes(32)),
    sa.Column("owner", sa.LargeBinary(32), nullable=False, default=bytes(32)),
    sa.Column("obligor", sa.LargeBinary(32), nullable=False, default=bytes(32)),
    sa.Column("terms_hash", sa.LargeBinary(32), nullable=False, default=bytes(32)),
    sa.Column("doc_root", sa.LargeBinary(32), nullable=False, default=bytes(32)),
    sa.Column("contract_tag", sa.LargeBinary(32), nullable=False, default=bytes(32)),
    sa.Column("root", sa.LargeBinary(32), nullable=False, default=bytes(32)),
)
liens = sa.Table(
    "index_lien",
    metadata,
    sa.Column("claim", sa.LargeBinary(32), primary_key=True),
    sa.Column("lien", sa.LargeBinary(32), primary_key=True),
    sa.Column("ppm", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("holder", sa.LargeBinary(32), nullable=False),
)
tags = sa.Table(
    "index_tag",
    metadata,
    sa.Column("tag", sa.LargeBinary(32), primary_key=True),
    sa.Column("claim", sa.LargeBinary(32), nullable=False, index=True),
    sa.Column("epoch", sa.Integer, nullable=False),
)
receivables = sa.Table(
    "receivable",
    metadata,
    sa.Column("claim", sa.LargeBinary(32), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("file", sa.LargeBinary(32), nullable=False, default=b"", index=True),
    sa.Column("part", sa.String(10), nullable=False),
    sa.Column("key_index", sa.Integer, nullable=False, default=-1),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("paid", sa.BigInteger, nullable=False, default=0),
)
holdings = sa.Table(
    "holding",
    metadata,
    sa.Column("lien", sa.LargeBinary(32), primary_key=True),
    sa.Column("claim", sa.LargeBinary(32), nullable=False, index=True),
    sa.Column("key_index", sa.Integer, nullable=False),
)
requests = sa.Table(
    "request",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("direction", sa.String(3), nullable=False),
    sa.Column("peer", sa.String(40), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("claim", sa.LargeBinary(32), nullable=False, index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(10), nullable=False, index=True),
    sa.Column("code", sa.String(80), nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default=""),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("told", sa.Boolean, nullable=False, default=False),
)
keys = sa.Table(
    "key_use",
    metadata,
    sa.Column("role", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next", sa.Integer, nullable=False),
)
given = sa.Table(
    "key_given",
    metadata,
    sa.Column("key", sa.LargeBinary(32), primary_key=True),
    sa.Column("role", sa.Integer, nullable=False),
    sa.Column("key_index", sa.Integer, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False, default=b""),
)
deliveries = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("url", sa.String(400), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("state", sa.String(10), nullable=False, index=True),
)

MIGRATIONS = Path(__file__).parent / "migrations"


def connect(url: str) -> sa.Engine:
    """Open a service's database and bring its schema up to date.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
    """
    engine = open_engine(url)
    migrate(engine)
    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest version."""
    newest = max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    if _version(engine) == newest:
        return
    from alembic import command  # slow to import, and only needed where there is something to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def empty(engine: sa.Engine) -> None:
    """Forget what was read from the chain; what the institution keeps itself stays."""
    with engine.begin() as db:
        for table in (blocks, events, claims, liens, tags):
            db.execute(sa.delete(table))


def _version(engine: sa.Engine) -> str:
    if not sa.inspect(engine).has_table("ledger_alembic_version"):
        return ""
    with engine.begin() as db:
        return str(db.execute(sa.text("SELECT version_num FROM ledger_alembic_version")).scalar() or "")
