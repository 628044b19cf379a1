"""The compute party (T): adds up what it can't read, and gives its share once everybody has signed.

Specification: training protocol, steps B3 to B6; the messages stand in ``protocol.vertical``. T holds no table
and keeps share seeds, sums, the record of what it took and gave, the record of charged releases.

What T learns: the rounded size of each partner's table, and which parties dropped out.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.config import NodeConfig
from node.keep import Keep, keep_of
from node.privacy import PrivacyBook, kept_noise, refuse_exact
from node.role import Channel, Job
from node.sealed import SealedChannel
from protocol import vertical
from protocol.canonical import encode
from protocol.errors import ConcordatError, JobVoid, NotApproved, ProtocolError
from protocol.job import PartnerTerms, Proposal, Vertical
from protocol.partner_opening import ComputeShares, gather
from protocol.product import ComputeSums, DenseBook

log = logging.getLogger(__name__)
MASKED = "masked sum"
BOOKS = "compute"


class ComputeRole:
    """The neutral party that adds shares.

    Args:
        keep: where its records lie.
        exact: whether it takes part in releases without noise; tests only.
        budget: ε and δ that all releases to one partner may reach together.
    """

    def __init__(self, keep: Keep, exact: bool = False, budget: tuple[float, float] | None = None) -> None:
        self._keep, self._exact, self._budget = keep, exact, budget

    def load(self) -> dict[str, Any]:
        """Hold no table."""
        return {"rows": 0}

    def commitment(self, salt: bytes) -> str:
        """Commit to no cohort."""
        return ""

    def terms(self, proposal: Proposal) -> PartnerTerms | None:
        """State nothing: T has no table."""
        return None

    def check(self, proposal: Proposal) -> None:
        """Refuse a release without noise."""
        refuse_exact(proposal, self._exact)

    def session(self, job: Job, channel: Channel) -> dict[str, Any]:
        """Add up the products toward each partner of the job."""
        terms = job.proposal.vertical
        if terms is None or terms.compute != job.party:
            return {}
        side = ComputeSession(job, channel, self._keep, terms, self._budget)
        return {"given": [partner for partner in terms.partners if side.toward(partner)]}

    def train(self, job: Job, channel: Channel, round_: int, total: bytes) -> bytes:
        """Refuse: rounds are between the banks."""
        raise NotApproved("ROLE_NO_ROUNDS", "the compute party takes no part in training rounds")

    def finish(self, job: Job, channel: Channel, total: bytes) -> dict[str, Any]:
        """End the job at this party."""
        return {}


class ComputeSession:
    """T's part in one attempt."""

    def __init__(
        self, job: Job, channel: Channel, keep: Keep, terms: Vertical, budget: tuple[float, float] | None
    ) -> None:
        self._job, self._channel, self._keep, self._terms = job, channel, keep, terms
        self._book = PrivacyBook(keep, budget)
        self._sealed = SealedChannel(job, channel)
        self._wait = float(terms.patience * len(terms.partners))
        self._pairs = {bank: job.pair_key(bank) for bank in job.roster.banks}

    def toward(self, partner: str) -> bool:
        """Take the products toward a partner and give T's share; returns whether it was given."""
        try:
            state = self._sealed.receive(partner, vertical.STATE, self._terms.patience)
            if state == b"opened":
                return True
            message = self._share(partner)
        except JobVoid as error:
            if error.code != "OPENING_INCOMPLETE":
                raise
            message = self._refusal(partner, error)
        except ConcordatError as error:
            message = self._refusal(partner, error)
        self._sealed.send(partner, vertical.OPENING, encode(message), MASKED)
        return "share" in message

    def _refusal(self, partner: str, error: ConcordatError) -> dict[str, Any]:
        log.warning("no share for %s: %s", partner, error.code)
        self._channel.note("no share", partner=partner, code=error.code)
        return {"code": error.code}

    def _share(self, partner: str) -> dict[str, Any]:
        job, channel = self._job, self._channel
        terms = vertical.terms_of(job.manifest, partner)
        seeds = self._sealed.receive(partner, vertical.SHARE_SEEDS, self._wait)
        if len(seeds) != 32 * len(job.roster.banks):
            raise ProtocolError("LABEL_KEY", f"{partner} sends not one share seed for every bank.")
        sums = {
            bank: self._sums(bank, partner, terms, seeds[32 * at : 32 * at + 32])
            for at, bank in enumerate(job.roster.banks)
        }
        roster = vertical.release_roster(job.roster, self._terms, partner)
        private = vertical.release_of(self._terms, len(job.proposal.banks), terms.components)
        own = self._book.sign(channel, roster, job.proposal.contract, None if private is None else private.mu)
        step = vertical.named(vertical.SIGNATURE, partner)
        others = [self._sealed.receive(bank, step, self._wait) for bank in job.roster.banks]
        if not all(others):
            raise JobVoid("OPENING_INCOMPLETE", f"a bank signs no release to {partner}")
        signed = gather([json.loads(one) for one in (*others, own)])

        noise = kept_noise(
            channel, partner, terms.components, None if private is None else private.ring_sigma
        )
        return {"roster": signed, "share": self._given(signed, sums, noise).hex()}

    def _sums(self, bank: str, partner: str, terms: PartnerTerms, seed: bytes) -> NDArray[np.uint64]:
        job = self._job
        shape = vertical.product_of(vertical.join_table(job.roster, bank, partner, terms))
        side, lengths = ComputeSums(shape, share_seed=seed), vertical.dense_lengths(shape)
        for number, part in enumerate(vertical.pieces(lengths)):
            name = vertical.named(vertical.DENSE, partner, number)
            piece = self._sealed.receive(bank, name, self._wait)
            if not piece:
                raise JobVoid("OPENING_INCOMPLETE", f"{bank} leaves {partner} out.")
            for chunk in vertical.split(piece, [lengths[at] for at in part], "a product"):
                side.feed(chunk)
        book = DenseBook.from_state(json.loads(self._keep.get(BOOKS, f"dense.{job.id}") or b"[]"))
        found = side.finish(book)
        self._keep.put(BOOKS, f"dense.{job.id}", json.dumps(book.to_state()).encode())
        return found

    def _given(
        self,
        signed: dict[str, Any],
        sums: dict[str, NDArray[np.uint64]],
        noise: NDArray[np.uint64],
    ) -> bytes:
        """Return T's share, kept before it leaves: once per partner, for good."""
        job, channel = self._job, self._channel
        book = ComputeShares()
        book.restore(json.loads(self._keep.get(BOOKS, f"shares.{job.id}") or b"[]"))
        share = book.share(
            signed,
            keys=channel.keys(),
            own=job.party,
            sums=sums,
            noise=noise,
            pair_keys=self._pairs,
        )
        self._keep.put(BOOKS, f"shares.{job.id}", json.dumps(book.to_state()).encode())
        return share


def compute(config: NodeConfig) -> ComputeRole:
    """Make the compute party."""
    budget = (config.privacy.epsilon, config.privacy.delta)
    return ComputeRole(keep_of(config), config.approval.exact_releases, budget)
