"""Which jobs an institution takes part in: proposals received, limits for deciding without asking, decisions made.

Free of I/O but for the node's own database, which is handed in.
"""

from __future__ import annotations

import json
import time
from typing import Any

from node.config import AutoApprove, NodeConfig
from node.store import Store
from protocol.errors import ConfigurationError, NotApproved
from protocol.identity import Directory, IdentityKey
from protocol.job import Approval, Proposal
from protocol.mailbox import COORDINATOR

PENDING, APPROVED, REJECTED = "pending", "approved", "rejected"


class Approvals:
    """The institution's decisions about proposals."""

    def __init__(self, config: NodeConfig, store: Store, key: IdentityKey, code: str) -> None:
        self._config, self._store, self._key, self._code = config, store, key, code

    def receive(self, signed: dict[str, Any], directory: Directory) -> bool:
        """Keep a proposal that the coordinator sent, and decide it if the limits allow; returns whether it is new.

        Raises:
            ProtocolError: it isn't signed by the coordinator or is malformed.
        """
        proposal = Proposal.verified(signed, directory, COORDINATOR)
        if not self._store.add_proposal(proposal.digest, signed):
            return False
        limits = self._config.approval.auto_approve
        if limits is not None and not self.objections(proposal, limits):
            self.decide(proposal.digest, "approve", by="limits in the node's configuration")
        return True

    def objections(self, proposal: Proposal, limits: AutoApprove) -> list[str]:
        """Return why a proposal isn't within the limits for approval without asking."""
        found = []
        if proposal.code != self._code:
            found.append("it names other code than the installed release")
        if proposal.purpose not in limits.purposes:
            found.append("its purpose is not one of those that are approved without asking")
        if proposal.release.kind not in limits.releases:
            found.append(f"its release is {proposal.release.kind}")
        if (proposal.release.epsilon or 0.0) > limits.max_epsilon:
            found.append(f"its epsilon is above {limits.max_epsilon}")
        vertical = proposal.vertical
        if vertical is not None and vertical.epsilon is None and not self._config.approval.exact_releases:
            found.append("its releases to partners carry no noise")
        if vertical is not None and (vertical.epsilon or 0.0) > limits.max_partner_epsilon:
            found.append(f"the epsilon of its releases to partners is above {limits.max_partner_epsilon}")
        if len(proposal.banks) < limits.min_banks:
            found.append(f"it has fewer than {limits.min_banks} banks")
        return found

    def decide(self, digest: str, decision: str, by: str, reason: str = "") -> None:
        """Decide a proposal; the signed decision is sent at the daemon's next turn.

        Raises:
            ConfigurationError: there is no such proposal.
            NotApproved: the code it names isn't installed here, so that it can't be approved.
        """
        row = self.find(digest)
        proposal = Proposal.parse(json.loads(row["document"])["body"])
        if decision == "approve" and proposal.code != self._code:
            raise NotApproved(
                "CODE_DIFFERS",
                "the job names other code than the release that is installed here",
                "Install the release that the consortium agreed on, or reject the job.",
            )
        approval = Approval(
            proposal=proposal.digest,
            party=self._config.node.name,
            decision="approve" if decision == "approve" else "reject",
            by=by,
            at=int(time.time()),
            reason=reason,
        )
        state = APPROVED if decision == "approve" else REJECTED
        self._store.decide(
            proposal.digest, state, by, reason, approval.sign(self._config.node.name, self._key)
        )

    def find(self, prefix: str) -> dict[str, Any]:
        """Return the proposal whose digest begins with ``prefix``.

        Raises:
            ConfigurationError: none or several do.
        """
        rows = [row for row in self._store.list_proposals() if row["digest"].startswith(prefix)]
        if len(rows) != 1:
            what = "no proposal begins" if not rows else "several proposals begin"
            raise ConfigurationError(
                "PROPOSAL_UNKNOWN", f"{what} with {prefix[:16]}", "`concordat node job list` shows them."
            )
        return rows[0]

    def required(self, digest: str) -> Proposal:
        """Return an approved proposal.

        Raises:
            NotApproved: this institution has not approved it.
        """
        row = self._store.proposal(digest)
        if row is None or row["state"] != APPROVED:
            raise NotApproved(
                "JOB_NOT_APPROVED",
                "this institution has not approved the job",
                "`concordat node job approve`.",
            )
        return Proposal.parse(json.loads(row["document"])["body"])

    def outgoing(self) -> list[dict[str, Any]]:
        """Return the signed decisions, for the coordinator."""
        return [json.loads(row["approval"]) for row in self._store.list_proposals() if row["approval"]]
