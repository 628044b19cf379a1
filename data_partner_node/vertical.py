"""Stages V and P at a data partner: it answers, sends its table, reads its direction, publishes bins.

Specification: training protocol, steps B2 to B8; the messages stand in ``protocol.vertical``.

What the partner learns: the rounded number of new ids per bank and epoch, and v with its noise.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_partner_node.tables import PartnerTable, Serving
from node.keep import Keep
from node.role import Channel, Job
from node.sealed import SealedChannel
from protocol import product, subscore, vertical, voprf
from protocol.canonical import encode
from protocol.errors import NotApproved, ProtocolError
from protocol.group import ELEMENT_BYTES
from protocol.job import Vertical
from protocol.join import MemorySpool, Spool, Table, Writer, bucketed
from protocol.merkle import MerkleTree
from protocol.partner_opening import PartnerOpening, ReleaseRoster
from protocol.subscore import Basis, SubScore, sign_bits

log = logging.getLogger(__name__)
STATE, EVALUATED, ENTRIES, SEALED, SIGNED = (
    "state",
    "evaluated points",
    "masked table",
    "sealed key",
    "signature",
)
OPENED, ALL_ROWS = "opened", "rows"
BLOCK_ROWS = 1 << 16
QUOTA_SECONDS = 90 * 86_400


class PartnerSession:
    """One partner's part of stages V and P in one attempt.

    Args:
        job: the job.
        channel: durable steps and messages.
        table: the partner's own.
        keep: quotas, sub-scores.
        quota: most points that a bank may ask for in ninety days, per purpose.
        spool: makes an empty spool for a table that is sorted.
    """

    def __init__(
        self,
        job: Job,
        channel: Channel,
        table: PartnerTable,
        keep: Keep,
        quota: int,
        spool: Callable[[], Spool] = MemorySpool,
    ) -> None:
        terms = job.proposal.vertical
        assert terms is not None
        self._job, self._channel, self._table, self._keep = job, channel, table, keep
        self._quota, self._spool = quota, spool
        self._terms: Vertical = terms
        self._banks = job.roster.banks
        self._sealed = SealedChannel(job, channel)
        self._seconds: dict[str, float] = {}
        self._slots = vertical.terms_of(job.manifest, job.party).slots

    def run(self) -> dict[str, Any]:
        """Run both stages; returns what the coordinator may know: seconds, and whether bins were published."""
        channel = self._channel
        opened = channel.recall(OPENED)
        for party in (*self._banks, self._terms.compute):
            self._sealed.send(party, vertical.STATE, b"new" if opened is None else b"opened", STATE)
        basis = self._timed("components", lambda: self._table.basis(self._terms.components))
        if opened is None:
            self._timed("answers", lambda: self._answer(vertical.TRAINING))
            self._timed("own outputs", lambda: self._own(vertical.TRAINING))
            self._timed("tables", lambda: self._send_tables(basis))
            opened = channel.keep(OPENED, lambda: self._timed("opening", lambda: self._open(basis)))
        found = self._direction(basis, np.frombuffer(opened, dtype=np.int64))
        self._timed("serving answers", lambda: self._answer(vertical.SERVING))
        self._timed("serving outputs", lambda: self._own(vertical.SERVING))
        self._timed("publication", lambda: self._publish(basis, found))
        channel.note("published" if found.informative else "nothing published", components=basis.components)
        return {
            "published": found.informative,
            "seconds": {name: round(taken, 1) for name, taken in self._seconds.items()},
        }

    def _timed(self, what: str, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return act()
        finally:
            self._seconds[what] = self._seconds.get(what, 0.0) + time.monotonic() - began

    @property
    def _wait(self) -> float:
        # Banks take the partners in turn: one that stays silent costs the others its patience.
        return float(self._terms.patience * len(self._terms.partners))

    # -- answering ------------------------------------------------------------------------------------------

    def _answer(self, purpose: str) -> None:
        for bank in self._banks:
            head = self._sealed.receive(bank, vertical.named(vertical.ASK, purpose), self._wait)
            counts = _counts(head)
            self._charge(bank, purpose, sum(counts))
            key = self._table.key(purpose, self._terms.epoch, bank)
            for number in range(len(counts)):
                name = vertical.named(vertical.ASK, purpose, number)
                points = self._sealed.receive(bank, name, self._wait)
                if len(points) != ELEMENT_BYTES * counts[number]:
                    raise ProtocolError("ASK_LENGTH", f"{bank} asks for other numbers than it has announced.")
                answer = self._channel.keep(
                    f"answer.{bank}.{purpose}.{number}.{self._job.attempt}",
                    lambda key=key, points=points: voprf.blind_evaluate(key, points),  # type: ignore[misc]
                )
                self._sealed.send(bank, vertical.named(vertical.ANSWER, purpose, number), answer, EVALUATED)

    def _charge(self, bank: str, purpose: str, count: int) -> None:
        """Count a bank's points of the last ninety days against its quota, whatever epoch a job names.

        Raises:
            NotApproved: ``VOPRF_QUOTA``.
        """
        place, now = f"quota.{purpose}.{bank}", time.time()
        kept: dict[str, list[float]] = json.loads(self._keep.get("quota", place) or b"{}")
        asked = {what: entry for what, entry in kept.items() if now - entry[0] < QUOTA_SECONDS}
        what = f"{self._job.id}.{self._job.attempt}"
        # A later session of an attempt that announces less takes nothing back.
        asked[what] = [now, max(float(count), asked.get(what, [0.0, 0.0])[1])]
        if sum(entry[1] for entry in asked.values()) > self._quota:
            raise NotApproved(
                "VOPRF_QUOTA",
                f"{bank} has asked for more enterprises in ninety days than its quota allows",
                "Raise partner.quota in the node's configuration, or wait.",
            )
        self._keep.put("quota", place, json.dumps(asked).encode())

    def _own(self, purpose: str) -> None:
        for bank in self._banks:
            served = self._served(bank, purpose)
            self._table.outputs(purpose, self._terms.epoch, bank, served.inputs)

    def _served(self, bank: str, purpose: str) -> Serving:
        # The table of the join holds every row; codes stand in the serving key, where rows are read.
        return self._table.asked_of(bank, self._terms.consent and purpose == vertical.SERVING)

    # -- stage V --------------------------------------------------------------------------------------------

    def _secret(self, use: str, bank: str) -> bytes:
        return self._channel.keep(f"{use}.{bank}.{self._job.attempt}", lambda: secrets.token_bytes(32))

    def _send_tables(self, basis: Basis) -> None:
        job, channel = self._job, self._channel
        terms = vertical.terms_of(job.manifest, job.party)
        if basis.components != terms.components or bucketed(self._table.rows) != terms.slots:
            raise ProtocolError("TABLE_CHANGED", "The table is not the one that this partner enlisted with.")
        # Another export under the same secrets would show banks which bits have changed.
        own = self._table.digest.encode()
        if channel.keep(f"table.{job.attempt}", lambda: own) != own:
            raise ProtocolError("TABLE_CHANGED", "The table has changed since the attempt began.")
        seeds = b"".join(self._secret("s_T", bank) for bank in self._banks)
        self._sealed.send(self._terms.compute, vertical.SHARE_SEEDS, seeds, SEALED)
        bits = np.concatenate([sign_bits(z) for z in basis.blocks(self._table.columns)])
        for bank in self._banks:
            table = vertical.join_table(job.roster, bank, job.party, terms)
            served = self._served(bank, vertical.TRAINING)
            writer = self._writer(table, vertical.TRAINING, bank, served, bits, self._secret("s_T", bank))
            self._send_key(bank, vertical.TABLE_KEY, self._secret("K_tab", bank))
            self._send_pieces(bank, vertical.TABLE, table, list(writer.chunks()))

    def _writer(
        self,
        table: Table,
        purpose: str,
        bank: str,
        served: Serving,
        bits: NDArray[np.uint8],
        share_seed: bytes | None,
    ) -> Writer:
        use = "K_tab" if share_seed is not None else "K_bins"
        rows = len(served.rows)
        writer = Writer(
            table, rows, table_key=self._secret(use, bank), share_seed=share_seed, spool=self._spool()
        )
        outputs = self._table.outputs(purpose, self._terms.epoch, bank, served.inputs)
        for at in range(0, rows, BLOCK_ROWS):
            writer.add(outputs[at : at + BLOCK_ROWS], bits[served.rows[at : at + BLOCK_ROWS]])
        return writer

    def _send_key(self, bank: str, step: str, key: bytes) -> None:
        self._sealed.send(bank, step, key, SEALED)

    def _send_pieces(self, bank: str, step: str, table: Table, chunks: list[bytes]) -> None:
        cut = vertical.pieces(vertical.table_lengths(table))
        for number, piece in enumerate(vertical.joined(chunks, cut)):
            self._sealed.send(bank, vertical.named(step, number), piece, ENTRIES)

    def _open(self, basis: Basis) -> bytes:
        """Collect the shares and read v in ring units."""
        job = self._job
        roster = vertical.release_roster(job.roster, self._terms, job.party)
        opening = PartnerOpening(roster, basis.components)
        sums = {}
        terms = vertical.terms_of(job.manifest, job.party)
        for bank in self._banks:
            seed = _given(self._sealed.receive(bank, vertical.PAD_SEED, self._wait), bank)
            shape = vertical.product_of(vertical.join_table(job.roster, bank, job.party, terms))
            sums[bank] = product.partner_sums(shape, seed=seed, share_seed=self._secret("s_T", bank))
            opening.add(bank, _given(self._sealed.receive(bank, vertical.SHARE, self._wait), bank))
        message = json.loads(self._sealed.receive(self._terms.compute, vertical.OPENING, self._wait))
        if "share" not in message:
            raise ProtocolError("OPENING_REFUSED", "The compute party gave no share; the release is void.")
        self._check_roster(message["roster"], roster)
        opening.add(self._terms.compute, bytes.fromhex(message["share"]))
        return opening.result(sums).tobytes()

    def _check_roster(self, signed: dict[str, Any], roster: ReleaseRoster) -> None:
        if ReleaseRoster.from_body(signed.get("body") or {}) != roster:
            raise ProtocolError("ROSTER_DIFFERS", "The compute party's share is over another roster.")

    def _direction(self, basis: Basis, opened: NDArray[np.int64]) -> subscore.Direction:
        private = vertical.release_of(self._terms, len(self._job.proposal.banks), basis.components)
        noise = 0.0 if private is None else float(np.sqrt(2.0)) * private.sigma
        return subscore.direction(
            basis,
            np.ldexp(opened.astype(np.float64), -product.FRACTION_BITS),
            rows=self._terms.rows,
            noise_sd=noise,
            base_rate=self._terms.base_rate,
        )

    # -- stage P --------------------------------------------------------------------------------------------

    def _publish(self, basis: Basis, found: subscore.Direction) -> None:
        job, channel = self._job, self._channel
        score = SubScore.fit(basis, found, self._table.columns) if found.informative else None
        bins = None if score is None else score.bins(self._table.columns)
        if score is not None:
            self._remember(score, found)
        for bank in self._banks:
            body: dict[str, Any] = {"job": job.id, "attempt": job.attempt, "bank": bank, "published": False}
            if bins is not None:
                served = self._served(bank, vertical.SERVING)
                if len(served.rows):
                    self._send_bins(bank, bins, served, body)
                    continue
            self._sealed.send(
                bank, vertical.PUBLICATION, encode(channel.sign(vertical.PUBLICATION, body)), SIGNED
            )

    def _send_bins(self, bank: str, bins: NDArray[np.uint8], served: Serving, body: dict[str, Any]) -> None:
        job, channel = self._job, self._channel
        table = vertical.bins_table(job.roster, bank, job.party, bucketed(len(served.rows)))
        bits = np.unpackbits(bins[:, None], axis=1)[:, -vertical.BIN_BITS :]

        def made() -> bytes:
            # The rows that fill a publication up are random: kept, so that a repeat sends the same bytes.
            return b"".join(self._writer(table, vertical.SERVING, bank, served, bits, None).chunks())

        whole = channel.keep(f"bins.{bank}.{job.attempt}", made)
        chunks = list(vertical.split(whole, vertical.table_lengths(table), "a publication"))
        tree = MerkleTree()
        for chunk in chunks:
            tree.append(chunk)
        body |= {"published": True, "slots": table.slots, "root": tree.root().hex()}
        self._sealed.send(
            bank, vertical.PUBLICATION, encode(channel.sign(vertical.PUBLICATION, body)), SIGNED
        )
        self._send_key(bank, vertical.BINS_KEY, self._secret("K_bins", bank))
        self._send_pieces(bank, vertical.BINS_TABLE, table, chunks)

    def _remember(self, score: SubScore, found: subscore.Direction) -> None:
        """Keep the version of the sub-score: weights never leave the partner."""
        version = {
            "job": self._job.id,
            "epoch": self._terms.epoch,
            "components": score.basis.components,
            "weights": score.weights.tolist(),
            "edges": score.edges.tolist(),
            "p_value": found.p_value,
        }
        self._keep.put("subscores", self._job.id, json.dumps(version).encode())


def _given(data: bytes, bank: str) -> bytes:
    """Return what a bank has sent.

    Raises:
        ProtocolError: ``OPENING_REFUSED`` if it says that it leaves this partner out.
    """
    if not data:
        raise ProtocolError("OPENING_REFUSED", f"{bank} leaves this partner out; the release is void.")
    return data


def _counts(head: bytes) -> list[int]:
    """Return the sizes of a bank's batches.

    Raises:
        ProtocolError: ``ASK_MALFORMED``.
    """
    try:
        found = json.loads(head)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(type(n) is int and 0 < n <= voprf.MAXIMUM_BATCH for n in found):
        raise ProtocolError("ASK_MALFORMED", "A bank's question is malformed.")
    return found
