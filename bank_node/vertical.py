"""Stages V and P at one bank: its defaults weigh a partner's rows, and it reads bins of its own clients.

Specification: training protocol, steps B2 to B8; the messages stand in ``protocol.vertical``. All partners are asked
at once, then taken in the order of their names. A partner that stays silent, refuses or sends what can't be right is
left out, and T is told so; the bank score trains without it. What must not be drawn twice (seeds, noise) is kept first;
everything that is sent follows from it, so that a repeat sends the same bytes.

What the bank learns of a partner: which of its own ids the partner lists, the rounded size of the table, the bins.
"""

from __future__ import annotations

import json
import logging
import secrets
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bank_node.lookups import Lookups
from bank_node.subscores import MISSING, SubScores
from node.privacy import PrivacyBook, kept_noise
from node.role import Channel, Job
from node.sealed import SealedChannel
from protocol import product, vertical
from protocol.errors import ConcordatError, JobVoid, ProtocolError
from protocol.job import PartnerTerms, Vertical
from protocol.join import Matched, Reader, Table
from protocol.merkle import MerkleTree
from protocol.partner_opening import BankShares, ReleaseRoster

log = logging.getLogger(__name__)

MASKED_D, SEALED, SIGNED, MASKED = (
    "masked product",
    "sealed key",
    "signature",
    "masked sum",
)


class VerticalSession:
    """One bank's part of stages V and P in one attempt.

    Args:
        job: the job.
        channel: durable steps and messages.
        lookups: PRF outputs of the bank's ids, cached within an epoch.
        book: the record of spent privacy.
        pairs: key from `MaskKey.agree` for every other bank and for T.
        ids: canonical ids of the whole table.
        training: which rows are trained on, shape (n,).
        outcomes: True where an enterprise defaulted, shape (n,).
    """

    def __init__(
        self,
        job: Job,
        channel: Channel,
        lookups: Lookups,
        book: PrivacyBook,
        pairs: dict[str, bytes],
        ids: list[str],
        training: NDArray[np.bool_],
        outcomes: NDArray[np.bool_],
    ) -> None:
        terms = job.proposal.vertical
        assert terms is not None
        self._job, self._channel, self._lookups, self._book = job, channel, lookups, book
        self._pairs, self._ids, self._training, self._outcomes = pairs, ids, training, outcomes
        self._terms: Vertical = terms
        self._sealed = SealedChannel(job, channel)

    def run(self, rows: int) -> dict[str, NDArray[np.int8]]:
        """Run both stages; returns the bins of each partner that published, shape (n,), ``MISSING`` for none.

        Args:
            rows: training rows of all banks, as the centring has shown.

        Raises:
            JobVoid: ``VERTICAL_ROWS`` if they are more than the job allows.
        """
        if rows > self._terms.rows:
            raise JobVoid(
                "VERTICAL_ROWS",
                "the banks have more training rows together than the job's vertical.rows allows",
            )
        opened = {partner: self._guarded(partner, self._begin) for partner in self._terms.partners}
        for partner, state in opened.items():
            if state is False:
                self._toward(partner)
        present = [partner for partner, state in opened.items() if state is not None]
        for partner in present:
            self._ask(partner, vertical.SERVING)
        found = {}
        for partner in present:
            bins = self._guarded(partner, self._publication)
            if bins is not None:
                found[partner] = bins
        return found

    def _guarded(self, partner: str, act: Any) -> Any:
        """Return what a step gave, None if the partner is to be left out."""
        try:
            return act(partner)
        except JobVoid:
            raise
        except ConcordatError as error:
            log.warning("%s is left out: %s", partner, error.code)
            self._channel.note("partner left out", partner=partner, code=error.code)
            return None

    # -- asking ---------------------------------------------------------------------------------------------

    def _begin(self, partner: str) -> bool:
        """Ask for what isn't cached yet; returns whether the partner has read its release already."""
        if self._sealed.receive(partner, vertical.STATE, self._terms.patience) == b"opened":
            return True
        self._ask(partner, vertical.TRAINING)
        return False

    def _ask(self, partner: str, purpose: str) -> None:
        self._lookups.ask(self._job, self._channel, partner, purpose, self._asked(purpose))

    def _asked(self, purpose: str) -> list[str]:
        if purpose == vertical.SERVING:
            return self._ids
        return [self._ids[row] for row in np.flatnonzero(self._training)]

    def _outputs(self, partner: str, purpose: str) -> list[bytes]:
        return self._lookups.outputs(self._job, self._channel, partner, purpose, self._asked(purpose))

    # -- stage V --------------------------------------------------------------------------------------------

    def _toward(self, partner: str) -> None:
        """Run the product and the release toward a partner, or tell T that there is none."""
        job, channel = self._job, self._channel
        try:
            terms = vertical.terms_of(job.manifest, partner)
            matched = self._matched(partner, terms)
            values = product.weights(self._outcomes[self._training][matched.rows], self._terms.base_rate)
            self._send_product(partner, terms, matched, values)
            self._release(partner, terms, matched, values)
        except JobVoid:
            raise
        except ConcordatError as error:
            # A table that can't be right, a budget that is spent: the bank score trains without this partner.
            log.warning("no direction for %s: %s", partner, error.code)
            channel.note("partner left out", partner=partner, code=error.code)
            self._leave_out(partner)
            return
        channel.note("direction", partner=partner, slots=terms.slots, components=terms.components)

    def _leave_out(self, partner: str) -> None:
        """Send nothing in the place of whatever T and the partner still wait for; what was sent before stands."""
        compute = self._terms.compute
        self._sealed.send(partner, vertical.PAD_SEED, b"", SEALED)
        self._sealed.send(compute, vertical.named(vertical.DENSE, partner, 0), b"", MASKED_D)
        self._sealed.send(compute, vertical.named(vertical.SIGNATURE, partner), b"", SIGNED)
        self._sealed.send(partner, vertical.SHARE, b"", MASKED)

    def _matched(self, partner: str, terms: PartnerTerms) -> Matched:
        job = self._job
        table = vertical.join_table(job.roster, job.party, partner, terms)
        outputs = self._outputs(partner, vertical.TRAINING)
        key = self._sealed.receive(partner, vertical.TABLE_KEY, self._terms.patience)
        return self._read(partner, vertical.TABLE, table, outputs, key)

    def _read(
        self, partner: str, step: str, table: Table, outputs: list[bytes], key: bytes, root: str | None = None
    ) -> Matched:
        reader, tree = Reader(table, outputs, table_key=key), MerkleTree()
        lengths = vertical.table_lengths(table)
        for number, part in enumerate(vertical.pieces(lengths)):
            name = vertical.named(step, number)
            piece = self._sealed.receive(partner, name, self._terms.patience)
            for chunk in vertical.split(piece, [lengths[at] for at in part], "a table"):
                reader.feed(chunk)
                tree.append(chunk)
        if root is not None and tree.root().hex() != root:
            raise ProtocolError("PUBLICATION_ROOT", f"The table of {partner} is not the one it has signed.")
        # One table an attempt, whoever matches in it: a second one under other slots or bits would show, by the
        # difference of two products, which of its entries are clients.
        seen = sha256(key + tree.root()).digest()
        if self._channel.keep(f"{step}.{partner}.{self._job.attempt}", lambda: seen) != seen:
            raise ProtocolError("TABLE_SECOND", f"{partner} sends a second table in one attempt.")
        return reader.finish()

    def _send_product(
        self, partner: str, terms: PartnerTerms, matched: Matched, values: NDArray[np.int64]
    ) -> None:
        job, channel, compute = self._job, self._channel, self._terms.compute
        shape = vertical.product_of(vertical.join_table(job.roster, job.party, partner, terms))
        seed = channel.keep(f"s_U.{partner}.{job.attempt}", lambda: secrets.token_bytes(32))
        # D follows from the seed and from what it masks. Were that something else after a crash, the difference of
        # the two would be readable: the first digest stands.
        whole = (matched.rows, matched.slots, matched.shares, values)
        masked = sha256(b"".join(part.tobytes() for part in whole)).digest()
        if channel.keep(f"masked.{partner}.{job.attempt}", lambda: masked) != masked:
            raise ProtocolError("PRODUCT_CHANGED", "What the product masks has changed since it was begun.")
        self._sealed.send(partner, vertical.PAD_SEED, seed, SEALED)
        cut = vertical.pieces(vertical.dense_lengths(shape))
        chunks = product.dense(shape, matched, values, seed=seed)
        for number, piece in enumerate(vertical.joined(chunks, cut)):
            self._sealed.send(compute, vertical.named(vertical.DENSE, partner, number), piece, MASKED_D)

    def _release(
        self, partner: str, terms: PartnerTerms, matched: Matched, values: NDArray[np.int64]
    ) -> None:
        """Sign and charge the release, then give this bank's share."""
        job, channel = self._job, self._channel
        roster = vertical.release_roster(job.roster, self._terms, partner)
        private = vertical.release_of(self._terms, len(job.proposal.banks), terms.components)
        mu = None if private is None else private.mu
        signed = self._book.sign(channel, roster, job.proposal.contract, mu)
        self._sealed.send(self._terms.compute, vertical.named(vertical.SIGNATURE, partner), signed, SIGNED)
        scale = None if private is None else private.bank_ring_sigma(len(job.proposal.banks))
        noise = kept_noise(channel, partner, terms.components, scale)
        share = channel.keep(
            f"share.{partner}.{job.attempt}", lambda: self._share(roster, matched, values, noise)
        )
        self._sealed.send(partner, vertical.SHARE, share, MASKED)

    def _share(
        self,
        roster: ReleaseRoster,
        matched: Matched,
        values: NDArray[np.int64],
        noise: NDArray[np.uint64],
    ) -> bytes:
        return BankShares().share(
            roster,
            own=self._job.party,
            sums=product.bank_sums(matched, values),
            values=values,
            noise=noise,
            pair_keys=self._pairs,
        )

    # -- stage P --------------------------------------------------------------------------------------------

    def _publication(self, partner: str) -> NDArray[np.int8] | None:
        """Read the partner's bins of this bank's rows; None if it publishes nothing."""
        job, channel = self._job, self._channel
        outputs = self._outputs(partner, vertical.SERVING)
        signed = json.loads(self._sealed.receive(partner, vertical.PUBLICATION, 2 * self._terms.patience))
        body = channel.verify(vertical.PUBLICATION, signed, partner)
        if (body["job"], body["attempt"], body["bank"]) != (job.id, job.attempt, job.party):
            raise ProtocolError("PUBLICATION_PLACE", f"A publication of {partner} is for another place.")
        if not body["published"]:
            return None
        table = vertical.bins_table(job.roster, job.party, partner, body["slots"])
        key = self._sealed.receive(partner, vertical.BINS_KEY, self._terms.patience)
        matched = self._read(partner, vertical.BINS_TABLE, table, outputs, key, body["root"])
        bins = np.full(len(self._ids), MISSING, dtype=np.int8)
        weights = 1 << np.arange(vertical.BIN_BITS)[::-1]
        bins[matched.rows] = (matched.shares.astype(np.int64) @ weights).astype(np.int8)
        channel.note("publication", partner=partner, slots=table.slots)
        return bins


def agreed(job: Job, found: dict[str, NDArray[np.int8]], rows: int, gather: Any) -> SubScores:
    """Agree with the other banks on whose sub-scores all of them have.

    Args:
        job: the job.
        found: bins by partner.
        rows: rows of the bank's table.
        gather: signs a statement and returns the statements of all banks, as (kind, body) → bodies by bank.
    """
    statements = gather("published", {"job": job.id, "attempt": job.attempt, "partners": sorted(found)})
    common = set(found)
    for bank, body in statements.items():
        if (body["job"], body["attempt"]) != (job.id, job.attempt):
            raise ProtocolError("PUBLISHED_PLACE", f"What {bank} states is for another attempt.")
        common &= set(body["partners"])
    names = tuple(sorted(common))
    columns = [found[name] for name in names]
    bins = np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=np.int8)
    return SubScores(names, bins)
