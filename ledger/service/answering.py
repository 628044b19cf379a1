"""The other half of every request: what a peer may send, and how this institution signs last and submits.

Invariants:
    - Nothing is signed that was not recomputed: terms, documents and tags from the dossier, the draft from its opening,
      the first signature against the key that the statement names. A bank derives the tags itself.
    - A key that was named to a peer for a purpose signs for that purpose only, and once.
    - Accepting twice changes nothing: the call's idempotency key is the request's id.
    - A request says nothing about who else holds liens.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from ledger.commitments import ZERO, Body, Ticket, tags_hash
from ledger.dossier import Dossier
from ledger.eip712 import Intent
from ledger.intents import (
    AttestIntent,
    ConfirmIntent,
    PledgeConsent,
    PledgeIntent,
    SettleFreeIntent,
    SettleLienIntent,
    TransferIntent,
)
from ledger.mandates import CancelIntent
from ledger.service import statements
from ledger.service.anchoring import TICKETS
from ledger.service.desk import PROOF_SECONDS, Desk, until
from ledger.service.statements import malformed
from ledger.service.tray import DECLINED, IN, OPEN, SENT, Receivable, Request
from ledger.signers import Party, Role, SignerTuple, holder_auth
from protocol.canonical import lp
from protocol.errors import LedgerError, NotApproved, ProtocolError

_ROLE = {"confirm": Role.OBLIGOR, "attest": Role.BANK, "pledge": Role.BANK}
KINDS: dict[str, type[Intent]] = {
    "confirm": ConfirmIntent,
    "attest": AttestIntent,
    "pledge": PledgeConsent,
    "transfer": TransferIntent,
    "settle-lien": SettleLienIntent,
    "settle-free": SettleFreeIntent,
}
"""The statement of each kind of request."""

MAX_OPEN = 10_000
"""Open requests that a tray holds; beyond that peers are told to wait."""

MAX_INTRODUCTIONS = 1_000
"""New keys that are named to one peer in a day."""


class Answering:
    """Takes requests in, and accepts or declines them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kernel = desk.kernel
        self._tray = desk.tray
        self._drawn: dict[tuple[str, int], int] = {}

    # -- what peers ask -------------------------------------------------------------------------------------

    def introduce(self, peer: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Name the key that will sign for this institution, so that the peer can sign for it first.

        Which lien a payment goes to is told to the obligor only, who proves that it is: anybody else would learn
        which bank holds it.

        Raises:
            NotApproved: ``ROLE_MISSING``.
            LedgerError: ``LIEN_UNCLEAR`` where a payment could go to several liens.
            ProtocolError: ``REQUEST_MALFORMED``.
            SignatureInvalid: ``REQUEST_SIGNATURE``, it does not come from the obligor.
        """
        kind, claim = str(body.get("kind")), statements.word(body.get("claim"), "claim")
        if kind == "settle":
            self._check_obligor(claim, body)
            return self._payee(claim)
        role = self._role(kind)
        purpose = purpose_of(peer, kind, claim)
        known = self._tray.given(purpose)
        if known is None:
            self._count(peer)
            index = self._kernel.wallet.fresh(role)
            content = self._ticket(index) if kind == "attest" else {}
            self._tray.give(purpose, int(role), index, content)
            known = (index, content)
        index, content = known
        key = self._kernel.wallet.party(role, index).certificate.key
        shown = {"ticket": content["ticket"]} if content else {}
        return {"key": key.hex(), "role": int(role), **shown}

    def _count(self, peer: str) -> None:
        """Bound how many certified keys a peer can use up in a day."""
        day = (peer, int(time.time()) // 86_400)
        self._drawn[day] = self._drawn.get(day, 0) + 1
        if self._drawn[day] > MAX_INTRODUCTIONS:
            raise LedgerError("INTRODUCTIONS", "This institution was asked for too many keys today.")

    def _role(self, kind: str) -> Role:
        if kind == "transfer":
            role = Role.SUPPLIER if self._kernel.plays(Role.SUPPLIER) else Role.BANK
        elif kind in _ROLE:
            role = _ROLE[kind]
        else:
            raise malformed("kind")
        if not self._kernel.plays(role):
            raise NotApproved("ROLE_MISSING", "This institution does not act in that role.")
        return role

    def _check_obligor(self, claim: bytes, body: Mapping[str, Any]) -> None:
        proof = statements.read_statement(CancelIntent, body.get("statement"))
        signed = statements.read_signer(body.get("signature"))
        salt = statements.word(body.get("salt"), "salt")
        now = int(time.time())
        if proof.cancelled != statements.payee_nonce(claim, self._kernel.name, salt):
            raise malformed("proof")
        if not now <= proof.not_after <= now + 2 * PROOF_SECONDS:
            raise malformed("time")
        named = self._kernel.body(claim).obligor
        statements.check_signed(self._kernel.where.domain, proof, signed, named)

    def _payee(self, claim: bytes) -> dict[str, Any]:
        held = self._desk.standing.held(claim)
        if len(held) > 1:
            raise LedgerError("LIEN_UNCLEAR", "Several liens of this institution could be paid here.")
        return {"lien": next(iter(held)).hex()} if held else {"owner": True}

    def _ticket(self, index: int) -> dict[str, Any]:
        """Draw a ticket bound to the key that will attest, and anchor it; later it leads to this bank."""
        bank = self._kernel.wallet.party(Role.BANK, index)
        ticket = Ticket(secrets.token_bytes(32), bank.key_id, secrets.token_bytes(32))
        opening = self._desk.anchoring.anchored(ticket.leaf(), ticket.salt, TICKETS)
        return {"ticket": ticket.ticket.hex(), "opening": statements.opening_json(opening)}

    def take(self, peer: str, message: Mapping[str, Any]) -> Request:
        """Put a peer's request into the tray; the same one again changes nothing.

        Raises:
            ProtocolError: ``REQUEST_MALFORMED``.
            LedgerError: ``TRAY_FULL``.
        """
        name, kind, content = message.get("id"), message.get("kind"), message.get("content")
        if not isinstance(name, str) or len(name) != 32 or kind not in KINDS or not isinstance(content, dict):
            raise malformed("request")
        claim = statements.word(message.get("claim"), "claim")
        _check_content(kind, content)
        if self._tray.waiting() >= MAX_OPEN:
            raise LedgerError("TRAY_FULL", "Too many requests wait here.", "Ask again later.")
        request = self._tray.add(IN, peer, kind, claim, content, id_=name)
        if (request.peer, request.kind, request.claim) != (peer, kind, claim):
            raise malformed("id")
        return request

    # -- what the desk decides ------------------------------------------------------------------------------

    def decline(self, name: str) -> Request:
        """Say no to a request."""
        request = self._incoming(name)
        if request.state == OPEN:
            self._tray.step(name, DECLINED, "DECLINED")
        return self._tray.request(name)

    def accept(self, name: str, ppm: int | None = None) -> Request:
        """Check a request, sign it last, and submit.

        Args:
            name: the request's id.
            ppm: for a pledge, the share that the bank takes; the whole consent if None.

        Raises:
            LedgerError: it is no longer open, or what it says is not so.
            ProtocolError: it is malformed.
            SignatureInvalid: the peer did not sign it.
            Unavailable: chain or keeper do not answer; nothing was signed.
        """
        request = self._incoming(name)
        if request.state != OPEN:
            return request
        if self._kernel.sent(name):  # signed and durable before this process stopped: nothing is signed anew
            self._tray.step(name, SENT)
            return self._tray.request(name)
        acts: dict[str, Callable[[Request], None]] = {
            "confirm": self._confirm,
            "attest": self._attest,
            "pledge": lambda asked: self._pledge(asked, ppm),
            "transfer": self._transfer,
            "settle-lien": self._settle_lien,
            "settle-free": self._settle_free,
        }
        acts[request.kind](request)
        self._tray.step(name, SENT)
        return self._tray.request(name)

    def _incoming(self, name: str) -> Request:
        request = self._tray.request(name)
        if request.direction != IN or request.kind not in KINDS:
            raise LedgerError("REQUEST_NOT_OURS", "It is not for this institution to answer this request.")
        return request

    def _confirm(self, request: Request) -> None:
        intent = statements.read_statement(ConfirmIntent, request.content.get("statement"))
        dossier, opening, sets, owner = self._opened(request, intent, intent.claim_id)
        body = (intent.terms_hash, intent.doc_root, intent.tags_hash, intent.contract_tag, intent.due_week)
        self._same(body, (dossier, sets))
        index, obligor = self._own(request, Role.OBLIGOR, intent.counterparty)
        signed = obligor.sign(self._kernel.where.domain, intent)
        self._desk.refuse_duplicate(sets, request.claim)
        self._keep(request, "obligor", dossier, Role.OBLIGOR, index)
        self._kernel.submit(request.id, "confirm", intent, owner, signed, opening, sets)

    def _attest(self, request: Request) -> None:
        intent = statements.read_statement(AttestIntent, request.content.get("statement"))
        dossier, opening, sets, owner = self._opened(request, intent, intent.claim_id)
        body = (intent.terms_hash, intent.doc_root, intent.tags_hash, intent.contract_tag, intent.due_week)
        self._same(body, (dossier, sets))
        index, bank, promised = self._promised(request, Role.BANK, intent.counterparty)
        if promised["ticket"] != intent.ticket.hex() or intent.custodian != ZERO:
            raise malformed("ticket")
        ticket = statements.read_opening(promised["opening"])
        signed = bank.sign(self._kernel.where.domain, intent)
        self._desk.refuse_duplicate(sets, request.claim)
        lien = self._kernel.where.domain.digest(intent.struct_hash())
        self._tray.hold(lien, request.claim, index)
        self._keep(request, "bank", dossier, Role.BANK, index)
        self._kernel.submit(request.id, "attest", intent, owner, signed, opening, ticket, sets)

    def _pledge(self, request: Request, ppm: int | None) -> None:
        consent = statements.read_statement(PledgeConsent, request.content.get("statement"))
        dossier = Dossier.from_json(request.content.get("dossier"))
        body = self._kernel.body(request.claim)
        signed_by = statements.read_signer(request.content.get("signature"))
        statements.check_signed(self._kernel.where.domain, consent, signed_by, body.owner)
        if consent.claim_id != request.claim:
            raise malformed("claim")
        self._matches(dossier, body)
        index, bank = self._own(request, Role.BANK, consent.holder)
        sets = self._desk.tags(dossier.invoice)
        lien = self._kernel.where.domain.digest(consent.struct_hash())
        taken = consent.max_ppm if ppm is None else ppm
        intent = PledgeIntent(request.claim, lien, taken, tags_hash(sets), until())
        signed = bank.sign(self._kernel.where.domain, intent)
        self._tray.hold(lien, request.claim, index)
        self._keep(request, "bank", dossier, Role.BANK, index)
        self._kernel.submit(request.id, "pledge", consent, intent, signed_by, signed, body, sets)

    def _transfer(self, request: Request) -> None:
        intent = statements.read_statement(TransferIntent, request.content.get("statement"))
        dossier = Dossier.from_json(request.content.get("dossier"))
        body, owner = self._first(request, intent, intent.claim_id, lambda body: body.owner)
        self._matches(dossier, body)
        role = self._role("transfer")
        index, assignee = self._own(request, role, intent.counterparty)
        signed = assignee.sign(self._kernel.where.domain, intent)
        self._keep(request, "owner", dossier, role, index)
        self._kernel.submit(request.id, "transfer", intent, owner, signed, [], body)

    def _settle_lien(self, request: Request) -> None:
        intent = statements.read_statement(SettleLienIntent, request.content.get("statement"))
        body, payer = self._first(request, intent, intent.claim_id, lambda body: body.obligor)
        held = self._desk.standing.held(request.claim)
        if intent.lien_id not in held:
            raise LedgerError("LIEN_NONE", "This institution has no such live lien.")
        bank = self._kernel.wallet.party(Role.BANK, held[intent.lien_id])
        signed = bank.sign(self._kernel.where.domain, intent)
        auth = holder_auth(intent.lien_id, bank.key_id, [signed])
        self._kernel.submit(request.id, "settleLien", intent, payer, auth, body)

    def _settle_free(self, request: Request) -> None:
        intent = statements.read_statement(SettleFreeIntent, request.content.get("statement"))
        body, payer = self._first(request, intent, intent.claim_id, lambda body: body.obligor)
        mine = self._tray.receivable(request.claim)
        if mine.part != "owner":
            raise NotApproved("PART_OTHER", "This institution is not the owner of this receivable.")
        owner = self._kernel.wallet.party(Role(mine.content["role"]), int(mine.content["key"]))
        signed = owner.sign(self._kernel.where.domain, intent)
        self._kernel.submit(request.id, "settleFree", intent, signed, [payer], body)

    # -- checks ---------------------------------------------------------------------------------------------

    def _opened(self, request: Request, intent: Any, claim: bytes) -> tuple[Dossier, Any, Any, SignerTuple]:
        """Recompute a draft from its dossier; return dossier, opening, tags and the owner's signature."""
        dossier = Dossier.from_json(request.content.get("dossier"))
        opening = statements.read_opening(request.content.get("opening"))
        owner = statements.read_signer(request.content.get("signature"))
        sets = self._desk.tags(dossier.invoice)
        owner_key = statements.key_of(owner)
        draft = dossier.draft(owner_key, sets)
        if draft.claim_id() != request.claim or claim != request.claim or opening.salt != dossier.draft_salt:
            raise mismatch()
        statements.check_signed(self._kernel.where.domain, intent, owner, owner_key)
        return dossier, opening, sets, owner

    def _same(self, stated: tuple[Any, ...], found: tuple[Dossier, Any]) -> None:
        dossier, sets = found
        own = (dossier.terms_hash, dossier.doc_root, tags_hash(sets), dossier.contract_tag, dossier.due_week)
        if stated != own:
            raise mismatch()

    def _matches(self, dossier: Dossier, body: Body) -> None:
        """Compare a dossier with what stands on the ledger (case 66: another version of the document)."""
        own = (dossier.terms_hash, dossier.doc_root, dossier.contract_tag)
        if own != (body.terms_hash, body.doc_root, body.contract_tag):
            raise mismatch()

    def _first(self, request: Request, intent: Any, claim: bytes, who: Any) -> tuple[Body, SignerTuple]:
        if claim != request.claim:
            raise malformed("claim")
        body = self._kernel.body(claim)
        signed = statements.read_signer(request.content.get("signature"))
        statements.check_signed(self._kernel.where.domain, intent, signed, who(body))
        return body, signed

    def _promised(self, request: Request, role: Role, named: bytes) -> tuple[int, Party, Any]:
        """Return the key that was named to this peer for this purpose, if it is the statement's."""
        purpose = purpose_of(request.peer, request.kind, request.claim)
        for place in (purpose, kept_of(purpose, named)):
            found = self._tray.given(place)
            if found is not None:
                party = self._kernel.wallet.party(role, found[0])
                if party.key_id == named:
                    return found[0], party, found[1]
        raise ProtocolError(
            "REQUEST_OTHER_KEY", "The statement names a key that this institution did not offer."
        )

    def _own(self, request: Request, role: Role, named: bytes) -> tuple[int, Party]:
        return self._promised(request, role, named)[:2]

    def _keep(self, request: Request, part: str, dossier: Dossier, role: Role, index: int) -> None:
        known: dict[str, Any] = {}
        try:
            held: Receivable = self._tray.receivable(request.claim)
            known = dict(held.content)
            part = held.part if part == "bank" else part
            if held.part == part and part != "bank" and request.kind != "transfer":
                role, index = Role(known["role"]), int(known["key"])
        except LedgerError:
            pass
        content = {**known, "dossier": dossier.to_json(), "role": int(role), "key": index}
        if request.content.get("opening"):
            content["opening"] = request.content["opening"]
        self._tray.keep(request.claim, part, content, dossier.file)


def _check_content(kind: str, content: dict[str, Any]) -> None:
    """Refuse what is not shaped as a request of its kind, before it is kept or shown."""
    statements.read_statement(KINDS[kind], content.get("statement"))
    statements.read_signer(content.get("signature"))
    note = content.get("note", {})
    if not isinstance(note, dict) or set(note) - {"minor"} or type(note.get("minor", 0)) is not int:
        raise malformed("note")
    if set(content) - {"statement", "signature", "dossier", "opening", "note"}:
        raise malformed("content")
    if "dossier" in content:
        Dossier.from_json(content["dossier"])
    if "opening" in content:
        statements.read_opening(content["opening"])


def mismatch() -> LedgerError:
    """Return the refusal of a statement that is not about the document beside it."""
    return LedgerError(
        "DOSSIER_MISMATCH",
        "The statement is not about the document that came with it, or not about the version on the ledger.",
        "Nothing was signed. Ask the other party for the current document.",
    )


def kept_of(purpose: bytes, key: bytes) -> bytes:
    """Return under what a promise is found after its key has signed once."""
    return hashlib.sha256(lp("concordat/ledger-introduction-kept/v1", purpose, key)).digest()


def purpose_of(peer: str, kind: str, claim: bytes) -> bytes:
    """Return under what a key is promised: to whom, what for, for which claim."""
    return hashlib.sha256(lp("concordat/ledger-introduction/v1", peer, kind, claim)).digest()
