"""This project on the task, and what boosted trees reach where nothing is protected."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightgbm
import pandas as pd
from sklearn.metrics import roc_auc_score

from bank_node.risk_model import H_PLUS, S_HEAD, H, S
from benchmarks.baselines import SETTINGS, TREES
from benchmarks.peers.task import SEED, Task
from concordat.demo import Options, run

REVEALS = (
    "to a bank: which of its own ids a partner lists, bins of consenting clients, the shared networks; to a partner:"
    " one direction of noisy sums (epsilon 1); to T: rounded sizes; no row, label, score or gradient to anybody"
)
SHOWN = {
    H: "H, bank columns only",
    H_PLUS: "H+, the same with the rounds of S",
    S: "S, with partners",
    S_HEAD: "S with each bank's own head",
}


def measure(task: Task, work: Path, deployed: bool) -> list[dict[str, Any]]:
    """Return this project's lines and the reference of pooled rows."""
    out = run(Options(directory=work / "ours", data=task.directory, seed=SEED, simulated=not deployed))
    models = out["figures"]["models"]
    how = "three banks, two partners, T; " + ("real processes" if deployed else "one process")
    if out["figures"]["holdout_rows"] != task.holdout:
        raise SystemExit("the job has held out other rows than the peers")
    lines: list[dict[str, Any]] = [
        {
            "who": f"Concordat, {SHOWN[name]}; {how}",
            "seconds": out["seconds"]["job"],
            "auc": models[name]["auc"],
            "from": "masked histogram of 64 cells",
            "steps": out["steps"],
            "partners": out["figures"]["partners"],
            "start_up_seconds": out["seconds"]["start_up"],
            "reveals": REVEALS,
        }
        for name in SHOWN
        if name in models
    ]
    if S not in models:
        # The noise of a release doesn't shrink with the rows: at a thousand of them a partner's gate stays shut.
        why = "the partners published nothing: too few rows for epsilon 1"
        lines.append({"who": f"Concordat, {SHOWN[S]}; {how}", "failed": why})
    return [*lines, pooled(task)]


def pooled(task: Task) -> dict[str, Any]:
    """Return boosted trees on everybody's rows and columns in one place."""
    began = time.monotonic()
    train = (task.bank["test"] == 0).to_numpy()
    names = [name for name in task.bank.columns if name.startswith("x")]
    theirs = task.partner.filter(regex="^x").add_prefix("partner ")
    frame = pd.concat([task.bank[names], theirs], axis=1)
    data = lightgbm.Dataset(frame[train], label=task.bank["y"][train].to_numpy())
    model = lightgbm.train(SETTINGS, data, num_boost_round=TREES)
    return {
        "who": "LightGBM, everything in one place",
        "seconds": time.monotonic() - began,
        "auc": float(roc_auc_score(task.outcome, model.predict(frame[~train]))),
        "reveals": "every row and label to whoever computes it",
    }
