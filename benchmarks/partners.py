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

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bank_node import head, scoring, shared_model, training
from bank_node.risk_model import H_PLUS, S_HEAD, H, RiskModel, S
from bank_node.subscores import MISSING
from benchmarks import baselines, datasets
from benchmarks.in_the_open import bank_inputs, encoding_of, key, summed
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

    def scores(self, bins: Sequence[Bins], test: Bins, heads: bool = True) -> dict[str, Float64]:
        """Train on the banks' bins; return the log-odds of the test rows by model, each bank's head on its own rows."""
        pair = self.shared(bins)
        made: list[head.Head | None] = [None] * datasets.BANKS
        if heads:
            made = [self._head(bank, own) for bank, own in enumerate(bins)]
        found: dict[str, Float64] = {}
        for bank, own_head in enumerate(made):
            here = self.test_bank == bank
            model = RiskModel(
                self.encoding, RECIPE, self.h, pair.h_plus, pair.s, ("",) * test.shape[1], own_head
            )
            for name, z in model.log_odds(self.split.test[here], test[here]).items():
                found.setdefault(name, np.full(len(test), np.nan))[here] = z
        return found

    def _head(self, bank: int, bins: Bins) -> head.Head | None:
        rows = self.split.banks[bank]
        ids, salt = rows["id"].tolist(), key("salt", self.split.seed)
        h = scoring.out_of_fold_logits(self.encoding, self.h, rows, RECIPE, training.half_of(ids, salt))
        outcome = rows["outcome"].to_numpy(dtype=np.int8)
        return head.fit(self.columns, rows, outcome, h, bins, head.folds_of(ids, salt), bank)

    def _sum(self, updates: Sequence[Float64]) -> Float64:
        return summed(updates, training.FRACTION_BITS, training.UPDATE_LIMIT)


def ceiling(
    dataset: datasets.Dataset, split: datasets.Split, held: Sequence[Partner], place: Mapping[str, int]
) -> Float64:
    """Return the PD of the test rows by boosted trees on all rows and all columns, which nobody may pool."""

    def inputs(rows: pd.DataFrame) -> pd.DataFrame:
        at = [place[one] for one in rows["id"]]
        own = baselines.inputs(dataset.columns, rows).reset_index(drop=True)
        return pd.concat([own, *(one.frame.iloc[at].reset_index(drop=True) for one in held)], axis=1)

    data = lightgbm.Dataset(inputs(split.pooled), label=split.pooled["outcome"].to_numpy())
    model = lightgbm.train(baselines.SETTINGS, data, num_boost_round=baselines.TREES)
    return np.asarray(model.predict(inputs(split.test)), dtype=np.float64)


def measure(name: str, folder: Path, seeds: Sequence[int], privacy: Privacy) -> dict[str, Any]:
    """Return one data set's figures with partners."""
    dataset = datasets.load(name, folder)
    ids = dataset.frame["id"].tolist()
    place = {one: at for at, one in enumerate(ids)}
    outcome = dataset.frame["outcome"].to_numpy()
    held = partners(name, folder, ids)
    everyone = np.arange(len(ids))
    areas: dict[str, list[float]] = {}
    gate: dict[str, list[float]] = {}
    null_published = 0
    for seed in seeds:
        split = datasets.split(dataset, seed)
        test = split.test["outcome"].to_numpy()
        at_test = np.array([place[one] for one in split.test["id"]])
        at_banks = [np.array([place[one] for one in rows["id"]]) for rows in split.banks]
        trained = np.concatenate(at_banks)
        consortium = Consortium(dataset, split)

        def note(what: str, score: Float64, consortium: Consortium = consortium, seed: int = seed) -> None:
            y = consortium.split.test["outcome"].to_numpy()
            areas.setdefault(what, []).append(float(roc_auc_score(y, score)))
            inside = [
                roc_auc_score(y[consortium.test_bank == bank], score[consortium.test_bank == bank])
                for bank in range(datasets.BANKS)
            ]
            areas.setdefault(f"{what}, within banks", []).append(float(np.mean(inside)))
            print(f"{name} seed {seed} {what}: {areas[what][-1]:.4f}", file=sys.stderr, flush=True)

        def publish(
            one: Partner, listed: NDArray[np.intp], trained: NDArray[np.intp] = trained
        ) -> Bins | None:
            bins, p_value = published(one, listed, trained, outcome, BASE_RATES[name], privacy)
            gate.setdefault(one.name, []).append(p_value)
            return bins

        own = [baselines.boosted_trees(dataset.columns, rows, split.test) for rows in split.banks]
        alone = [float(roc_auc_score(test, one)) for one in own]
        areas.setdefault("one bank's third", []).append(float(np.mean(alone)))
        note(
            "LightGBM, banks' columns pooled",
            baselines.boosted_trees(dataset.columns, split.pooled, split.test),
        )
        note("LightGBM, all columns pooled", ceiling(dataset, split, held, place))
        whole = {one.name: publish(one, everyone) for one in held}
        shuffled = np.random.Generator(np.random.PCG64(1000 + seed)).permutation(len(ids))
        null = Partner("null", held[0].rows(shuffled), held[0].frame)
        null_published += publish(null, everyone) is not None
        variants = {f"with {who}": [who] for who in whole} if len(held) > 1 else {}
        for title, names in {**variants, "with all partners": list(whole)}.items():
            known = [bins for who, bins in whole.items() if who in names and bins is not None]
            if known:
                _noted(note, consortium, title, np.column_stack(known), at_banks, at_test)
        # The partners' lists are drawn apart from the splits, or they would be the training rows.
        draw = np.random.Generator(np.random.PCG64(2000 + seed))
        part = [publish(one, np.sort(draw.permutation(everyone)[: round(0.7 * len(ids))])) for one in held]
        some = [one for one in part if one is not None]
        if some:
            _noted(note, consortium, "at 70 % coverage", np.column_stack(some), at_banks, at_test)
    auc = {
        what: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, "seeds": v}
        for what, v in areas.items()
    }
    result: dict[str, Any] = {
        "dataset": name,
        "seeds": list(seeds),
        "epsilon": privacy.epsilon,
        "memberships": privacy.memberships,
        "auc": auc,
        "gate_p_values": gate,
        "null_published": null_published,
    }
    mean = {what: float(np.mean(v)) for what, v in areas.items()}
    result["targets"] = targets(name, mean, null_published)
    return result


def _noted(
    note: Callable[[str, Float64], None],
    consortium: Consortium,
    title: str,
    bins: Bins,
    at_banks: Sequence[NDArray[np.intp]],
    at_test: NDArray[np.intp],
) -> None:
    found = consortium.scores([bins[at] for at in at_banks], bins[at_test])
    if title == "with all partners":
        note("H", found[H])
        note("H+", found[H_PLUS])
    note(f"S {title}", found[S])
    note(f"{HEADS} {title}", found[S_HEAD])


def targets(name: str, mean: Mapping[str, float], null_published: int) -> dict[str, dict[str, Any]]:
    """Return what must hold for a data set, with what was found."""
    both, h_plus = mean[f"{HEADS} with all partners"], mean["H+"]
    below = mean["LightGBM, all columns pooled"] - both
    found: dict[str, tuple[float, float, bool]]
    if name == "default-credit":
        found = {
            "S with heads, AUC at least": (both, 0.779, both >= 0.779),
            "S with heads above H+ by at least": (both - h_plus, 0.038, both - h_plus >= 0.038),
            "S with heads below the pool by at most": (below, 0.009, below <= 0.009),
            "S, AUC at least": (mean["S with all partners"], 0.777, mean["S with all partners"] >= 0.777),
            "at 70 % coverage above H+ by at least": (
                mean[f"{HEADS} at 70 % coverage"] - h_plus,
                0.025,
                mean[f"{HEADS} at 70 % coverage"] - h_plus >= 0.025,
            ),
        }
    else:
        found = {
            "S with heads below H+ by at most": (h_plus - both, 0.001, h_plus - both <= 0.001),
            "S with heads below the pool by at most": (below, 0.010, below <= 0.010),
        }
    found["null partners that publish, at most"] = (float(null_published), 0.0, null_published == 0)
    return {
        what: {"found": round(value, 5), "wanted": wanted, "holds": holds}
        for what, (value, wanted, holds) in found.items()
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the figures as Markdown tables."""
    rows = [what for result in results for what in result["auc"]]
    lines = [
        "| test AUC | " + " | ".join(r["dataset"] for r in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for what in dict.fromkeys(rows):
        cells = [
            f"{r['auc'][what]['mean']:.4f} ± {r['auc'][what]['sd']:.4f}" if what in r["auc"] else "-"
            for r in results
        ]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    for result in results:
        for what, one in result["targets"].items():
            verdict = "holds" if one["holds"] else "DOES NOT HOLD"
            lines.append(f"{result['dataset']}: {what} {one['wanted']}: {one['found']:.4f}, {verdict}")
    return "\n".join(lines)
