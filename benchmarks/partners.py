"""What data partners bring: stages V, P and S in the open, with the product's own arithmetic.

``python -m benchmarks.quality --partners --data DIR``. For every data set and stated seed: rows split as in
``datasets``; test rows are dealt to the three banks in turn, since each has its own head. Each partner forms its
sub-score as in the product (``protocol.subscore``) from the sum of a·sign(z) over the banks' covered training rows in
fixed point, plus discrete Gaussian noise of T and of the banks (``protocol.release``); joining, shares and masks are
left out because they cancel to the bit. Then H, and S with H+, every sum in the ring as in ``quality``, and a head
at each bank. Noise is fresh in every run, so that figures over equal seeds differ by it.

Partners: of ``default-credit`` x0 ... x4 (shop) and x5 ... x9 (bureau) of the partner's file; of ``sba-wide`` one
registry with naics (two digits), state, no_emp, new_exist, create_job, retained_job, franchise_code, urban_rural, zip.
A null partner holds the first partner's table with its rows permuted, and must publish nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node import head, scoring, shared_model, training
from bank_node.subscores import MISSING
from benchmarks import datasets
from benchmarks.quality import bank_inputs, encoding_of, key, summed
from protocol import product, release, ring, subscore
from protocol.job import Recipe, SharedRecipe

NAMES = ("default-credit", "sba-wide")
BASE_RATES = {"default-credit": 0.22, "sba-wide": 0.5}
DELTA = 1e-5
COMPONENTS = 20
RECIPE, SHARED = Recipe(), SharedRecipe()
HEADS = "S with heads"

Float64 = NDArray[np.float64]
Bins = NDArray[np.int8]


@dataclass(frozen=True)
class Partner:
    """A partner's table.

    Attributes:
        name: of the partner.
        columns: as ``protocol.subscore`` takes them, all of one length.
        frame: the same as LightGBM takes them, for the ceiling.
    """

    name: str
    columns: dict[str, NDArray[Any]]
    frame: pd.DataFrame

    def rows(self, places: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return some rows of the columns."""
        return {name: values[places] for name, values in self.columns.items()}


def partners(name: str, folder: Path, ids: Sequence[str]) -> tuple[Partner, ...]:
    """Read the partners of a data set, rows in the order of ids."""
    if name == "default-credit":
        raw = pd.read_parquet(folder / "default_credit_partner.parquet")
        raw = raw.set_index(raw["id"].astype(str)).loc[list(ids)]
        places = {"shop": range(5), "bureau": range(5, 10)}
        return tuple(
            _partner(who, raw[[f"x{i}" for i in columns]].astype("float64"))
            for who, columns in places.items()
        )
    raw = pd.read_parquet(folder / "sba_small_business_30k.parquet")
    raw = raw.set_index(raw["loan_nr_chk_dgt"].astype("int64").astype(str)).loc[list(ids)]
    table = pd.DataFrame(index=raw.index)
    for number in ("no_emp", "create_job", "retained_job", "franchise_code", "zip"):
        table[number] = pd.to_numeric(raw[number], errors="coerce").astype("float64")
    table["naics"] = raw["naics"].astype("str").str[:2]
    for level in ("state", "new_exist", "urban_rural"):
        table[level] = raw[level].astype("str")
    return (_partner("registry", table),)


def _partner(name: str, table: pd.DataFrame) -> Partner:
    columns: dict[str, NDArray[Any]] = {}
    frame = pd.DataFrame(index=table.index)
    for column, values in table.items():
        if values.dtype == np.float64:
            columns[str(column)] = values.to_numpy()
            frame[f"{name} {column}"] = values
        else:
            text = values.where(~values.isin(["nan", "None", "<NA>"]), "")
            columns[str(column)] = text.to_numpy(dtype="str")
            frame[f"{name} {column}"] = text.astype("category")
    return Partner(name, columns, frame)


@dataclass(frozen=True)
class Privacy:
    """The release to a partner; ``epsilon`` None: exact."""

    epsilon: float | None
    memberships: int


def published(
    partner: Partner,
    listed: NDArray[np.intp],
    trained: NDArray[np.intp],
    outcome: NDArray[np.int64],
    base_rate: float,
    privacy: Privacy,
) -> tuple[Bins | None, float]:
    """Form a partner's sub-score.

    Args:
        partner: its table, over all rows of the data set.
        listed: rows that the partner knows.
        trained: rows that the banks train on.
        outcome: of all rows.
        base_rate: b0.
        privacy: of the release.

    Returns:
        Bins of all rows (``MISSING`` for those that the partner doesn't know), or None if it publishes nothing; and
        the gate's p-value.
    """
    own = partner.rows(listed)
    basis = subscore.Basis.fit(own, COMPONENTS)
    covered = np.intersect1d(listed, trained)
    low, high = product.label_weights(base_rate)
    weights = np.where(outcome[covered] == 1, high, low).astype(np.int64)
    signs = [2 * subscore.sign_bits(z).astype(np.int64) - 1 for z in basis.blocks(partner.rows(covered))]
    v = weights @ np.concatenate(signs)
    noise_sd = 0.0
    if privacy.epsilon is not None:
        terms = release.Release(
            basis.components, base_rate, privacy.memberships, privacy.epsilon, DELTA, product.FRACTION_BITS
        )
        v = v + ring.signed(release.noise(terms.ring_sigma, basis.components))
        for _ in range(datasets.BANKS):
            v = v + ring.signed(release.noise(terms.bank_ring_sigma(datasets.BANKS), basis.components))
        noise_sd = terms.sigma * 2**0.5
    found = subscore.direction(
        basis,
        np.ldexp(v.astype(np.float64), -product.FRACTION_BITS),
        rows=len(trained),
        noise_sd=noise_sd,
        base_rate=base_rate,
    )
    if not found.informative:
        return None, found.p_value
    bins = np.full(len(outcome), MISSING, dtype=np.int8)
    bins[listed] = subscore.SubScore.fit(basis, found, own).bins(own)
    return bins, found.p_value


class Consortium:
    """The banks of one split: H first, then S and H+ with whatever bins there are."""

    def __init__(self, dataset: datasets.Dataset, split: datasets.Split) -> None:
        self.split, self.columns = split, dataset.columns
        self.encoding = encoding_of(dataset.columns, split, RECIPE.bins)
        self.trainers = [training.LocalTrainer(RECIPE, *one) for one in bank_inputs(self.encoding, split)]
        self.networks = self.trainers[0].shape.networks
        weights = self.trainers[0].initial()
        for round_ in range(1, RECIPE.rounds + 1):
            updates = [
                training.update_vector(one.local_pass(weights, round_), one.rows) for one in self.trainers
            ]
            weights = training.weights_from(self._sum(updates), self.networks)
        self.h = weights
        self.test_bank = np.arange(len(split.test)) % datasets.BANKS
        self.h_logit = self._logits(weights, split.test)
        self.out_of_fold = [
            scoring.out_of_fold_logits(
                self.encoding,
                weights,
                rows,
                RECIPE,
                training.half_of(rows["id"].tolist(), key("salt", split.seed)),
            )
            for rows in split.banks
        ]

    def shared(
        self, bins: Sequence[Bins], drop: float = shared_model.DROP, shared: SharedRecipe = SHARED
    ) -> shared_model.Pair:
        """Train S and H+; ``bins``: of each bank's training rows."""
        trainers = [
            shared_model.SharedTrainer(one, RECIPE, shared, own, drop)
            for one, own in zip(self.trainers, bins, strict=True)
        ]
        pair = shared_model.start_of(self.h, trainers[0].shape)
        for round_ in range(RECIPE.rounds + 1, RECIPE.rounds + shared.rounds + 1):
            updates = [one.vector(one.local_pass(pair, round_)) for one in trainers]
            pair = shared_model.pair_from(self._sum(updates), trainers[0].shape)
        return pair

    def score(self, weights: NDArray[np.float32], bins: Bins | None = None) -> Float64:
        """Return the log-odds of the test rows."""
        return self._logits(weights, self.split.test, bins)

    def heads(self, bins: Sequence[Bins], test: Bins) -> Float64:
        """Return the log-odds of the test rows by each bank's own head."""
        found = np.full(len(test), np.nan)
        for bank, (rows, own) in enumerate(zip(self.split.banks, bins, strict=True)):
            folds = head.folds_of(rows["id"].tolist(), key("salt", self.split.seed))
            outcome = rows["outcome"].to_numpy(dtype=np.int8)
            made = head.fit(self.columns, rows, outcome, self.out_of_fold[bank], own, folds, bank)
            here = self.test_bank == bank
            if made is not None:
                found[here] = made.log_odds(self.split.test[here], self.h_logit[here], test[here])
        return found

    def _logits(self, weights: NDArray[np.float32], rows: pd.DataFrame, bins: Bins | None = None) -> Float64:
        beside = None if bins is None else shared_model.beside(bins)
        return scoring.network_logits(self.encoding, weights, rows, RECIPE, beside).mean(axis=1)

    def _sum(self, updates: Sequence[Float64]) -> Float64:
        return summed(updates, training.FRACTION_BITS, training.UPDATE_LIMIT)
