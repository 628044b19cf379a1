"""A bank's rows in one job: split, encoded, trained on, scored. The only module of the bank that holds them all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.encoding import Columns, Encoding
from bank_node.subscores import MISSING, SubScores
from node.ingest import Table
from node.role import Job
from protocol.canonical import lp
from protocol.contract import Dataset
from protocol.errors import DataError, ProtocolError
from protocol.job import DpRecipe, Proposal, Recipe

if TYPE_CHECKING:
    from bank_node.evaluation import Scored
    from bank_node.head import Head
    from bank_node.network import Shape
    from bank_node.risk_model import RiskModel
    from bank_node.shared_model import SharedTrainer
    from bank_node.training import LocalTrainer, Seeds


@dataclass(frozen=True)
class Rows:
    """Some of the bank's enterprises: their columns and outcomes (1 = default)."""

    frame: pd.DataFrame
    label: NDArray[np.int8]


def split_salt(proposal: Proposal, job: str) -> bytes:
    """Return what decides which enterprises are held out, and into which half the others fall.

    The same at every bank, so that an enterprise with two banks is trained on at both or at neither. Not secret.
    """
    stated = proposal.seed
    return sha256(lp("concordat/v1", "split", job if stated is None else stated)).digest()


class BankData:
    """A bank's table as one job uses it.

    Args:
        table: the ingested table.
        dataset: what the data contract asks of a bank.
        proposal: the job's proposal.
        job: J; splits depend on it unless a seed is stated.
        models: directory in which the bank keeps models.
    """

    def __init__(self, table: Table, dataset: Dataset, proposal: Proposal, job: str, models: Path) -> None:
        self._table, self._proposal, self._models = table, proposal, models
        self.columns = columns_of(dataset)
        self._salt = split_salt(proposal, job)
        self._trainer: tuple[tuple[int, bytes], LocalTrainer] | None = None
        self._further: tuple[bytes, SharedTrainer] | None = None

    @property
    def private(self) -> bool:
        """Whether the model is released under differential privacy."""
        return self._proposal.release.kind == "dp"

    @property
    def _memberships(self) -> int:
        """How many banks may hold one enterprise; the privacy of a release counts each."""
        return self._proposal.release.memberships or len(self._proposal.banks)

    @property
    def recipe(self) -> Recipe | DpRecipe:
        """The recipe of this release."""
        return self._proposal.dp_recipe if self.private else self._proposal.recipe

    @property
    def networks(self) -> int:
        """Number of networks that are trained side by side."""
        from bank_node.network import shape_of

        return shape_of(self.recipe, 1).networks

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return len(self._table.frame)

    @cached_property
    def _held_out(self) -> NDArray[np.bool_]:
        from bank_node.training import is_holdout

        return is_holdout(list(self._table.frame.index), self._salt, self._proposal.holdout)

    def for_partners(self) -> tuple[list[str], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return what the joint stages ask about: all ids, which rows are trained on, which have defaulted."""
        label = self._rows(np.ones(self.rows, dtype=np.bool_)).label
        return list(self._table.frame.index), ~self._held_out, label.astype(np.bool_)

    def training(self) -> Rows:
        """Return the rows that are trained on."""
        return self._rows(~self._held_out)

    def holdout(self) -> Rows:
        """Return the rows that are kept for evaluation."""
        return self._rows(self._held_out)

    def _rows(self, chosen: NDArray[np.bool_]) -> Rows:
        label = self._table.label
        if label is None:
            raise DataError(
                "DATA_NO_LABEL", "a bank's table needs a label", "Map `label` in the node's configuration."
            )
        return Rows(self._table.frame[chosen], label[chosen])

    def trainer(self, encoding: Encoding, prior_log_odds: float, seeds: Seeds) -> LocalTrainer:
        """Return the trainer of an attempt; encoded rows are kept in memory between rounds."""
        from bank_node.training import LocalTrainer, half_of

        key = (id(encoding), seeds.own)
        if self._trainer is not None and self._trainer[0][1] == seeds.own:
            return self._trainer[1]
        rows = self.training()
        halves = half_of(list(rows.frame.index), self._salt)
        x = encoding.transform(rows.frame)
        if self.private:
            from bank_node.privacy import DpTrainer

            made: Any = DpTrainer(
                self._proposal.dp_recipe,
                x,
                rows.label,
                halves,
                seeds,
                prior_log_odds,
                self._proposal.release,
                memberships=self._memberships,
            )
        else:
            made = LocalTrainer(self._proposal.recipe, x, rows.label, halves, seeds, prior_log_odds)
        self._trainer = (key, made)
        return self._trainer[1]

    def checked(self, known: SubScores) -> SubScores:
        """Return sub-scores that fit this table.

        Raises:
            ProtocolError: ``SUBSCORE_SHAPE`` if they are of another number of rows, or of other partners.
        """
        vertical = self._proposal.vertical
        asked = vertical.partners if vertical else ()
        if len(known.bins) != self.rows or not set(known.partners) <= set(asked):
            raise ProtocolError("SUBSCORE_SHAPE", "The sub-scores are of another table or of other partners.")
        return known

    def further(self, trainer: LocalTrainer, known: SubScores, seeds: Seeds) -> SharedTrainer:
        """Return the trainer of stage S of an attempt, on the rows of the bank score's."""
        from bank_node.shared_model import SharedTrainer

        key = sha256(seeds.own + known.to_bytes()).digest()
        if self._further is None or self._further[0] != key:
            vertical = self._proposal.vertical
            assert vertical is not None
            bins = known.chosen(~self._held_out)
            made = SharedTrainer(trainer, self._proposal.recipe, vertical.recipe, bins)
            self._further = (key, made)
        return self._further[1]

    def further_shape(self, encoding: Encoding, known: SubScores) -> Shape:
        """Return the shape of S's networks."""
        from bank_node.network import shape_of
        from bank_node.shared_model import WIDTH

        return shape_of(self.recipe, encoding.width).beside(WIDTH * len(known.partners))

    def head(self, model: RiskModel, known: SubScores, seeds: Seeds) -> Head | None:
        """Grow the bank's own head beside a model; None where it has too few rows for one."""
        from bank_node import head
        from bank_node.scoring import out_of_fold_logits
        from bank_node.training import half_of, training_key

        rows = self.training()
        ids = list(rows.frame.index)
        halves = half_of(ids, self._salt)
        h = out_of_fold_logits(model.encoding, model.h, rows.frame, model.recipe, halves)
        seed = int.from_bytes(training_key(seeds.own, "head")[:4], "big") >> 1
        return head.fit(
            self.columns,
            rows.frame,
            rows.label,
            h,
            known.chosen(~self._held_out),
            head.folds_of(ids, self._salt),
            seed,
        )

    def scored(self, model: RiskModel, known: SubScores | None) -> Scored:
        """Return the hold-out under every model that stands."""
        from bank_node.evaluation import Scored
        from bank_node.risk_model import S_HEAD, S
        from bank_node.scoring import probability

        rows, vertical = self.holdout(), self._proposal.vertical
        bins = known.chosen(self._held_out) if known is not None and known.partners else None
        pd = {name: probability(z) for name, z in model.log_odds(rows.frame, bins).items()}
        if S in pd and vertical is not None and vertical.heads:
            # A bank that couldn't grow a head serves S alone.
            pd.setdefault(S_HEAD, pd[S])
        covered = dict.fromkeys(vertical.partners if vertical else (), 0)
        if bins is not None and known is not None:
            covered.update(zip(known.partners, (bins != MISSING).sum(axis=0).tolist(), strict=True))
        return Scored(rows.label, pd, tuple(covered.values()))

    def noised(self, vector: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return a hold-out histogram's vector, with this bank's noise under a private release."""
        if not self.private:
            return vector
        from bank_node.privacy import noise_histogram

        return noise_histogram(vector, self._proposal.release, banks=self._memberships)

    def privacy(self) -> dict[str, Any]:
        """Return what the accountant says of this release."""
        if not self.private or self._trainer is None:
            return {"kind": self._proposal.release.kind}
        release = self._proposal.release
        trainer: Any = self._trainer[1]
        return {"kind": "dp", "asked": release.epsilon, "delta": release.delta, **trainer.report()}

    def keep(self, job: Job, model: RiskModel, figures: dict[str, Any]) -> str:
        """Write the model beside the bank's other models; returns its digest."""
        return model.write(self._models / job.id, figures)


def columns_of(dataset: Dataset) -> Columns:
    """Return a dataset's fields as the encoding's inputs: numbers and flags as numbers, categories by level."""
    return Columns(
        tuple(field.name for field in dataset.fields if field.type in ("number", "flag")),
        tuple((field.name, tuple(field.levels)) for field in dataset.fields if field.type == "category"),
    )
