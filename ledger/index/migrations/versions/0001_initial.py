"""The first schema: event index, dossiers, requests, keys in use, deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(64), primary_key=True, nullable=False),
        sa.Column("url", sa.String(400), primary_key=True, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
    )
    op.create_table(
        "holding",
        sa.Column("lien", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("claim", sa.LargeBinary(32), nullable=False),
        sa.Column("key_index", sa.Integer, nullable=False),
    )
    op.create_table(
        "index_block",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "index_claim",
        sa.Column("claim", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("packed", sa.LargeBinary(32), nullable=False),
        sa.Column("owner", sa.LargeBinary(32), nullable=False),
        sa.Column("obligor", sa.LargeBinary(32), nullable=False),
        sa.Column("terms_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("doc_root", sa.LargeBinary(32), nullable=False),
        sa.Column("contract_tag", sa.LargeBinary(32), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "index_event",
        sa.Column("block", sa.BigInteger, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("transaction", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("claim", sa.LargeBinary(32), nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "index_lien",
        sa.Column("claim", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("lien", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("ppm", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("holder", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "index_tag",
        sa.Column("tag", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("claim", sa.LargeBinary(32), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
    )
    op.create_table(
        "key_given",
        sa.Column("key", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("role", sa.Integer, nullable=False),
        sa.Column("key_index", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "key_use",
        sa.Column("role", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("next", sa.Integer, nullable=False),
    )
    op.create_table(
        "receivable",
        sa.Column("claim", sa.LargeBinary(32), primary_key=True, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("file", sa.LargeBinary(32), nullable=False),
        sa.Column("part", sa.String(10), nullable=False),
        sa.Column("key_index", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("paid", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "request",
        sa.Column("id", sa.String(32), primary_key=True, nullable=False),
        sa.Column("direction", sa.String(3), nullable=False),
        sa.Column("peer", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("claim", sa.LargeBinary(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("code", sa.String(80), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
    )
    op.create_index("ix_delivery_due_at", "delivery", ["due_at"])
    op.create_index("ix_delivery_state", "delivery", ["state"])
    op.create_index("ix_holding_claim", "holding", ["claim"])
    op.create_index("ix_index_event_claim", "index_event", ["claim"])
    op.create_index("ix_index_tag_claim", "index_tag", ["claim"])
    op.create_index("ix_receivable_file", "receivable", ["file"])
    op.create_index("ix_request_claim", "request", ["claim"])
    op.create_index("ix_request_state", "request", ["state"])


def downgrade() -> None:
    """Revert."""
    op.drop_table("request")
    op.drop_table("receivable")
    op.drop_table("key_use")
    op.drop_table("key_given")
    op.drop_table("index_tag")
    op.drop_table("index_lien")
    op.drop_table("index_event")
    op.drop_table("index_claim")
    op.drop_table("index_block")
    op.drop_table("holding")
    op.drop_table("delivery")
