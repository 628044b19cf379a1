"""Registering a trained model: the banks' signed statements must agree; the card is made of what they say."""

from __future__ import annotations

import json
import time
from typing import Any

from coordinator.store import Store
from protocol import document
from protocol.canonical import digest
from protocol.errors import JobVoid
from protocol.identity import Directory
from protocol.job import Proposal


def register(
    store: Store,
    directory: Directory,
    proposal: Proposal,
    row: dict[str, Any],
    job: str,
    answers: dict[str, bytes],
) -> dict[str, Any]:
    """Register the model of a job and return what its result says.

    Args:
        store: the coordinator's database.
        directory: who is who.
        proposal: the job's proposal.
        row: the job's row.
        job: J.
        answers: the banks' answers at the end, by bank.

    Raises:
        JobVoid: the banks ended with different models or figures; nothing is registered.
        ProtocolError: a statement is not signed by its bank.
    """
    keys = directory.keys_by_name
    bodies, statements, figures = [], [], []
    for bank, answer in sorted(answers.items()):
        said = json.loads(answer)
        body = document.verify(said["statement"], "model", keys, [bank])
        if body["figures"] != digest("figures", said["figures"]) or body["job"] != job:
            raise JobVoid("FIGURES_DIFFER", f"the figures of {bank} are not the ones that it signed")
        bodies.append(body)
        statements.append(said["statement"])
        figures.append(said["figures"])
    if any(body["model"] != bodies[0]["model"] for body in bodies):
        raise JobVoid("MODEL_DIFFERS", "the banks did not arrive at the same model")
    shared = {name: value for name, value in figures[0].items() if name != "privacy"}
    if any({n: v for n, v in found.items() if n != "privacy"} != shared for found in figures):
        raise JobVoid("FIGURES_DIFFER", "the banks did not read the same figures")
    roster = json.loads(row["roster"])
    card = card_of(proposal, job, roster, row["attempt"], shared, [found["privacy"] for found in figures])
    version = store.register_model(job, bodies[0]["model"], card, statements)
    return {"version": version, "model": bodies[0]["model"], "job": job, "figures": shared}


def card_of(
    proposal: Proposal,
    job: str,
    banks: list[str],
    attempt: int,
    figures: dict[str, Any],
    privacy: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the card of a model: what it is, of whose data, made how, how good, how private.

    With data partners the card also states who took part, and whether the model may be promoted: only if it separates
    better than the banks' own score after equally many rounds, beyond chance. One that doesn't is registered all the
    same, so that it is known what was tried.
    """
    card = {
        "name": "shared risk model" if figures.get("serving") == "s" else "shared bank score",
        "title": proposal.title,
        "purpose": proposal.purpose,
        "job": job,
        "proposal": proposal.digest,
        "contract": proposal.contract,
        "code": proposal.code,
        "banks": banks,
        "dropped": sorted(set(proposal.banks) - set(banks)),
        "attempts": attempt + 1,
        "recipe": (proposal.dp_recipe if proposal.release.kind == "dp" else proposal.recipe).body,
        "release": proposal.release.body,
        "privacy": privacy,
        "holdout": proposal.holdout,
        "seed": proposal.seed,
        "figures": figures,
        "promotable": bool(figures.get("promotable", True)),
        "made_at": int(time.time()),
    }
    if proposal.vertical is not None:
        card |= {
            "vertical": proposal.vertical.body,
            "partners": figures.get("partners", []),
            "comparison": figures.get("comparison"),
        }
    return card
