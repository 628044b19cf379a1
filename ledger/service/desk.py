"""What an institution's desk begins: register, ask for a signature, release, credit.

Each action that needs two parties is prepared and signed here, then lies in the other institution's tray as a request
(`ledger.service.answering` is the other half). Actions of one party go straight to the outbox.

A receivable's stored content: ``dossier``, ``opening`` (where its draft lies; None before it is anchored), ``role`` and
``key`` (which key of this institution signs for its part).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import Any

from ledger.commitments import FULL, ZERO, TagSet, key_id, tags_hash
from ledger.dossier import Dossier
from ledger.eip712 import new_nonce
from ledger.intents import (
    AttestIntent,
    ConfirmIntent,
    CreditNoteIntent,
    PledgeConsent,
    ReleaseIntent,
    SettleFreeIntent,
    SettleLienIntent,
    TransferIntent,
)
from ledger.invoice import Invoice
from ledger.mandates import CancelIntent
from ledger.service import statements
from ledger.service.anchoring import Anchoring
from ledger.service.kernel import Kernel
from ledger.service.standing import Standing
from ledger.service.tray import DONE, IN, OPEN, OUT, REFUSED, SENT, Receivable, Request, Tray
from ledger.signers import Party, Role, SignerTuple, holder_auth
from ledger.tags import inputs
from protocol.errors import ConfigurationError, LedgerError, NotApproved, Unavailable

VALIDITY = 7 * 86_400
"""Seconds for which a signed statement may be used."""

PROOF_SECONDS = 300
"""Seconds for which an obligor's proof to a payee counts."""


class Desk:
    """Begins actions; one instance a process."""

    def __init__(self, kernel: Kernel, tray: Tray) -> None:
        self.kernel = kernel
        self.tray = tray
        self.standing = Standing(kernel, tray)
        self.anchoring = Anchoring(kernel)

    # -- a document -----------------------------------------------------------------------------------------

    def register(self, invoice: Invoice, file: bytes = b"", key: str = "") -> bytes:
        """Commit to a document and have its draft anchored; return the claim's id.

        Args:
            invoice: the document.
            file: SHA-256 of its file, or b"".
            key: the caller's idempotency key, or "".

        Raises:
            NotApproved: ``ROLE_MISSING`` if this institution is no supplier.
            LedgerError: ``LEDGER_TAG_TAKEN`` if the document is claimed already.
            Unavailable: the keeper of tags, the anchoring member or the chain does not answer.
        """
        self._require(Role.SUPPLIER)
        if key and (claim := self._registered(key)) is not None:
            return claim
        sets = self.tags(invoice)
        self.refuse_duplicate(sets)
        index = self.kernel.wallet.fresh(Role.SUPPLIER)
        owner = self.kernel.wallet.party(Role.SUPPLIER, index)
        dossier = Dossier.new(invoice, file)
        claim = dossier.draft(owner.key_id, sets).claim_id()
        content = {
            "dossier": dossier.to_json(),
            "opening": None,
            "role": int(Role.SUPPLIER),
            "key": index,
        }
        self.tray.keep(claim, "owner", content, file)
        opening = self.anchoring.anchored(claim, dossier.draft_salt)
        self.tray.keep(claim, "owner", {**content, "opening": statements.opening_json(opening)}, file)
        if key:
            self.tray.add(IN, self.kernel.name, "register", claim, {}, id_=key, state=DONE)
            self.tray.told(key)
        return claim

    def _registered(self, key: str) -> bytes | None:
        try:
            found = self.tray.request(key)
        except LedgerError:
            return None
        if found.kind != "register":
            raise LedgerError("OUTBOX_OTHER_CALL", "This idempotency key stands for another call.")
        return found.claim

    def tags(self, invoice: Invoice) -> list[TagSet]:
        """Return a document's tags of all live epochs."""
        return self.kernel.tags.tags(inputs(invoice))

    def refuse_duplicate(self, sets: list[TagSet], own: bytes = ZERO) -> None:
        """Refuse a document whose tags somebody has claimed, and alert whoever did.

        Raises:
            LedgerError: ``LEDGER_TAG_TAKEN``.
            Unavailable: unknown, which is never "unique".
        """
        for one in sets:
            for tag in one.tags:
                if self.kernel.view("holderOf", tag)[0] not in (ZERO, own):
                    self.anchoring.notice(tag)
                    raise taken()

    # -- requests to others ---------------------------------------------------------------------------------

    def ask_confirmation(self, claim: bytes, peer: str, key: str = "") -> Request:
        """Sign as owner that an obligor owes this, and ask the obligor to sign too (确权)."""
        receivable, dossier, owner = self._owned(claim)
        sets = self.tags(dossier.invoice)
        obligor = self._introduced(peer, "confirm", claim, Role.OBLIGOR)
        intent = ConfirmIntent(
            claim,
            dossier.terms_hash,
            dossier.doc_root,
            tags_hash(sets),
            dossier.contract_tag,
            obligor,
            dossier.due_week,
            new_nonce(),
            until(),
        )
        return self._ask(peer, "confirm", claim, intent, owner, self._draft_of(receivable), key)

    def ask_attestation(self, claim: bytes, peer: str, ppm: int, key: str = "") -> Request:
        """Sign as owner that a bank which has the document takes the first lien, and ask it to sign too."""
        _check_ppm(ppm)
        receivable, dossier, owner = self._owned(claim)
        sets = self.tags(dossier.invoice)
        found = self.kernel.peers.ask(peer, "introductions", {"kind": "attest", "claim": claim.hex()})
        bank = self._key(found, Role.BANK)
        intent = AttestIntent(
            claim,
            dossier.terms_hash,
            dossier.doc_root,
            tags_hash(sets),
            dossier.contract_tag,
            bank,
            dossier.due_week,
            ppm,
            secrets.token_bytes(32),
            statements.word(found.get("ticket"), "ticket"),
            ZERO,
            new_nonce(),
            until(),
        )
        return self._ask(peer, "attest", claim, intent, owner, self._draft_of(receivable), key)

    def consent(self, claim: bytes, peer: str, ppm: int, key: str = "") -> Request:
        """Consent as owner that a bank takes a lien up to a share, for one loan."""
        _check_ppm(ppm)
        receivable, _, owner = self._owned(claim)
        body, status = self.kernel.body(claim), self.standing.status(claim)
        intent = PledgeConsent(
            claim,
            status["version"],
            body.terms_hash,
            body.doc_root,
            body.contract_tag,
            self._introduced(peer, "pledge", claim, Role.BANK),
            ppm,
            secrets.token_bytes(32),
            ZERO,
            0,
            new_nonce(),
            until(),
        )
        return self._ask(
            peer, "pledge", claim, intent, owner, {"dossier": receivable.content["dossier"]}, key
        )

    def ask_transfer(self, claim: bytes, peer: str, key: str = "") -> Request:
        """Sign as owner that the whole confirmed claim goes to another owner; liens stay on it."""
        receivable, _, owner = self._owned(claim)
        body, status = self.kernel.body(claim), self.standing.status(claim)
        if status["grade"] == 1:
            raise LedgerError(
                "TRANSFER_ATTESTED",
                "An attested claim moves only with all its holders' signatures; this service does not gather them.",
                "Have the obligor confirm it first.",
            )
        found = self.kernel.peers.ask(peer, "introductions", {"kind": "transfer", "claim": claim.hex()})
        intent = TransferIntent(
            claim,
            status["seq"],
            body.terms_hash,
            body.doc_root,
            self._key(found, Role.SUPPLIER, Role.BANK),
            new_nonce(),
            until(),
        )
        return self._ask(
            peer, "transfer", claim, intent, owner, {"dossier": receivable.content["dossier"]}, key
        )

    def settle(self, claim: bytes, peer: str, minor: int, key: str = "") -> Request:
        """State as obligor what was paid to a bank under its lien, or to the owner.

        Args:
            claim: the claim.
            peer: who was paid.
            minor: what was paid, in minor units.
            key: the caller's idempotency key, or "".
        """
        receivable, dossier, obligor = self._owing(claim)
        payable, status = dossier.invoice.payable, self.standing.status(claim)
        remaining = payable - receivable.paid - minor
        if minor < 1 or remaining < 0:
            raise LedgerError("SETTLE_AMOUNT", "The payment is not positive, or exceeds what is still owed.")
        new_cap = statements.floor_ppm(remaining, payable)
        found = self.kernel.peers.ask(peer, "introductions", self._payee_question(claim, peer, obligor))
        note = {"note": {"minor": minor}}
        if found.get("lien"):
            lien = statements.word(found["lien"], "lien")
            before = self.standing.lien(claim, lien)
            owed = before["ppm"] * payable // FULL
            new_lien = statements.ceiling_ppm(max(0, owed - minor), payable)
            settle = SettleLienIntent(claim, status["version"], lien, new_lien, new_cap, new_nonce(), until())
            return self._ask(peer, "settle-lien", claim, settle, obligor, note, key)
        free = SettleFreeIntent(claim, status["version"], new_cap, new_nonce(), until())
        return self._ask(peer, "settle-free", claim, free, obligor, note, key)

    # -- actions of one party -------------------------------------------------------------------------------

    def release(self, claim: bytes, lien: bytes | None, key: str = "") -> Request:
        """Give up a lien of this institution; the only one that it has, unless it is named."""
        self._require(Role.BANK)
        known = self.known(key, self.kernel.name, ("release",), claim)
        if known is not None and known.state != OPEN:
            return known
        held = self.standing.held(claim)
        if lien is None:
            if len(held) != 1:
                raise LedgerError(
                    "LIEN_UNCLEAR" if held else "LIEN_NONE",
                    "This institution has several liens here."
                    if held
                    else "This institution has no live lien here.",
                    "Name the lien." if held else "",
                )
            lien = next(iter(held))
        if lien not in held:
            raise LedgerError("LIEN_NONE", "This institution has no such live lien.")
        bank = self.kernel.wallet.party(Role.BANK, held[lien])
        intent = ReleaseIntent(claim, lien, new_nonce(), until())
        auth = holder_auth(lien, bank.key_id, [bank.sign(self.kernel.where.domain, intent)])
        return self._alone("release", claim, key, {}, intent, auth, self.kernel.body(claim))

    def credit_note(self, claim: bytes, minor: int, key: str = "") -> Request:
        """State as obligor that the payable is reduced by an amount (red letter, return, set-off)."""
        receivable, dossier, obligor = self._owing(claim)
        payable, status = dossier.invoice.payable, self.standing.status(claim)
        remaining = payable - receivable.paid - minor
        if minor < 1 or remaining < 0:
            raise LedgerError(
                "CREDIT_AMOUNT", "The reduction is not positive, or exceeds what is still owed."
            )
        new_cap = statements.floor_ppm(remaining, payable)
        evidence = secrets.token_bytes(32)
        intent = CreditNoteIntent(claim, status["version"], new_cap, evidence, new_nonce(), until())
        signed = obligor.sign(self.kernel.where.domain, intent)
        return self._alone(
            "creditNote", claim, key, {"minor": minor}, intent, signed, [], self.kernel.body(claim)
        )

    # -- parts ----------------------------------------------------------------------------------------------

    def _alone(self, function: str, claim: bytes, key: str, note: dict[str, Any], *arguments: Any) -> Request:
        kind = {"release": "release", "creditNote": "credit-note"}[function]
        request = self.tray.add(IN, self.kernel.name, kind, claim, {"note": note}, id_=key)
        if request.kind != kind or request.claim != claim:
            raise LedgerError("OUTBOX_OTHER_CALL", "This idempotency key stands for another call.")
        if request.state == OPEN:
            if not self.kernel.sent(request.id):
                self.kernel.submit(request.id, function, *arguments)
            self.tray.step(request.id, SENT)
            self.tray.told(request.id)
        return self.tray.request(request.id)

    def _ask(
        self, peer: str, kind: str, claim: bytes, intent: Any, signer: Party, more: dict[str, Any], key: str
    ) -> Request:
        signed: SignerTuple = signer.sign(self.kernel.where.domain, intent)
        content = {
            "statement": statements.statement_json(intent),
            "signature": statements.signer_json(signed),
            **more,
        }
        request = self.tray.add(OUT, peer, kind, claim, content, id_=key)
        with contextlib.suppress(Unavailable):  # it is durable; the worker delivers it later
            self.deliver(request)
        return self.tray.request(request.id)

    def deliver(self, request: Request) -> None:
        """Put a request into the other institution's tray; again and again is once.

        Raises:
            Unavailable: it does not answer.
            LedgerError: it refuses; the request ends so.
        """
        message = {
            "id": request.id,
            "kind": request.kind,
            "claim": request.claim.hex(),
            "content": dict(request.content),
        }
        try:
            self.kernel.peers.ask(request.peer, "requests", message)
        except LedgerError as error:
            self.tray.step(request.id, REFUSED, error.code)
            raise
        self.tray.told(request.id)

    def known(self, key: str, peer: str, kinds: tuple[str, ...], claim: bytes) -> Request | None:
        """Return what an idempotency key stands for already, if it does.

        Raises:
            LedgerError: ``OUTBOX_OTHER_CALL`` if it stands for something else.
        """
        if not key:
            return None
        try:
            found = self.tray.request(key)
        except LedgerError:
            return None
        if found.peer != peer or found.kind not in kinds or found.claim != claim:
            raise LedgerError("OUTBOX_OTHER_CALL", "This idempotency key stands for another call.")
        return found

    def _payee_question(self, claim: bytes, peer: str, obligor: Party) -> dict[str, Any]:
        """Ask a payee which lien a payment goes to; only the obligor may know, so it proves that it is."""
        salt = secrets.token_bytes(32)
        proof = CancelIntent(statements.payee_nonce(claim, peer, salt), int(time.time()) + PROOF_SECONDS)
        signed = obligor.sign(self.kernel.where.domain, proof)
        return {
            "kind": "settle",
            "claim": claim.hex(),
            "salt": salt.hex(),
            "statement": statements.statement_json(proof),
            "signature": statements.signer_json(signed),
        }

    def _introduced(self, peer: str, kind: str, claim: bytes, role: Role) -> bytes:
        found = self.kernel.peers.ask(peer, "introductions", {"kind": kind, "claim": claim.hex()})
        return self._key(found, role)

    def _key(self, found: dict[str, Any], *roles: Role) -> bytes:
        try:
            key, role = bytes.fromhex(found["key"]), int(found["role"])
        except (KeyError, TypeError, ValueError) as error:
            raise statements.malformed("introduction") from error
        if role not in [int(each) for each in roles] or len(key) < 20:
            raise statements.malformed("introduction")
        return key_id(key)

    def _draft_of(self, receivable: Receivable) -> dict[str, Any]:
        opening = receivable.content["opening"]
        if opening is None:
            raise LedgerError(
                "DRAFT_NOT_ANCHORED", "The draft is not anchored yet.", "Register the document again."
            )
        return {"dossier": receivable.content["dossier"], "opening": opening}

    def _owned(self, claim: bytes) -> tuple[Receivable, Dossier, Party]:
        return self._mine(claim, "owner")

    def _owing(self, claim: bytes) -> tuple[Receivable, Dossier, Party]:
        return self._mine(claim, "obligor")

    def _mine(self, claim: bytes, part: str) -> tuple[Receivable, Dossier, Party]:
        receivable = self.tray.receivable(claim)
        if receivable.part != part:
            raise NotApproved("PART_OTHER", f"This institution is not the {part} of this receivable.")
        role, key = Role(receivable.content["role"]), int(receivable.content["key"])
        return (
            receivable,
            Dossier.from_json(receivable.content["dossier"]),
            self.kernel.wallet.party(role, key),
        )

    def _require(self, role: Role) -> None:
        if not self.kernel.plays(role):
            raise NotApproved(
                "ROLE_MISSING",
                "This institution does not act in that role.",
                "Look at institution.roles in its configuration.",
            )


def until() -> int:
    """Return when a statement that is signed now may no longer be used."""
    return int(time.time()) + VALIDITY


def taken() -> LedgerError:
    """Return the refusal of a document that somebody has claimed."""
    return LedgerError(
        "LEDGER_TAG_TAKEN",
        "This document is registered already: a claim holds its tag.",
        "Nothing was written. Whoever registered it earlier has been alerted.",
    )


def _check_ppm(ppm: int) -> None:
    if not 1 <= ppm <= FULL:
        raise ConfigurationError("SHARE", "A share lies above 0 and at most at 100 %.")
