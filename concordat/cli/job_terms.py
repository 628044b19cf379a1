"""What a proposal means for an institution, in plain words. Free of input and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.job import Proposal

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Leaving:
    """One kind of bytes that would leave a node.

    Attributes:
        what: the class of data.
        to: who receives it.
        times: how often at most in one attempt.
        readable: who can read what from it.
    """

    what: str
    to: str
    times: str
    readable: str


def terms(proposal: Proposal) -> list[tuple[str, str]]:
    """Return a proposal's terms, name and value."""
    recipe = proposal.dp_recipe if proposal.release.kind == "dp" else proposal.recipe
    seed = "secret, drawn anew" if proposal.seed is None else f"stated ({proposal.seed}): reproducible by all"
    return [
        ("banks", ", ".join(proposal.banks)),
        ("other parties", ", ".join(proposal.witnesses) or "none"),
        ("release", release_words(proposal)),
        ("rounds", f"{recipe.rounds}, hidden layers {' x '.join(map(str, recipe.hidden))}"),
        ("hold-out", f"{proposal.holdout:.0%} of the rows"),
        ("least rows", f"{proposal.min_rows:,}"),
        ("seed", seed),
    ]


def release_words(proposal: Proposal) -> str:
    """Return what privacy the trained model itself is released under."""
    release = proposal.release
    if release.kind == "none":
        return "none: masked in training, but the finished model carries no privacy guarantee"
    most = release.memberships or len(proposal.banks)
    return (
        f"dp: epsilon {release.epsilon:g}, delta {release.delta:g} per enterprise,"
        f" which at most {most} banks hold"
    )


def leaving(proposal: Proposal, party: str, role: str) -> list[Leaving]:
    """Return what would leave the node of a party if it takes part.

    Args:
        proposal: the job.
        party: the node's name.
        role: the node's role.
    """
    found = [
        Leaving("decision", COORDINATOR, "once", "the coordinator: who decided, and why"),
        Leaving("keys and commitment", COORDINATOR, "once", "all parties: public keys, a salted digest"),
    ]
    if role != "bank" or party not in proposal.banks:
        return [
            *found,
            Leaving("digest, figures", COORDINATOR, "once each", "the coordinator: that it is done"),
        ]
    private = proposal.release.kind == "dp"
    rounds = (proposal.dp_recipe if private else proposal.recipe).rounds
    sums = "2 for the encoding, " + ("1 for the figures" if private else "2 for the figures")
    update = "nobody alone; the banks read the sum over all of them"
    if private:
        update += ", with noise"
    return [
        *found,
        Leaving("signature", COORDINATOR, "once", "all banks: that it signed the roster"),
        Leaving("sealed key", "other banks", "once, by the first bank", "the bank that it is sealed for"),
        Leaving("masked sum", COORDINATOR, sums, "nobody alone; the banks read the sum over all of them"),
        Leaving("digest", COORDINATOR, "once", "the coordinator: a digest of the common encoding"),
        Leaving("masked update", COORDINATOR, f"{rounds}, one a round", update),
        Leaving("figures", COORDINATOR, "once", "the coordinator: AUC, KS and calibration over all banks"),
    ]
