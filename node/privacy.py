"""The record of spent privacy at a party that signs releases: charged durably before a signature leaves."""

from __future__ import annotations

import json
import threading

from node.keep import Keep
from node.role import Channel
from protocol.canonical import encode
from protocol.partner_opening import KIND, ReleaseRoster
from protocol.release import Charge, SpentPrivacy, mu_of

SHELF, NAME = "privacy", "spent"
# One for the process: two books over one keep must not lose a charge between reading and writing.
_charging = threading.Lock()


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
