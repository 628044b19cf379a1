"""Stages H and S at one bank: the shared models, from the masked sums that fix their encoding to the model on disk.

Specification: training protocol, B9 and "A job". Steps of an attempt, all of them openings over the signed roster:

1. ``group``: the first bank of the roster draws the group key and seals it to each other bank.
2. ``knots``, ``centring``: two masked sums fix the encoding; the second carries training rows and defaults.
3. rounds: each bank trains from the last total and returns its masked update; the server adds what it can't read.
   First those of H. Where the job has partners, then those of S and H+, whose networks travel in one vector
   (``shared_model``) and begin at H's last total; without any partner's bins H+ goes on alone.
4. ``edges``, ``histogram``, with partners ``comparison`` (``evaluation``): from hold-out scores sorted into cells
   everybody reads the same figures of all models.

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
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bank_node import encoding as enc
from bank_node.data import BankData
from bank_node.openings import CENTRING, KNOTS, UPDATE, Openings
from bank_node.subscores import SubScores
from bank_node.vertical import VerticalSession, agreed
from node.role import Channel, Job
from protocol import labels, ring
from protocol.canonical import digest, lp
from protocol.errors import ProtocolError
from protocol.labels import Label

if TYPE_CHECKING:
    from bank_node.network import Shape
    from bank_node.risk_model import RiskModel
    from bank_node.shared_model import Pair


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
        result: dict[str, Any] = {
            "encoding": digest("encoding", encoding.to_dict()),
            "inputs": encoding.width,
        }
        if joint is not None:
            # Anew in every session: a bank that lost its peers must find the others where it is itself.
            bins = agreed(self._job, joint.run(round(self._rows)), self._data.rows, self._openings.gather)
            self._channel.put(f"subscores.{self._job.attempt}", bins.to_bytes())
            result["partners"] = list(bins.partners)
        self._channel.note("session", inputs=encoding.width, rows=int(self._data.rows))
        return result

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
            round_: from 1; those after the bank score's are stage S's.
            total: the masked total of the round before, empty in the first.

        Raises:
            ProtocolError: the round is not one of the proposal's, or the total can't be of the round before it.
        """
        from bank_node import training

        # Steps of their own, so that they aren't repeated inside the one below.
        encoding, seeds = self.encoding(), self._seeds()

        known = self._subscores()
        if round_ == self._data.recipe.rounds + 1:
            # The last that is seen of H: what comes next are totals of H+ and S.
            self._channel.keep(f"h.{self._job.attempt}", lambda: total)

        def make() -> bytes:
            trainer = self._data.trainer(encoding, self.prior_log_odds(), seeds)
            if round_ > self._data.recipe.rounds:
                assert known is not None
                further = self._data.further(trainer, known, seeds)
                pair = self._pair(round_ - 1, total, further.shape)
                vector = further.vector(further.local_pass(pair, round_))
            else:
                start = trainer.initial() if round_ == 1 else self._weights(round_ - 1, total)
                vector = training.update_vector(trainer.local_pass(start, round_), trainer.rows)
            bits, limit = training.FRACTION_BITS, training.UPDATE_LIMIT
            ring.check_headroom(len(self._job.roster.banks), limit, bits)
            return self._openings.masked(UPDATE, ring.encode(vector, bits, limit), round_)

        update = self._channel.once(f"update.{self._job.attempt}.{round_}", make)
        self._channel.note(f"round {round_}", rows=int(self._data.rows), bytes=len(update))
        return update

    def _total(self, round_: int, total: bytes) -> NDArray[np.float64]:
        from bank_node import training

        opened = self._openings.unmasked(UPDATE, total, self._job.attempt, round_)
        return ring.decode(opened, training.FRACTION_BITS)

    def _weights(self, round_: int, total: bytes) -> NDArray[np.float32]:
        """Return H's networks from the total of one of its rounds."""
        from bank_node import training

        return training.weights_from(self._total(round_, total), self._data.networks)

    def _pair(self, round_: int, total: bytes, shape: Shape) -> Pair:
        """Return what stage S goes on from: its own last total, or H's to begin with."""
        from bank_node import shared_model

        if round_ == self._data.recipe.rounds:
            return shared_model.start_of(self._weights(round_, total), shape)
        return shared_model.pair_from(self._total(round_, total), shape)

    def _subscores(self) -> SubScores | None:
        """Return the partners' bins of the attempt; None where the job has no stage S."""
        if self._job.proposal.vertical is None:
            return None
        kept = self._channel.recall(f"subscores.{self._job.attempt}")
        if kept is None:
            raise ProtocolError("SUBSCORE_MISSING", "The session left no sub-scores, not even of no partner.")
        return self._data.checked(SubScores.from_bytes(kept))

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
        from bank_node import evaluation

        job, data = self._job, self._data
        known = self._subscores()
        model = self._trained(total, known)
        scored = data.scored(model, known)
        found = evaluation.evaluate(
            self._openings, scored, joint=known is not None, private=data.private, noised=data.noised
        )
        if known is not None:
            model = replace(model, lines={name: found.line(name) for name in found.counted})
        vertical = job.proposal.vertical
        asked = vertical.partners if vertical else ()
        stands = {name: known is not None and name in known.partners for name in asked}
        figures = evaluation.all_figures(found, stands)
        figures["training_rows"] = int(self._rows)
        figures["base_rate"] = self._defaults / self._rows
        figures["privacy"] = data.privacy()
        body = {"job": job.id, "model": data.keep(job, model, figures), "figures": digest("figures", figures)}
        return {"statement": self._channel.sign("model", body), "figures": figures}

    def _trained(self, total: bytes, known: SubScores | None) -> RiskModel:
        """Return the models of all rounds, as trained, with this bank's own head."""
        from bank_node import risk_model

        job, recipe = self._job, self._data.recipe
        encoding = self.encoding()
        if known is None:
            return risk_model.RiskModel(encoding, recipe, self._weights(recipe.rounds, total))
        kept = self._channel.recall(f"h.{job.attempt}")
        if kept is None:
            raise ProtocolError("TRAINING_ROUND", "The job ends before stage S has begun.")
        h = self._weights(recipe.rounds, kept)
        pair = self._pair(job.proposal.rounds, total, self._data.further_shape(encoding, known))
        model = risk_model.RiskModel(encoding, recipe, h, pair.h_plus, pair.s, known.partners)
        if pair.s is None or job.proposal.vertical is None or not job.proposal.vertical.heads:
            return model
        return replace(model, head=self._data.head(model, known, self._seeds()))
