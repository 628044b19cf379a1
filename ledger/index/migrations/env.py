"""Runs the migrations of a ledger service on the connection that ``ledger.index.tables.migrate`` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, version_table="ledger_alembic_version")
with context.begin_transaction():
    context.run_migrations()
