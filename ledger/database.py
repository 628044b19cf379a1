"""How the ledger's stores open a database: SQLite so that what was committed survives a power cut, or PostgreSQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def open_engine(url: str) -> sa.Engine:
    """Return an engine whose transactions on SQLite take the write lock at their beginning and are synced at their end.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
    """
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def settings(connection: Any, record: object) -> None:
            connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000"):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
