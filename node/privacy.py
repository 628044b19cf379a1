"""The record of spent privacy at a party that signs releases: charged durably before a signature leaves."""

from __future__ import annotations

import json
import threading

import numpy as np
from numpy.typing import NDArray

from node.keep import Keep
from node.role import Channel
from protocol.canonical import encode
from protocol.errors import NotApproved
from protocol.job import Proposal
from protocol.partner_opening import KIND, ReleaseRoster
from protocol.release import Charge, SpentPrivacy, mu_of, noise

SHELF, NAME = "privacy", "spent"
# One for the process: two books over one keep must not lose a charge between reading and writing.
_charging = threading.Lock()


def refuse_exact(proposal: Proposal, allowed: bool) -> None:
    """Refuse a job whose releases to partners carry no noise, except where a test allows it.

    Raises:
        NotApproved: ``RELEASE_EXACT``.
    """
    terms = proposal.vertical
    if terms is not None and terms.epsilon is None and not allowed:
        raise NotApproved("RELEASE_EXACT", "this party takes part in private releases only")


def kept_noise(channel: Channel, partner: str, components: int, scale: float | None) -> NDArray[np.uint64]:
    """Return this party's noise toward a partner, drawn once per job: attempts must not be averaged.

    Args:
        channel: keeps it.
        partner: who reads the release.
        components: k.
        scale: of the discrete Gaussian, in units of the ring; None for an exact release, which has none.
    """

    def drawn() -> bytes:
        made = np.zeros(components, dtype=np.uint64) if scale is None else noise(scale, components)
        return made.tobytes()

    return np.frombuffer(channel.keep(f"noise.{partner}", drawn), dtype=np.uint64)


class PrivacyBook:
    """What has been spent toward each partner.

    Args:
        keep: where the record lies.
        limit: ε and δ that all releases to one partner may reach together; None for no limit.
    """

    def __init__(self, keep: Keep, limit: tuple[float, float] | None = None) -> None:
        self._keep, self._limit = keep, limit

    def spent(self, partner: str = "") -> SpentPrivacy:
        """Return the record, with the limit toward a partner."""
        kept = self._keep.get(SHELF, NAME)
        limit = {partner: mu_of(*self._limit)} if self._limit is not None else None
        return SpentPrivacy.from_state([] if kept is None else json.loads(kept), limit)

    def sign(self, channel: Channel, roster: ReleaseRoster, cohort: str, mu: float | None) -> bytes:
        """Charge a release, then return its roster signed by this party.

        Args:
            channel: signs.
            roster: what is signed.
            cohort: which enterprises the release is about: the data contract's digest, as all cohorts under one
                contract may overlap and therefore compose.
            mu: μ of the release; None for an exact one, which only tests know.

        Raises:
            NotApproved: ``PRIVACY_SPENT``; nothing is signed.
        """
        if mu is not None:
            with _charging:
                spent = self.spent(roster.partner)
                spent.charge(Charge(roster.partner, cohort, roster.digest, mu))
                self._keep.put(SHELF, NAME, json.dumps(spent.to_state()).encode())
        return encode(channel.sign(KIND, roster.body))
