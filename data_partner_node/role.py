"""A data partner's role in a node: its table is checked and held; its columns join a job in the vertical stages."""

from __future__ import annotations

from typing import Any

from node.config import NodeConfig
from node.role import Channel, Job
from node.table_source import TableSource
from protocol.errors import NotApproved
from protocol.job import Proposal


class PartnerRole:
    """An e-commerce platform or a government-data holder in the consortium."""

    def __init__(self, source: TableSource) -> None:
        self._source = source

    def load(self) -> dict[str, Any]:
        """Read and check the partner's table."""
        return self._source.summary()

    def commitment(self, salt: bytes) -> str:
        """A partner has no cohort to commit to."""
        return ""

    def check(self, proposal: Proposal) -> None:
        """Refuse a proposal under another data contract."""
        if proposal.contract != self._source.contract_digest():
            raise NotApproved(
                "CONTRACT_DIFFERS",
                "the job is for another data contract than the one this partner has accepted",
            )

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Witness the job: nothing of the partner's table takes part in the banks' score."""
        return {}

    def train(self, job: Job, channel: Channel, round_: int, total: bytes) -> bytes:
        """Refuse: rounds are between the banks."""
        raise NotApproved("ROLE_NO_ROUNDS", "a data partner takes no part in training rounds")

    def finish(self, job: Job, channel: Channel, total: bytes) -> dict[str, Any]:
        """End the job at this party."""
        return {}


def partner(config: NodeConfig) -> PartnerRole:
    """Make the partner that a node's configuration names."""
    return PartnerRole(TableSource.from_config(config))
