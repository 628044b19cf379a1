"""Consent codes of a demonstration: issued for every client of every bank, by each partner that lists it.

In production an enterprise fetches its code from the partner and gives it to its bank (docs/handbook/node.md). Here the
manifest's ``[consents]`` says which share of enterprises never consents and which withdraws; who that is follows from a
hash of the id, so that a simulation and a deployment agree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from node.consents import BANK_FIELDS, GIVEN, PARTNER_FIELDS, WITHDRAWN
from protocol.canonical import lp
from protocol.voprf import CONSENT_BYTES


@dataclass(frozen=True)
class Consents:
    """All codes of a data directory.

    Attributes:
        clients: ids by bank.
        listed: ids by partner.
        refused: share of (enterprise, bank, partner) without consent.
        withdrawn: share whose consent was given and withdrawn.
    """

    clients: Mapping[str, frozenset[str]]
    listed: Mapping[str, frozenset[str]]
    refused: float
    withdrawn: float

    def of_bank(self, bank: str) -> dict[str, dict[str, bytes]]:
        """Return the codes that a bank holds, by partner and id; withdrawn ones are among them."""
        return {
            partner: {one: code for one, code, _ in self._issued(bank, partner)} for partner in self.listed
        }

    def of_partner(self, partner: str) -> dict[str, dict[str, bytes | None]]:
        """Return the codes that a partner has issued, by bank and id; None where they were withdrawn."""
        return {
            bank: {one: None if gone else code for one, code, gone in self._issued(bank, partner)}
            for bank in self.clients
        }

    def write(self, party: str, path: Path) -> None:
        """Write a party's own file (``node.consents``)."""
        if party in self.clients:
            rows: Iterable[tuple[str, ...]] = (
                (one, partner, code.hex())
                for partner in sorted(self.listed)
                for one, code, _ in self._issued(party, partner)
            )
            fields: tuple[str, ...] = BANK_FIELDS
        else:
            rows = (
                (one, bank, code.hex(), WITHDRAWN if gone else GIVEN)
                for bank in sorted(self.clients)
                for one, code, gone in self._issued(bank, party)
            )
            fields = PARTNER_FIELDS
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(fields)
            writer.writerows(rows)

    def _issued(self, bank: str, partner: str) -> Iterable[tuple[str, bytes, bool]]:
        for one in sorted(self.clients[bank] & self.listed[partner]):
            drawn = sha256(lp("concordat/v1", "demonstration consent", bank, partner, one)).digest()
            place = int.from_bytes(drawn[:8], "big") / 2.0**64
            if place >= self.refused:
                yield one, drawn[-CONSENT_BYTES:], place < self.refused + self.withdrawn
