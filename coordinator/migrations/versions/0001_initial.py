"""The first schema: invitations, parties, jobs, approvals, openings, leases, events, counters, models."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "invitations",
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("admit", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.Integer, nullable=False),
        sa.Column("request", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "parties",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("statement", sa.Text, nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("admitted_at", sa.Integer, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.Text, nullable=False, server_default=""),
        sa.Column("manifest", sa.Text, nullable=False, server_default=""),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
        sa.Column("roster", sa.Text, nullable=False, server_default="[]"),
        sa.Column("run", sa.String(24), nullable=False, server_default=""),
        sa.Column("resumes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cancel", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("submitted_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("finished_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("result", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "approvals",
        sa.Column("job", sa.String(64), primary_key=True),
        sa.Column("party", sa.String(40), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
    )
    op.create_table(
        "openings",
        sa.Column("job", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("total", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("party", sa.String(40), primary_key=True),
        sa.Column("job", sa.String(64), nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", sa.String(64), nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("step", sa.String(40), nullable=False),
        sa.Column("party", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("job", sa.String(64), nullable=False, unique=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("statements", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Revert."""
    for table in (
        "models",
        "counters",
        "events",
        "leases",
        "openings",
        "approvals",
        "jobs",
        "parties",
        "invitations",
    ):
        op.drop_table(table)
