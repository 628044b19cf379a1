"""What a job with partners came to: who published, what was spent, whom the partners cover.

Sizes are the manifest's, spending that of the signers' own records. Coverage is the demo's alone: it holds all tables,
which nobody does in real life, where a bank knows its own and the card states it to a hundredth over all banks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from concordat.account import Entries, points_asked
from concordat.consents import Consents
from node.ingest import Table
from node.keep import Keep
from node.privacy import PrivacyBook
from protocol import vertical
from protocol.job import Manifest, Vertical
from protocol.release import epsilon_of

PURPOSES = (vertical.TRAINING, vertical.SERVING)


def partners_of(
    manifest: Manifest,
    terms: Vertical,
    told: Mapping[str, Mapping[str, Any]],
    used: Iterable[str],
    egress: Mapping[str, Entries],
) -> dict[str, dict[str, Any]]:
    """Return what each partner brought, in the order of the proposal.

    Args:
        manifest: of the job.
        terms: its stages with partners.
        told: what partners and T told the coordinator at the end of their stages; a silent one is missing.
        used: partners whose sub-scores the shared risk model takes.
        egress: what left each node for this job.

    Returns:
        By partner: ``published`` (by its own word), ``used``, ``released`` (T gave its share), ``slots`` and
        ``components`` of its table, ``asked`` (padded number of ids, by bank and purpose), ``seconds`` of its parts.
    """
    given = set(told.get(terms.compute, {}).get("given", []))
    used = set(used)
    found: dict[str, dict[str, Any]] = {}
    for partner in terms.partners:
        stated = vertical.terms_of(manifest, partner)
        said = told.get(partner, {})
        found[partner] = {
            "published": bool(said.get("published", False)),
            "used": partner in used,
            "released": partner in given,
            "slots": stated.slots,
            "components": stated.components,
            "asked": {
                bank: {purpose: points_asked(egress[bank], partner, purpose) for purpose in PURPOSES}
                for bank in manifest.proposal.banks
                if bank in egress
            },
            "seconds": {name: float(taken) for name, taken in said.get("seconds", {}).items()},
        }
    return found


def spent_of(
    manifest: Manifest, terms: Vertical, released: Iterable[str], keeps: Iterable[Keep]
) -> dict[str, dict[str, Any]]:
    """Return the privacy that the job's release to each partner costs, and what all releases to it cost together.

    Args:
        manifest: of the job.
        terms: its stages with partners.
        released: partners toward which T gave its share.
        keeps: of the parties that sign releases; the largest of their records counts.

    Returns:
        By partner: ``epsilon``, ``delta``, ``mu``, ``memberships``, ``sigma`` (the noise of T, and of the banks
        together), ``noise`` (both, as the partner meets it), ``released``; ``releases``, ``total_mu`` and
        ``total_epsilon`` of all signed releases. Numbers of an exact release are None.
    """
    records = [PrivacyBook(keep).spent() for keep in keeps]
    banks, released = len(manifest.proposal.banks), set(released)
    found: dict[str, dict[str, Any]] = {}
    for partner in terms.partners:
        private = vertical.release_of(terms, banks, vertical.terms_of(manifest, partner).components)
        total = max((record.spent(partner) for record in records), default=0.0)
        counts = [sum(c.partner == partner for c in record.charges) for record in records]
        found[partner] = {
            "epsilon": terms.epsilon,
            "delta": None if private is None else terms.delta,
            "mu": None if private is None else private.mu,
            "memberships": terms.memberships or banks,
            "sigma": None if private is None else private.sigma,
            "noise": None if private is None else math.sqrt(2.0) * private.sigma,
            "released": partner in released,
            "releases": max(counts, default=0),
            "total_mu": total,
            "total_epsilon": epsilon_of(total, terms.delta),
        }
    return found


def coverage_of(
    tables: Mapping[str, Table], partners: Mapping[str, Table], consents: Consents | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return which share of each bank's clients each partner lists, and of which share it may publish bins.

    Args:
        tables: the banks' tables, by bank.
        partners: the partners' tables, by partner.
        consents: the consent codes, None where the job demands none.

    Returns:
        By partner and bank: ``clients``, ``listed`` and ``consented`` (listed, with a code that wasn't withdrawn) as
        shares of the clients, ``bins`` the number of the latter.
    """
    codes = {} if consents is None else {partner: consents.of_partner(partner) for partner in partners}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for partner, listing in partners.items():
        listed_ids = set(listing.frame.index)
        found[partner] = {}
        for bank, table in tables.items():
            listed = listed_ids.intersection(table.frame.index)
            open_ = listed
            if consents is not None:
                issued = codes[partner].get(bank, {})
                open_ = {one for one in listed if issued.get(one) is not None}
            found[partner][bank] = {
                "clients": table.rows,
                "listed": len(listed) / table.rows if table.rows else 0.0,
                "consented": len(open_) / table.rows if table.rows else 0.0,
                "bins": len(open_),
            }
    return found
