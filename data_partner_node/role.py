"""A data partner's role in a node: its table is checked and held; its columns join a job in stages V and P."""

from __future__ import annotations

from typing import Any

from data_partner_node.spool import FileSpool
from data_partner_node.tables import Consents, PartnerTable
from data_partner_node.vertical import PartnerSession
from node.config import NodeConfig
from node.consents import of_partner
from node.keep import Keep, keep_of
from node.privacy import refuse_exact
from node.role import Channel, Job
from node.table_source import TableSource
from protocol.errors import NotApproved
from protocol.job import PartnerTerms, Proposal
from protocol.join import MemorySpool, bucketed


class PartnerRole:
    """An e-commerce platform or a government-data holder in the consortium.

    Args:
        source: its table.
        keep: keys, quotas, what an epoch has computed.
        name: the partner's.
        quota: most points that a bank may ask for in ninety days, per purpose.
        consents: codes that it has issued to enterprises.
        exact: whether it takes part in releases without noise; tests only.
        spool: makes an empty spool for a table that is sorted.
    """

    def __init__(
        self,
        source: TableSource,
        keep: Keep,
        name: str,
        *,
        quota: int = 2_000_000,
        consents: Consents | None = None,
        exact: bool = False,
        spool: type[MemorySpool] | type[FileSpool] = MemorySpool,
    ) -> None:
        self._source, self._keep, self._name = source, keep, name
        self._quota, self._consents, self._exact, self._spool = quota, consents or {}, exact, spool
        self._made: PartnerTable | None = None

    def _table(self) -> PartnerTable:
        if self._made is None:
            self._made = PartnerTable(
                self._source.table(), self._source.dataset(), self._keep, self._consents
            )
        return self._made

    def load(self) -> dict[str, Any]:
        """Read and check the partner's table."""
        return self._source.summary()

    def commitment(self, salt: bytes) -> str:
        """A partner has no cohort to commit to."""
        return ""

    def terms(self, proposal: Proposal) -> PartnerTerms | None:
        """State the table's rounded size, its components and one key for every bank and purpose."""
        vertical = proposal.vertical
        if vertical is None or self._name not in vertical.partners:
            return None
        table = self._table()
        keys = {
            purpose: {bank: table.key(purpose, vertical.epoch, bank).public.hex() for bank in proposal.banks}
            for purpose in ("training", "serving")
        }
        return PartnerTerms(
            slots=bucketed(table.rows),
            components=table.basis(vertical.components).components,
            training=keys["training"],
            serving=keys["serving"],
        )

    def check(self, proposal: Proposal) -> None:
        """Refuse a proposal under another data contract, or an exact release."""
        if proposal.contract != self._source.contract_digest():
            raise NotApproved(
                "CONTRACT_DIFFERS",
                "the job is for another data contract than the one this partner has accepted",
            )
        refuse_exact(proposal, self._exact)
        terms = proposal.vertical
        if terms is not None and self._name in terms.partners and self._consents and not terms.consent:
            raise NotApproved(
                "CONSENT_REQUIRED",
                "this partner has issued consent codes and serves only jobs that demand them",
                "Propose the job with vertical.consent = true.",
            )

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Bring the table into the job; nothing of it where the job has no joint stages for this partner."""
        terms = job.proposal.vertical
        if terms is None or job.party not in terms.partners:
            return {}
        return PartnerSession(job, channel, self._table(), self._keep, self._quota, self._spool).run()

    def train(self, job: Job, channel: Channel, round_: int, total: bytes) -> bytes:
        """Refuse: rounds are between the banks."""
        raise NotApproved("ROLE_NO_ROUNDS", "a data partner takes no part in training rounds")

    def finish(self, job: Job, channel: Channel, total: bytes) -> dict[str, Any]:
        """End the job at this party."""
        return {}


def partner(config: NodeConfig) -> PartnerRole:
    """Make the partner that a node's configuration names."""
    return PartnerRole(
        TableSource.from_config(config),
        keep_of(config),
        config.node.name,
        quota=config.partner.quota,
        consents=of_partner(config),
        exact=config.approval.exact_releases,
        spool=FileSpool,
    )
