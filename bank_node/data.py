"""A bank's rows in one job: split, encoded, trained on, scored. The only module of the bank that holds them all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.encoding import Columns, Encoding
from node.ingest import Table
from node.keystore import write_private
from node.role import Job
from protocol.canonical import digest, encode, lp
from protocol.contract import Dataset
from protocol.errors import DataError
from protocol.job import DpRecipe, Proposal, Recipe

if TYPE_CHECKING:
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

    def predict(
        self, encoding: Encoding, weights: NDArray[np.float32], frame: pd.DataFrame
    ) -> NDArray[np.float64]:
        """Return the PD of rows under a model; shape [n]."""
        from bank_node.scoring import predict

        return predict(encoding, weights, frame, self.recipe)

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

    def keep(
        self, job: Job, encoding: Encoding, weights: NDArray[np.float32], figures: dict[str, Any]
    ) -> str:
        """Write the model beside the bank's other models; returns its digest."""
        content = np.ascontiguousarray(weights, dtype="<f4").tobytes()
        description = {
            "version": 1,
            "kind": "bank score",
            "encoding": encoding.to_dict(),
            "recipe": self.recipe.body,
            "private": self.private,
            "networks": list(weights.shape),
            "weights": sha256(content).hexdigest(),
        }
        name = digest("model", description)
        folder = self._models / job.id
        write_private(folder / "weights.f32", content)
        write_private(folder / "model.json", encode(description))
        write_private(folder / "figures.json", json.dumps(figures, indent=1).encode())
        return name


def columns_of(dataset: Dataset) -> Columns:
    """Return a dataset's fields as the encoding's inputs: numbers and flags as numbers, categories by level."""
    return Columns(
        tuple(field.name for field in dataset.fields if field.type in ("number", "flag")),
        tuple((field.name, tuple(field.levels)) for field in dataset.fields if field.type == "category"),
    )
