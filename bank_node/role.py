"""The bank's role in a node: its table, its part in a job's session, rounds and end."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from bank_node.data import BankData
from bank_node.lookups import Input, Lookups
from bank_node.score import BankScore
from bank_node.vertical import VerticalSession
from node.config import NodeConfig
from node.consents import of_bank
from node.keep import Keep, MemoryKeep, keep_of
from node.privacy import PrivacyBook, refuse_exact
from node.role import Channel, Job
from node.table_source import TableSource
from protocol.canonical import lp
from protocol.errors import DataError, NotApproved
from protocol.job import PartnerTerms, Proposal
from protocol.vertical import SERVING, TRAINING, check_headroom
from protocol.voprf import enterprise_input


class BankRole:
    """A bank in the consortium.

    Args:
        source: its table.
        models: directory for models.
        keep: outputs of an epoch and the record of spent privacy; in memory if not given.
        codes: consent codes of its clients, by partner and id.
        budget: ε and δ that all releases to one partner may reach together.
        exact: whether it takes part in releases without noise; tests only.
    """

    def __init__(
        self,
        source: TableSource,
        models: Path,
        keep: Keep | None = None,
        *,
        codes: Mapping[str, Mapping[str, bytes]] | None = None,
        budget: tuple[float, float] | None = None,
        exact: bool = False,
    ) -> None:
        self._source, self._models = source, models
        self._keep, self._codes, self._exact = keep or MemoryKeep(), codes or {}, exact
        self._book = PrivacyBook(self._keep, budget)
        # Encoded rows and trainers of the job under way; a bank runs one job at a time.
        self._current: tuple[str, BankData] | None = None

    def load(self) -> dict[str, Any]:
        """Read and check the bank's table."""
        return self._source.summary()

    def commitment(self, salt: bytes) -> str:
        """Return the salted commitment to the bank's cohort."""
        return sha256(lp("concordat/v1", "cohort", salt, self._source.table().digest)).hexdigest()

    def terms(self, proposal: Proposal) -> PartnerTerms | None:
        """State nothing: a bank is no data partner."""
        return None

    def check(self, proposal: Proposal) -> None:
        """Refuse a proposal whose contract isn't this bank's, for which it has too few rows, or without noise."""
        vertical = proposal.vertical
        refuse_exact(proposal, self._exact)
        if vertical is not None:
            # Refused before anybody enlists: a sum that wraps would be wrong, and told to nobody.
            check_headroom(vertical, len(proposal.banks))
        if proposal.contract != self._source.contract_digest():
            raise NotApproved(
                "CONTRACT_DIFFERS", "the job is for another data contract than the one this bank has accepted"
            )
        if self._source.table().rows < proposal.min_rows:
            raise DataError("DATA_TOO_FEW_ROWS", f"the job asks for at least {proposal.min_rows} rows")

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Prepare the training with the other banks, and with the partners where the job has any."""
        score = self._score(job, channel)
        assert self._current is not None
        data = self._current[1]
        terms = job.proposal.vertical
        joint = None
        if terms is not None:
            joint = VerticalSession(
                job,
                channel,
                Lookups(self._keep, self._input_of(terms.consent)),
                self._book,
                score.pairs(terms.compute),
                *data.for_partners(),
            )
        return score.session(joint)

    def _input_of(self, consent: bool) -> Input:
        kind = self._source.dataset().id_type

        def input_of(partner: str, purpose: str, one: str) -> bytes | None:
            if not consent or (purpose == SERVING and one in self._codes.get(partner, {})):
                code = self._codes[partner][one] if consent else None
                return enterprise_input(kind, one, code)
            return enterprise_input(kind, one) if purpose == TRAINING else None

        return input_of

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
    return BankRole(
        TableSource.from_config(config),
        config.path("models"),
        keep_of(config),
        codes=of_bank(config),
        budget=(config.privacy.epsilon, config.privacy.delta),
        exact=config.approval.exact_releases,
    )
