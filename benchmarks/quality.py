"""How good the shared bank score is: ``python -m benchmarks.quality --data DIR``.

For every data set and stated seed (``datasets``): 70 / 30, training rows split over three banks, the banks' steps
in the order of a job (knots, centring, five rounds), every sum in the fixed-point ring, added up in the open here
because masks cancel to the bit. Beside it boosted trees (``baselines``) on one bank's third, as a mean over the
banks, and on all banks' own columns pooled. AUC of the test rows, mean and standard deviation over seeds.

With ``--dp EPSILON`` also the score under DP-SGD at that total (delta 1e-5; rows of the banks are disjoint here, so
that an enterprise stands at one bank). Batches, dropout and initialisations come from stated seeds; noise of the
private run does too, here and nowhere else, so that a figure can be had again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bank_node import encoding as enc
from bank_node import scoring, training
from bank_node.privacy import DpTrainer
from benchmarks import baselines, datasets
from benchmarks.in_the_open import bank_inputs, encoding_of, summed
from protocol.job import DpRecipe, Recipe, Release

DELTA = 1e-5
RECIPE = Recipe()
DP_RECIPE = DpRecipe()
# What must hold: above a bank's third by at least, below the pool by at most, private below the score by at most.
REQUIRED = {"default-credit": (0.008, 0.004, 0.015), "sba-wide": (0.002, 0.010, 0.015)}


def shared_score(
    columns: enc.Columns, split: datasets.Split, epsilon: float | None = None
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Train the shared score over the split's banks.

    Args:
        columns: the banks' own columns.
        split: the banks' rows and the test's.
        epsilon: total of a private release; none without.

    Returns:
        The PD of the test rows, shape [n], and what the run took.
    """
    recipe: Recipe | DpRecipe = RECIPE if epsilon is None else DP_RECIPE
    started = time.process_time()
    encoding = encoding_of(columns, split, recipe.bins)
    trainers: list[training.LocalTrainer | DpTrainer] = []
    for inputs in bank_inputs(encoding, split):
        if isinstance(recipe, Recipe):
            trainers.append(training.LocalTrainer(recipe, *inputs))
        else:
            release = Release(kind="dp", epsilon=epsilon, delta=DELTA)
            trainers.append(DpTrainer(recipe, *inputs, release, memberships=1))
    weights = trainers[0].initial()
    passes = []
    for round_ in range(1, recipe.rounds + 1):
        updates = []
        for trainer in trainers:
            before = time.process_time()
            updates.append(training.update_vector(trainer.local_pass(weights, round_), trainer.rows))
            passes.append(time.process_time() - before)
        total = summed(updates, training.FRACTION_BITS, training.UPDATE_LIMIT)
        weights = training.weights_from(total, trainers[0].shape.networks)
    took: dict[str, Any] = {
        "cpu_seconds": round(time.process_time() - started, 2),
        "cpu_seconds_a_pass": round(float(np.median(passes)), 3),
        "inputs": encoding.width,
        "parameters": trainers[0].shape.parameters,
    }
    spent = [trainer.epsilon(DELTA) for trainer in trainers if isinstance(trainer, DpTrainer)]
    if spent:
        took["epsilon"] = round(max(spent), 3)
    return scoring.predict(encoding, weights, split.test, recipe), took


def measure(name: str, folder: Path, seeds: Sequence[int], epsilon: float | None) -> dict[str, Any]:
    """Return one data set's figures."""
    dataset = datasets.load(name, folder)
    figures: dict[str, list[float]] = {}
    took: dict[str, Any] = {}
    mean_pd: list[float] = []
    for seed in seeds:
        split = datasets.split(dataset, seed)
        outcome = split.test["outcome"].to_numpy()

        def note(
            what: str,
            pd: Sequence[NDArray[np.float64]],
            outcome: NDArray[np.int64] = outcome,
            seed: int = seed,
        ) -> None:
            area = float(np.mean([roc_auc_score(outcome, one) for one in pd]))
            figures.setdefault(what, []).append(area)
            print(f"{name} seed {seed} {what}: {area:.4f}", file=sys.stderr, flush=True)

        score, took["shared"] = shared_score(dataset.columns, split)
        mean_pd.append(float(score.mean() - outcome.mean()))
        note("shared", [score])
        if epsilon is not None:
            private, took["private"] = shared_score(dataset.columns, split, epsilon)
            note("private", [private])
        note("single", [baselines.boosted_trees(dataset.columns, own, split.test) for own in split.banks])
        note("single_tuned", [baselines.tuned_trees(dataset.columns, own, split.test) for own in split.banks])
        note("pooled", [baselines.boosted_trees(dataset.columns, split.pooled, split.test)])
        note("pooled_tuned", [baselines.tuned_trees(dataset.columns, split.pooled, split.test)])
    auc = {
        what: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, "seeds": v}
        for what, v in figures.items()
    }
    mean = {what: float(np.mean(areas)) for what, areas in figures.items()}
    gaps = {
        "above_single": mean["shared"] - mean["single"],
        "above_single_tuned": mean["shared"] - mean["single_tuned"],
        "below_pooled": mean["pooled"] - mean["shared"],
        "below_pooled_tuned": mean["pooled_tuned"] - mean["shared"],
        "mean_pd_less_rate": float(np.mean(mean_pd)),
    }
    if "private" in mean:
        gaps["private_below_shared"] = mean["shared"] - mean["private"]
    result: dict[str, Any] = {"dataset": name, "seeds": list(seeds), "auc": auc, "gaps": gaps, "took": took}
    if name in REQUIRED:
        above, below, private_below = REQUIRED[name]
        result["holds"] = {
            f"above a bank's third by {above}": gaps["above_single"] >= above,
            f"within {below} of the pool": gaps["below_pooled"] <= below,
        }
        if "private_below_shared" in gaps:
            result["holds"][f"private within {private_below}"] = gaps["private_below_shared"] <= private_below
    return result


def table(results: Sequence[dict[str, Any]], epsilon: float | None) -> str:
    """Return the figures as a Markdown table."""
    names = {
        "single": "LightGBM, one bank's third",
        "single_tuned": "the same, trees by its own cross-validation",
        "pooled": "LightGBM, all banks' own columns pooled",
        "pooled_tuned": "the same, trees by its own cross-validation",
        "shared": "shared score",
        "private": f"shared score, DP-SGD, epsilon = {epsilon}",
    }
    lines = [
        "| test AUC | " + " | ".join(r["dataset"] for r in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for what, title in names.items():
        if any(what in r["auc"] for r in results):
            cells = (f"{r['auc'][what]['mean']:.4f} ± {r['auc'][what]['sd']:.4f}" for r in results)
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_partners(options: argparse.Namespace) -> int:
    """Run the partners' part of the benchmark; returns 1 if a target does not hold."""
    from benchmarks import partners

    privacy = partners.Privacy(options.epsilon, options.memberships)
    results = [
        partners.measure(name, options.data, range(options.seeds), privacy)
        for name in options.dataset or partners.NAMES
        if name in partners.NAMES
    ]
    settings = {"recipe": RECIPE.body, "shared": partners.SHARED.body}
    print(
        json.dumps({"results": results, "settings": settings}, indent=1)
        if options.json
        else partners.table(results)
    )
    return 0 if all(one["holds"] for result in results for one in result["targets"].values()) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a required gap does not hold."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument(
        "--dataset", choices=datasets.NAMES, action="append", help="one or more; default: all"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, … (default 3)")
    parser.add_argument("--dp", type=float, metavar="EPSILON", help="also under DP-SGD at this total")
    parser.add_argument(
        "--partners", action="store_true", help="what data partners bring (benchmarks.partners)"
    )
    parser.add_argument(
        "--epsilon", type=float, default=1.0, help="with --partners: of each release (default 1)"
    )
    parser.add_argument(
        "--memberships", type=int, default=datasets.BANKS, help="with --partners: banks per enterprise"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.partners:
        return with_partners(options)
    results = [
        measure(name, options.data, range(options.seeds), options.dp)
        for name in options.dataset or datasets.NAMES
    ]
    if options.json:
        recipes = {"recipe": RECIPE.body, "dp_recipe": DP_RECIPE.body, "lightgbm": baselines.SETTINGS}
        print(json.dumps({"results": results, "settings": recipes}, indent=1))
    else:
        print(table(results, options.dp))
        for result in results:
            for what, held in result.get("holds", {}).items():
                print(f"{result['dataset']}: {what}: {'holds' if held else 'DOES NOT HOLD'}")
    return 0 if all(all(result.get("holds", {}).values()) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
