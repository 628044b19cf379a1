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
        *joint_words(proposal),
        ("rounds", f"{proposal.rounds}, hidden layers {' x '.join(map(str, recipe.hidden))}"),
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


def joint_words(proposal: Proposal) -> list[tuple[str, str]]:
    """Return the terms of the joint stages; nothing for a job without partners."""
    vertical = proposal.vertical
    if vertical is None:
        return []
    private = (
        "EXACT, without noise: for tests only"
        if vertical.epsilon is None
        else f"epsilon {vertical.epsilon:g}, delta {vertical.delta:g} per enterprise and partner"
    )
    consent = "only with an enterprise's consent code" if vertical.consent else "without consent codes"
    return [
        ("data partners", f"{', '.join(vertical.partners)}; sums by {vertical.compute}"),
        ("release to each partner", private),
        ("sub-scores", f"{consent}, epoch {vertical.epoch}"),
    ]


def _joint(proposal: Proposal, party: str) -> list[Leaving]:
    """Return what the joint stages would let leave a node."""
    vertical = proposal.vertical
    if vertical is None:
        return []
    each = "once a partner" if len(vertical.partners) > 1 else "once"
    if party in proposal.banks:
        noise = "" if vertical.epsilon is None else f", with noise of epsilon {vertical.epsilon:g}"
        return [
            Leaving(
                "blinded points",
                "each partner",
                f"new ids, twice {each}",
                "nobody; the partner counts them, rounded",
            ),
            Leaving(
                "masked product",
                vertical.compute,
                each,
                "nobody; as long as the partner's table, whoever is a client",
            ),
            Leaving(
                "masked sum",
                "each partner",
                each,
                f"nobody alone; the partner reads the sum over all banks{noise}",
            ),
            Leaving("sealed key", "each partner", each, "the partner that it is sealed for"),
            Leaving("signature", vertical.compute, each, "all: that it signed and charged the release"),
        ]
    if party in vertical.partners:
        return [
            Leaving("state", "banks, compute party", "once", "each: whether the release was read before"),
            Leaving(
                "evaluated points", "each bank", "as often as asked", "the bank, for ids that it asked for"
            ),
            Leaving(
                "masked table",
                "each bank",
                "twice",
                "the bank: which of its own ids are listed, and their bins",
            ),
            Leaving("sealed key", "banks, compute party", "once each", "the party that it is sealed for"),
            Leaving("signature", "each bank", "once", "the bank: the root of the published table"),
        ]
    if party == vertical.compute:
        return [
            Leaving(
                "masked sum", "each partner", "once", "nobody alone; it completes the sum over all banks"
            ),
        ]
    return []


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
            *_joint(proposal, party),
            Leaving("digest, figures", COORDINATOR, "once each", "the coordinator: that it is done"),
        ]
    private, rounds = proposal.release.kind == "dp", proposal.rounds
    figures = 1 if private else 2 if proposal.vertical is None else 3
    sums = f"2 for the encoding, {figures} for the figures"
    update = "nobody alone; the banks read the sum over all of them"
    if private:
        update += ", with noise"
    return [
        *found,
        Leaving("signature", COORDINATOR, "once", "all banks: that it signed the roster"),
        Leaving("sealed key", "other banks", "once, by the first bank", "the bank that it is sealed for"),
        Leaving("masked sum", COORDINATOR, sums, "nobody alone; the banks read the sum over all of them"),
        *_joint(proposal, party),
        Leaving("digest", COORDINATOR, "once", "the coordinator: a digest of the common encoding"),
        Leaving("masked update", COORDINATOR, f"{rounds}, one a round", update),
        Leaving("figures", COORDINATOR, "once", "the coordinator: AUC, KS and calibration over all banks"),
    ]
