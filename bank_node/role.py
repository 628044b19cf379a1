"""The bank's role in a node: its table, its part in a job's session, rounds and end."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from bank_node.data import BankData
from bank_node.score import BankScore
from node.config import NodeConfig
from node.role import Channel, Job
from node.table_source import TableSource
from protocol.canonical import lp
from protocol.errors import DataError, NotApproved
from protocol.job import Proposal


class BankRole:
    """A bank in the consortium."""

    def __init__(self, source: TableSource, models: Path) -> None:
        self._source, self._models = source, models
        # Encoded rows and trainers of the job under way; a bank runs one job at a time.
        self._current: tuple[str, BankData] | None = None

    def load(self) -> dict[str, Any]:
        """Read and check the bank's table."""
        return self._source.summary()

    def commitment(self, salt: bytes) -> str:
        """Return the salted commitment to the bank's cohort."""
        return sha256(lp("concordat/v1", "cohort", salt, self._source.table().digest)).hexdigest()

    def check(self, proposal: Proposal) -> None:
        """Refuse a proposal whose contract isn't this bank's, or for which it has too few rows."""
        if proposal.contract != self._source.contract_digest():
            raise NotApproved(
                "CONTRACT_DIFFERS", "the job is for another data contract than the one this bank has accepted"
            )
        if self._source.table().rows < proposal.min_rows:
            raise DataError("DATA_TOO_FEW_ROWS", f"the job asks for at least {proposal.min_rows} rows")

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Prepare the training with the other banks."""
        return self._score(job, channel).session()

    def train(self, job: Job, channel: Channel, round_: int, total: bytes) -> bytes:
        """Train a round."""
        return self._score(job, channel).train(round_, total)

    def finish(self, job: Job, channel: Channel, total: bytes) -> dict[str, Any]:
        """Evaluate and keep the model."""
        return self._score(job, channel).finish(total)

    def _score(self, job: Job, channel: Channel) -> BankScore:
        if self._current is None or self._current[0] != job.id:
            data = BankData(self._source.table(), self._source.dataset(), job.proposal, job.id, self._models)
            self._current = (job.id, data)
        return BankScore(job, channel, self._current[1])


def bank(config: NodeConfig) -> BankRole:
    """Make the bank that a node's configuration names."""
    return BankRole(TableSource.from_config(config), config.path("models"))
