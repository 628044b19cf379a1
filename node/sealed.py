"""Messages of the joint stages: everything sealed for its recipient, so that a relay reads lengths and times only."""

from __future__ import annotations

from node.role import Channel, Job
from protocol import vertical


class SealedChannel:
    """A role's channel whose payloads only their recipients can open.

    Args:
        job: the job, whose manifest names the keys.
        channel: carries the messages.
    """

    def __init__(self, job: Job, channel: Channel) -> None:
        self._job, self._channel = job, channel

    def send(self, recipient: str, step: str, data: bytes, field_class: str) -> None:
        """Seal a payload and leave it for a party of the job."""
        job = self._job
        sealed = vertical.seal(job.manifest, job.roster, step, job.party, recipient, data)
        self._channel.send(recipient, step, sealed, field_class)

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        """Wait for a payload of a party of the job and open it.

        Raises:
            ProtocolError: it was sealed for somebody else, another step or attempt, or changed.
            Unavailable: as ``Channel.receive``.
        """
        job = self._job
        sealed = self._channel.receive(sender, step, patience)
        return vertical.unseal(job.sealing_key, job.roster, step, sender, job.party, sealed)
