"""What a role (bank, data partner, compute party) brings to a node, and what a job offers it.

Roles reach the daemon through entry points of the group ``concordat.roles``, so that ``node`` imports no party. A role
is written against :class:`Channel`, which hides where it runs: in a daemon over the exchange, or in one process for a
simulation. The same code then gives the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from node.config import NodeConfig
from protocol.errors import ConfigurationError
from protocol.identity import PublicKey
from protocol.job import Manifest, PartnerTerms, Proposal
from protocol.masking import MaskKey
from protocol.opening import Roster
from protocol.sealing import SealingKey


@dataclass(frozen=True)
class Job:
    """One job as one party sees it.

    Attributes:
        id: J, the manifest's digest.
        manifest: the proposal and everybody's enlistment.
        party: this party's name.
        roster: the banks of the attempt.
        mask_key: this party's key for pairwise masks.
        sealing_key: this party's key for sealed payloads.
        opened: openings of earlier attempts that stand, by name, with the attempt in which they were opened.
    """

    id: str
    manifest: Manifest
    party: str
    roster: Roster
    mask_key: MaskKey
    sealing_key: SealingKey
    opened: dict[str, int]

    @property
    def proposal(self) -> Proposal:
        """What was approved."""
        return self.manifest.proposal

    def pair_key(self, peer: str) -> bytes:
        """Return the key of the masks that this party shares with another one of the job."""
        public = bytes.fromhex(self.manifest.enlistment(peer).mask_key)
        return self.mask_key.agree(self.party, peer, public, self.id)

    @property
    def attempt(self) -> int:
        """The attempt under way."""
        return self.roster.attempt


class Channel(Protocol):
    """What a role may do during a job. Every call is a durable step: repeated after a crash, it gives the same."""

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return what ``make`` returns, made at most once per job and name and kept encrypted until the job ends."""
        ...

    def keep(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Like :meth:`once`, where the order of steps may differ after a crash: what is kept decides."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes like :meth:`keep`, in the place of what was kept before."""
        ...

    def recall(self, name: str) -> bytes | None:
        """Return what a step of this job kept, or None."""
        ...

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        """Leave a signed message for a party of the job."""
        ...

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        """Wait for the message of a party of the job and check it.

        Raises:
            Unavailable: it didn't come within the stage's time, or within ``patience`` seconds.
        """
        ...

    def sign(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return a document signed by this party."""
        ...

    def verify(self, kind: str, signed: dict[str, Any], signer: str) -> dict[str, Any]:
        """Return the body of a document that a party of the job signed."""
        ...

    def keys(self) -> Mapping[str, PublicKey]:
        """Return the identity keys of the parties, by name."""
        ...

    def note(self, step: str, **numbers: Any) -> None:
        """Tell the operator how far the job is; stays at this node."""
        ...


class Role(Protocol):
    """What a party does in a job."""

    def load(self) -> dict[str, Any]:
        """Read and check the party's own table; return what may be shown to its operator."""
        ...

    def commitment(self, salt: bytes) -> str:
        """Return the salted commitment to the cohort, hex, or an empty string for a party without one."""
        ...

    def terms(self, proposal: Proposal) -> PartnerTerms | None:
        """Return what a data partner states about its table and keys; None of any other party."""
        ...

    def check(self, proposal: Proposal) -> None:
        """Refuse a proposal that this party's data can't serve."""
        ...

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Prepare a job together with the others; return digests only."""
        ...

    def train(self, job: Job, channel: Channel, round_: int, total: bytes) -> bytes:
        """Take the last round's total, train a round, return the masked update."""
        ...

    def finish(self, job: Job, channel: Channel, total: bytes) -> dict[str, Any]:
        """Take the last total, evaluate, keep the model; return the signed statement about it."""
        ...


def load_role(config: NodeConfig) -> Role:
    """Make the role that a node's configuration names.

    Raises:
        ConfigurationError: no installed package brings that role.
    """
    found = entry_points(group="concordat.roles", name=config.node.role)
    for entry in found:
        role: Role = entry.load()(config)
        return role
    raise ConfigurationError("ROLE_NOT_INSTALLED", f"no installed package brings the role {config.node.role}")
