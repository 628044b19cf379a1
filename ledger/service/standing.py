"""What stands on the ledger about a receivable, as this institution may rely on it, and its time line.

Grades, shares and ends are asked of the chain at a final block; the story comes from the index, which follows final
blocks only. A claim that the chain does not know is a draft, anchored or not yet.
"""

from __future__ import annotations

import json
import time
from typing import Any

import sqlalchemy as sa

from ledger.commitments import holder_ref
from ledger.dossier import Dossier
from ledger.index import folding, tables
from ledger.index.folding import ENDS, GRADES, flag_names
from ledger.service.kernel import Kernel
from ledger.service.statements import read_opening
from ledger.service.tray import Receivable, Tray
from ledger.signers import Role

LIVE_LIEN, RELEASED_LIEN = 1, 2
_STATUS = (
    *(
        "known",
        "grade",
        "flags",
        "end",
        "cap",
        "pledged",
        "free",
        "original",
        "settled",
        "transferred",
        "credited",
    ),
    *("seq", "version", "due_week", "lapse_week", "liens", "children", "aliases", "epoch"),
)


class Standing:
    """Reads chain and index for one institution."""

    def __init__(self, kernel: Kernel, tray: Tray) -> None:
        self._kernel = kernel
        self._tray = tray

    def status(self, claim: bytes) -> dict[str, Any]:
        """Return a claim's status under a final block, shares in parts per million.

        Raises:
            Unavailable: unknown.
        """
        return dict(zip(_STATUS, self._kernel.view("statusOf", claim)[0], strict=False))

    def lien(self, claim: bytes, lien: bytes) -> dict[str, Any]:
        """Return a lien's ``ppm``, ``status`` and ``holder`` under a final block."""
        ppm, status, _, holder = self._kernel.view("lienOf", claim, lien)[0]
        return {"ppm": ppm, "status": status, "holder": holder}

    def held(self, claim: bytes) -> dict[bytes, int]:
        """Return this institution's live liens on a claim, with the index of the key that holds each."""
        found = {}
        for lien, index in self._tray.holdings(claim).items():
            party = self._kernel.wallet.party(Role.BANK, index)
            stands = self.lien(claim, lien)
            mine = holder_ref(party.key_id, party.certificate.key_set)
            if stands["status"] == LIVE_LIEN and stands["holder"] == mine:
                found[lien] = index
        return found

    def anchored(self, receivable: Receivable) -> bool:
        """Return whether the draft's root stands under a final block."""
        opening = receivable.content.get("opening")
        if opening is None:
            return False
        place = read_opening(opening)
        number, _ = self._kernel.view("anchoredAt", 1, place.root, place.count, place.member)[0]
        return bool(number)

    def documents(self, receivable: Receivable) -> bytes:
        """Return the root of the documents in a receivable's dossier, recomputed."""
        return Dossier.from_json(receivable.content["dossier"]).doc_root

    def describe(self, receivable: Receivable) -> dict[str, Any]:
        """Return everything an operator wants to see of a receivable."""
        claim, status = receivable.claim, self.status(receivable.claim)
        if not status["known"]:
            state = "draft" if self.anchored(receivable) else "anchoring"
        else:
            end = ENDS[status["end"]]
            state = GRADES[status["grade"]] if end == "live" else end
        invoice = receivable.content["dossier"]["invoice"]
        return {
            "claim": claim.hex(),
            "part": receivable.part,
            "state": state,
            "grade": GRADES[status["grade"]],
            "flags": flag_names(status["flags"]),
            "shares": {name: status[name] for name in ("cap", "pledged", "free", "settled", "credited")},
            "invoice": invoice,
            "paid": receivable.paid,
            "liens": self.liens(claim),
            "timeline": self.timeline(claim),
            "created_at": receivable.created_at,
        }

    def summary(self, receivable: Receivable) -> dict[str, Any]:
        """Return a line of a list: from the index, which is a moment behind; nothing is decided by it."""
        table = tables.claims
        with self._kernel.engine.begin() as db:
            row = db.execute(sa.select(table.c.packed).where(table.c.claim == receivable.claim)).one_or_none()
        shown = {
            "claim": receivable.claim.hex(),
            "part": receivable.part,
            "invoice": receivable.content["dossier"]["invoice"],
            "created_at": receivable.created_at,
        }
        if row is None:
            state = "draft" if self.anchored(receivable) else "anchoring"
            shares = {"cap": 0, "pledged": 0, "free": 0}
            return {**shown, "state": state, "grade": "none", "flags": [], "shares": shares}
        slot = folding.Slot.of(bytes(row.packed))
        state, flags = slot.at(int(time.time()))
        free = max(slot.cap - slot.pledged, 0) if state in ("confirmed", "attested") else 0
        shares = {"cap": slot.cap, "pledged": slot.pledged, "free": free}
        return {**shown, "state": state, "grade": GRADES[slot.grade], "flags": flags, "shares": shares}

    def liens(self, claim: bytes) -> list[dict[str, Any]]:
        """Return a claim's liens from the index; ``own`` marks this institution's, nobody else is named."""
        mine = self._tray.holdings(claim)
        with self._kernel.engine.begin() as db:
            rows = db.execute(sa.select(tables.liens).where(tables.liens.c.claim == claim)).all()
        return [
            {
                "lien": bytes(row.lien).hex(),
                "ppm": row.ppm,
                "status": folding.LIENS.get(row.status, "unknown"),
                "own": bytes(row.lien) in mine,
            }
            for row in sorted(rows, key=lambda row: bytes(row.lien))
        ]

    def timeline(self, claim: bytes) -> list[dict[str, Any]]:
        """Return what happened to a claim, oldest first; from final blocks only.

        A release shows in the lien alone, so it is told from there.
        """
        told = ("State", "BodySet", "TagClaimed", "ItemResult")
        query = (
            sa.select(tables.events)
            .where(tables.events.c.claim == claim, tables.events.c.name.not_in(told))
            .order_by(tables.events.c.block, tables.events.c.position)
        )
        with self._kernel.engine.begin() as db:
            rows = db.execute(query).all()
        keep = ("ppm", "lien", "cap", "lienId", "version")
        found = []
        for row in rows:
            fields, name = json.loads(row.fields), row.name
            if name == "LienSet":
                if fields["status"] != RELEASED_LIEN:
                    continue
                name = "Released"
            shown = {field: value for field, value in fields.items() if field in keep}
            found.append({"event": name, "block": row.block, "time": row.time, "fields": shown})
        return found
