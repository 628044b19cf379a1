"""One receivable as its parties know it: what they sign and submit, with defaults that a test may replace."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ledger_world import Outcome, World

from ledger.commitments import (
    FULL,
    NO_CONTRACT,
    ZERO,
    Body,
    Draft,
    Opening,
    TagSet,
    Ticket,
    tags_hash,
)
from ledger.eip712 import Intent, new_nonce
from ledger.intents import (
    AttestIntent,
    ConfirmIntent,
    CreditNoteIntent,
    PledgeConsent,
    PledgeIntent,
    ReleaseIntent,
    SettleFreeIntent,
    SettleLienIntent,
)
from ledger.signers import Party, Role, holder_auth


@dataclass
class Document:
    """One receivable as its parties know it, with the calls that concern it."""

    world: World
    owner: Party
    obligor: Party
    names: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    terms: bytes = field(default_factory=lambda: os.urandom(32))
    doc_root: bytes = field(default_factory=lambda: os.urandom(32))
    contract_tag: bytes = NO_CONTRACT
    due: int | None = None
    claim: bytes = b""
    body: Body | None = None
    liens: dict[bytes, Party] = field(default_factory=dict)

    @classmethod
    def new(cls, world: World, **more: Any) -> Document:
        """A document of a fresh supplier and a fresh obligor."""
        owner = more.pop("owner", None) or world.party(Role.SUPPLIER)
        obligor = more.pop("obligor", None) or world.party(Role.OBLIGOR)
        return cls(world, owner, obligor, **more)

    def tags(self, epochs: Iterable[int] | None = None, names: Iterable[bytes] | None = None) -> list[TagSet]:
        """Tags of all names, each epoch; the tag function is a hash here, since tags are opaque."""
        if epochs is None:
            settings = self.world.view("settings")
            epochs = range(settings[4], settings[5] + 1)
        return [
            TagSet.of(
                epoch,
                (hashlib.sha256(epoch.to_bytes(2, "big") + name).digest() for name in names or self.names),
            )
            for epoch in epochs
        ]

    def draft(
        self, tags: list[TagSet] | None = None, member: Party | None = None, **other: Any
    ) -> tuple[bytes, Opening]:
        """Anchor a draft of this document; returns its id and where it lies."""
        salt = os.urandom(32)
        fields = {
            "owner": self.owner.key_id,
            "tags_hash": tags_hash(self.tags() if tags is None else tags),
            "terms_hash": self.terms,
            "doc_root": self.doc_root,
            "contract_tag": self.contract_tag,
            "salt": salt,
        }
        one = Draft(**{**fields, **other})
        return one.claim_id(), replace(self.world.anchor(one.claim_id(), member=member), salt=salt)

    def ticket(self, bank: Party) -> tuple[bytes, Opening]:
        """Anchor a bank's ticket; returns it and where it lies."""
        one = Ticket(os.urandom(32), bank.key_id, os.urandom(32))
        return one.ticket, replace(self.world.anchor(one.leaf(), kind=2), salt=one.salt)

    def due_week(self) -> int:
        """The due week, twelve weeks ahead unless set."""
        return self.world.week(12) if self.due is None else self.due

    def confirm_call(
        self, draft: tuple[bytes, Opening], tags: list[TagSet] | None = None, **other: Any
    ) -> list[Any]:
        """Arguments of `confirm`; fields of the statement may be replaced."""
        w, sets = self.world, self.tags() if tags is None else tags
        signers = {"owner": other.pop("owner", self.owner), "obligor": other.pop("obligor", self.obligor)}
        intent = ConfirmIntent(
            draft[0],
            self.terms,
            self.doc_root,
            tags_hash(sets),
            self.contract_tag,
            self.obligor.key_id,
            self.due_week(),
            new_nonce(),
            w.late(),
        )
        intent = replace(intent, **other)
        return [
            intent,
            signers["owner"].sign(w.domain, intent),
            signers["obligor"].sign(w.domain, intent),
            draft[1],
            list(sets),
        ]

    def confirm(self, **other: Any) -> Outcome:
        """Anchor, wait one block, confirm."""
        draft = self.draft()
        self.world.pass_time()
        outcome = self.world.submit("confirm", *self.confirm_call(draft, **other))
        if outcome.ok:
            self.claim = draft[0]
            self.body = Body(
                self.owner.key_id, self.obligor.key_id, self.terms, self.doc_root, self.contract_tag
            )
        return outcome

    def attest_call(
        self, draft: tuple[bytes, Opening], ticket: tuple[bytes, Opening], bank: Party, ppm: int, **other: Any
    ) -> list[Any]:
        """Arguments of `attest`."""
        w, sets = self.world, other.pop("tags", None) or self.tags()
        owner = other.pop("owner", self.owner)
        intent = AttestIntent(
            draft[0],
            self.terms,
            self.doc_root,
            tags_hash(sets),
            self.contract_tag,
            bank.key_id,
            self.due_week(),
            ppm,
            os.urandom(32),
            ticket[0],
            ZERO,
            new_nonce(),
            w.late(),
        )
        intent = replace(intent, **other)
        return [
            intent,
            owner.sign(w.domain, intent),
            bank.sign(w.domain, intent),
            draft[1],
            ticket[1],
            list(sets),
        ]

    def attest(self, bank: Party, ppm: int = FULL, **other: Any) -> Outcome:
        """Anchor draft and ticket, wait one block, attest."""
        draft, ticket = self.draft(), self.ticket(bank)
        self.world.pass_time()
        call = self.attest_call(draft, ticket, bank, ppm, **other)
        outcome = self.world.submit("attest", *call)
        if outcome.ok:
            self.claim = draft[0]
            self.body = Body(self.owner.key_id, ZERO, self.terms, self.doc_root, self.contract_tag)
            self.liens[self.world.domain.digest(call[0].struct_hash())] = bank
        return outcome

    def pledge_call(self, bank: Party, ppm: int, tags: list[TagSet] | None = None, **other: Any) -> list[Any]:
        """Arguments of `pledge`; fields of the consent may be replaced, and `bank_ppm`, `signer`, `body`."""
        w, sets = self.world, self.tags() if tags is None else tags
        signer, body = other.pop("signer", self.owner), other.pop("body", self.body)
        taken, late = other.pop("bank_ppm", ppm), other.pop("bank_not_after", w.late())
        consent = PledgeConsent(
            self.claim,
            w.status(self.claim)["version"],
            body.terms_hash,
            body.doc_root,
            body.contract_tag,
            bank.key_id,
            ppm,
            os.urandom(32),
            ZERO,
            0,
            new_nonce(),
            w.late(),
        )
        consent = replace(consent, **other)
        lien_id = w.domain.digest(consent.struct_hash())
        intent = PledgeIntent(consent.claim_id, lien_id, taken, tags_hash(sets), late)
        return [
            consent,
            intent,
            signer.sign(w.domain, consent),
            bank.sign(w.domain, intent),
            body,
            list(sets),
        ]

    def pledge(self, bank: Party, ppm: int, **other: Any) -> Outcome:
        """Pledge to a bank with the owner's consent."""
        outcome = self.world.submit("pledge", *self.pledge_call(bank, ppm, **other))
        if outcome.ok:
            self.liens[outcome.data] = bank
        return outcome

    def holder(self, lien_id: bytes, intent: Intent) -> Any:
        """The consent of a lien's single-key holder."""
        bank = self.liens[lien_id]
        return holder_auth(lien_id, bank.key_id, [bank.sign(self.world.domain, intent)])

    def holders(self, intent: Intent) -> list[Any]:
        """The consents of all holders, in the order the contract wants."""
        return [self.holder(lien_id, intent) for lien_id in sorted(self.liens)]

    def release(self, lien_id: bytes, **other: Any) -> Outcome:
        """Release a lien of a single-key holder."""
        intent = ReleaseIntent(self.claim, lien_id, new_nonce(), self.world.late())
        auth = other.get("auth") or self.holder(lien_id, intent)
        outcome = self.world.submit("release", intent, auth, self.body)
        if outcome.ok:
            del self.liens[lien_id]
        return outcome

    def version(self) -> int:
        """The claim's version."""
        found: int = self.world.status(self.claim)["version"]
        return found

    def settle_free(self, new_cap: int, signers: list[Party] | None = None) -> Outcome:
        """A payment to the owner."""
        w = self.world
        intent = SettleFreeIntent(self.claim, self.version(), new_cap, new_nonce(), w.late())
        obligors = [self.obligor] if signers is None else signers
        return w.submit(
            "settleFree",
            intent,
            self.owner.sign(w.domain, intent),
            [one.sign(w.domain, intent) for one in obligors],
            self.body,
        )

    def settle_lien(self, lien_id: bytes, new_lien: int, new_cap: int, payer: Party | None = None) -> Outcome:
        """A payment to a holder."""
        w = self.world
        intent = SettleLienIntent(
            self.claim, self.version(), lien_id, new_lien, new_cap, new_nonce(), w.late()
        )
        paid = (payer or self.obligor).sign(w.domain, intent)
        outcome = w.submit("settleLien", intent, paid, self.holder(lien_id, intent), self.body)
        if outcome.ok and new_lien == 0:
            del self.liens[lien_id]
        return outcome

    def credit_note(self, new_cap: int, signer: Party | None = None, holders: bool = False) -> Outcome:
        """A reduction of the payable."""
        w = self.world
        intent = CreditNoteIntent(self.claim, self.version(), new_cap, os.urandom(32), new_nonce(), w.late())
        signed = (signer or self.obligor).sign(w.domain, intent)
        return w.submit("creditNote", intent, signed, self.holders(intent) if holders else [], self.body)
