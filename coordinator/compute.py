"""The compute party's role in a node (T): holds no table, witnesses jobs; its sums belong to the vertical stages."""

from __future__ import annotations

from typing import Any

from node.config import NodeConfig
from node.role import Channel, Job
from protocol.errors import NotApproved
from protocol.job import Proposal


class ComputeRole:
    """The neutral party that adds shares."""

    def load(self) -> dict[str, Any]:
        """Hold no table."""
        return {"rows": 0}

    def commitment(self, salt: bytes) -> str:
        """Commit to no cohort."""
        return ""

    def check(self, proposal: Proposal) -> None:
        """Any proposal will do: nothing of this party takes part."""

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Witness the job."""
        return {}

    def train(self, job: Job, channel: Channel, round_: int, total: bytes) -> bytes:
        """Refuse: rounds are between the banks."""
        raise NotApproved("ROLE_NO_ROUNDS", "the compute party takes no part in training rounds")

    def finish(self, job: Job, channel: Channel, total: bytes) -> dict[str, Any]:
        """End the job at this party."""
        return {}


def compute(_: NodeConfig) -> ComputeRole:
    """Make the compute party."""
    return ComputeRole()
