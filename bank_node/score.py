"""Stage H at one bank: the shared bank score, from the masked sums that fix its encoding to the model on disk.

Specification: training protocol, B9 and "A job". Steps of an attempt, all of them openings over the signed roster:

1. ``group``: the first bank of the roster draws the group key and seals it to each other bank.
2. ``knots``, ``centring``: two masked sums fix the encoding; the second carries training rows and defaults.
3. rounds: each bank trains from the last total and returns its masked update; the server adds what it can't read.
4. ``edges``, ``histogram``: hold-out scores sorted into cells, from which everybody reads the same figures.

Invariants:
    - What is opened once in a job is not masked again for another roster: its total is reused. Training starts
      afresh in every attempt (other initialisations, labels and masks), so that two totals never differ by one bank.
    - The same masked bytes are sent again after a crash; they are kept before they are released.
    - A stated seed reproduces the model to the last bit; without one, seeds are secret and die with the job.

What a bank learns: the totals, hence from N − 1 colluding banks the last one's. The server learns lengths and times.
"""

from __future__ import annotations

import math
import secrets
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bank_node import encoding as enc
from bank_node.data import BankData
from bank_node.openings import CENTRING, EDGES, HISTOGRAM, KNOTS, UPDATE, Openings
from bank_node.vertical import VerticalSession, agreed
from node.role import Channel, Job
from protocol import labels, metrics, ring
from protocol.canonical import digest, lp
from protocol.labels import Label

CELLS = 64
SMALLEST_CELL = 50


class BankScore:
    """One bank's part in one attempt of a job."""

    def __init__(self, job: Job, channel: Channel, data: BankData) -> None:
        self._job, self._channel, self._data = job, channel, data
        self._openings = Openings(job, channel)

    # -- the session ----------------------------------------------------------------------------------------

    def pairs(self, other: str) -> dict[str, bytes]:
        """Return this bank's pair keys with the other banks and with one other party of the job."""
        return self._openings.pairs(other)

    def session(self, joint: VerticalSession | None = None) -> dict[str, Any]:
        """Run steps 1 and 2, then the stages with partners; returns the digest of the encoding.

        Args:
            joint: this bank's part of stages V and P, where the job has partners.
        """
        self._openings.sign_roster()
        self._openings.agree_group_key()
        encoding = self.encoding()
        if joint is not None:
            name = f"subscores.{self._job.attempt}"
            if self._channel.recall(name) is None:
                bins = agreed(self._job, joint.run(), self._data.rows, self._openings.gather)
                self._channel.keep(name, bins.to_bytes)
        self._channel.note("session", inputs=encoding.width, rows=int(self._data.rows))
        return {"encoding": digest("encoding", encoding.to_dict()), "inputs": encoding.width}

    def encoding(self) -> enc.Encoding:
        """Return the encoding that the banks agreed on, opening it first where needed."""
        columns, frame = self._data.columns, self._data.training().frame
        bins = self._data.recipe.bins
        knot_total = self._openings.open_sum(
            KNOTS, lambda: enc.knot_statistics(columns, frame, bins), enc.KNOT_BOUND
        )
        knots = enc.knots_from(knot_total, columns, bins)

        def centring() -> NDArray[np.float64]:
            y = self._data.training().label
            return np.concatenate([[len(y), y.sum()], enc.centring_statistics(knots, frame)])

        total = self._openings.open_sum(CENTRING, centring, enc.CENTRING_BOUND)
        self._rows, self._defaults = float(total[0]), float(total[1])
        return enc.encoding_from(knots, total[2:])

    def prior_log_odds(self) -> float:
        """Return the log-odds of the banks' base rate; known once the encoding is."""
        rate = (self._defaults + 0.5) / (self._rows + 1.0)
        return math.log(rate / (1.0 - rate))

    # -- rounds ---------------------------------------------------------------------------------------------

    def train(self, round_: int, total: bytes) -> bytes:
        """Train one round; returns the masked update.

        Args:
            round_: from 1.
            total: the masked total of the round before, empty in the first.
        """
        from bank_node import training

        # Steps of their own, so that they aren't repeated inside the one below.
        encoding, seeds = self.encoding(), self._seeds()

        def make() -> bytes:
            trainer = self._data.trainer(encoding, self.prior_log_odds(), seeds)
            start = trainer.initial() if round_ == 1 else self._weights(round_ - 1, total)
            weights = trainer.local_pass(start, round_)
            vector = training.update_vector(weights, trainer.rows)
            bits, limit = training.FRACTION_BITS, training.UPDATE_LIMIT
            ring.check_headroom(len(self._job.roster.banks), limit, bits)
            return self._openings.masked(UPDATE, ring.encode(vector, bits, limit), round_)

        update = self._channel.once(f"update.{self._job.attempt}.{round_}", make)
        self._channel.note(f"round {round_}", rows=int(self._data.rows), bytes=len(update))
        return update

    def _weights(self, round_: int, total: bytes) -> NDArray[np.float32]:
        from bank_node import training

        vector = ring.decode(
            self._openings.unmasked(UPDATE, total, self._job.attempt, round_), training.FRACTION_BITS
        )
        return training.weights_from(vector, self._data.networks)

    def _seeds(self) -> Any:
        from bank_node.training import Seeds

        job = self._job
        seed = job.proposal.seed
        if seed is None:
            common = labels.derive(self._openings.group(job.attempt), Label("h/common", job.id, job.attempt))
            own = self._channel.once(f"seed.{job.attempt}", lambda: secrets.token_bytes(32))
            return Seeds(common=common, own=own)
        stated = sha256(lp("concordat/v1", "stated seed", seed)).digest()
        return Seeds(
            common=labels.derive(stated, Label("h/common", "stated", job.attempt)),
            own=labels.derive(stated, Label("h/own", "stated", job.attempt, bank=job.party)),
        )

    # -- the end --------------------------------------------------------------------------------------------

    def finish(self, total: bytes) -> dict[str, Any]:
        """Evaluate on the hold-outs and keep the model; returns the signed statement about it."""
        job, data = self._job, self._data
        rounds = data.recipe.rounds
        encoding = self.encoding()
        weights = self._weights(rounds, total)
        counted = self._evaluate(encoding, weights)
        figures = figures_of(counted)
        figures["training_rows"] = int(self._rows)
        figures["base_rate"] = self._defaults / self._rows
        figures["privacy"] = data.privacy()
        model = data.keep(job, encoding, weights, figures)
        body = {"job": job.id, "model": model, "figures": digest("figures", figures)}
        return {"statement": self._channel.sign("model", body), "figures": figures}

    def _evaluate(self, encoding: enc.Encoding, weights: NDArray[np.float32]) -> metrics.ScoreHistogram:
        holdout = self._data.holdout()
        pd = self._data.predict(encoding, weights, holdout.frame)
        edges = self._edges(pd)

        def cells() -> NDArray[np.uint64]:
            return self._data.noised(metrics.to_vector(metrics.histogram(edges, pd, holdout.label)))

        total = self._openings.open(HISTOGRAM, cells)
        return metrics.from_vector(edges, total, noised=self._data.private)

    def _edges(self, pd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cells' edges: the banks' average quantiles, or a fixed grid under a private release."""
        if self._data.private:
            # A quantile is a function of the rows and would have to be charged; a grid in log-odds is not.
            grid = np.linspace(-6.0, 4.0, CELLS - 1)
            inner = 1.0 / (1.0 + np.exp(-grid))
        else:
            quantiles = (
                np.quantile(pd, np.linspace(0, 1, CELLS + 1)[1:-1]) if len(pd) else np.zeros(CELLS - 1)
            )
            sums = np.concatenate([[len(pd)], len(pd) * quantiles])
            total = self._openings.open_sum(EDGES, lambda: sums, enc.CENTRING_BOUND)
            inner = total[1:] / max(total[0], 1.0)
        steps = np.maximum.accumulate(np.clip(inner, 1e-9, 1 - 1e-9) + np.arange(CELLS - 1) * 1e-12)
        return np.concatenate([[0.0], steps, [1.0]])


def figures_of(counted: metrics.ScoreHistogram) -> dict[str, Any]:
    """Return the figures of a hold-out histogram as JSON values; cells with fewer than 50 rows are merged."""
    shown = metrics.merge_small_cells(counted, SMALLEST_CELL)
    fit = metrics.calibration(shown)
    return {
        "auc": metrics.auc(counted),
        "ks": metrics.ks(counted),
        "brier": metrics.brier(counted),
        "holdout_rows": counted.total,
        "holdout_defaults": int(counted.bad.sum()),
        "roc": metrics.roc_points(shown).tolist(),
        "calibration": {
            "slope": fit.slope,
            "intercept": fit.intercept,
            "cells": [
                {
                    "lower": cell.lower,
                    "upper": cell.upper,
                    "rows": cell.rows,
                    "mean_pd": cell.mean_pd,
                    "observed": cell.observed,
                }
                for cell in fit.cells
            ],
        },
        "histogram": {
            "edges": shown.edges.tolist(),
            "good": shown.good.tolist(),
            "bad": shown.bad.tolist(),
        },
    }
