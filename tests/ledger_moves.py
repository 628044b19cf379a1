"""The rarer actions on a receivable, as the parties sign them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from ledger_document import Document
from ledger_world import Outcome

from ledger.commitments import FULL, ZERO, Body, TagSet, tags_hash
from ledger.eip712 import Intent, new_nonce
from ledger.intents import (
    AddTagsIntent,
    AdoptIntent,
    AmendIntent,
    AssignLienIntent,
    ContendIntent,
    DisputeIntent,
    FreezeLienIntent,
    ReissueIntent,
    RenewIntent,
    ResolveIntent,
    SplitIntent,
    TransferIntent,
    UpgradeIntent,
    VoidIntent,
    WithdrawIntent,
)
from ledger.mandates import FreezeIntent, PauseIntent, RevokeIntent
from ledger.signers import Party, Role

EMPTY = Body(ZERO, ZERO, ZERO, ZERO, ZERO)
THAW, STRIKE = 1, 2
OPEN, RENEW, WITHDRAW = 1, 2, 3


def attested(world: Any, ppm: int = 500_000, **more: Any) -> tuple[Document, Party, bytes]:
    """A document attested by a bank; returns it, the bank and the lien."""
    document, bank = Document.new(world, **more), world.party(Role.BANK)
    outcome = document.attest(bank, ppm)
    assert outcome.ok, outcome.refusal
    return document, bank, next(iter(document.liens))


def confirmed(world: Any, **more: Any) -> Document:
    """A confirmed document."""
    document = Document.new(world, **more)
    outcome = document.confirm()
    assert outcome.ok, outcome.refusal
    return document


def pledged(document: Document, ppm: int) -> bytes:
    """Pledge to a fresh bank; returns the lien."""
    outcome = document.pledge(document.world.party(Role.BANK), ppm)
    assert outcome.ok, outcome.refusal
    return outcome.data


def upgrade(document: Document, new_cap: int = FULL, by: str = "holder", **other: Any) -> Outcome:
    """The obligor confirms what a bank had attested."""
    w = document.world
    intent = UpgradeIntent(
        document.claim,
        w.status(document.claim)["seq"],
        document.terms,
        document.doc_root,
        document.contract_tag,
        document.obligor.key_id,
        new_cap,
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    outcome = w.submit(
        "upgrade",
        intent,
        document.owner.sign(w.domain, intent),
        document.obligor.sign(w.domain, intent),
        [w.members[0].sign(w.domain, intent)] if by == "member" else [],
        document.holders(intent)[:1] if by == "holder" else [],
        document.body,
    )
    if outcome.ok:
        document.body = replace(document.body, obligor=document.obligor.key_id)
    return outcome


def contend(document: Document, **other: Any) -> Outcome:
    """This document's owner contends whoever holds its tags; the draft becomes `document.claim`."""
    w, sets = document.world, document.tags()
    draft = document.draft()
    w.pass_time()
    intent = ContendIntent(
        draft[0],
        document.terms,
        document.doc_root,
        tags_hash(sets),
        document.contract_tag,
        document.obligor.key_id,
        document.due_week(),
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    outcome = w.submit(
        "contend",
        intent,
        document.owner.sign(w.domain, intent),
        document.obligor.sign(w.domain, intent),
        w.members[0].sign(w.domain, intent),
        draft[1],
        list(sets),
    )
    document.claim = draft[0]
    document.body = Body(
        document.owner.key_id,
        document.obligor.key_id,
        document.terms,
        document.doc_root,
        document.contract_tag,
    )
    return outcome


def adopt(hit: Document, contender: Document, holders: bool = True) -> Outcome:
    """Contender, obligor and all holders end a conflict."""
    w = hit.world
    intent = AdoptIntent(hit.claim, contender.claim, w.status(hit.claim)["seq"], new_nonce(), w.late())
    return w.submit(
        "adopt",
        intent,
        contender.owner.sign(w.domain, intent),
        contender.obligor.sign(w.domain, intent),
        hit.holders(intent) if holders else [],
        hit.body,
        contender.body,
        list(contender.tags()),
    )


def withdraw(contender: Document, hits: Sequence[Document]) -> Outcome:
    """A contender gives up."""
    w = contender.world
    intent = WithdrawIntent(contender.claim, new_nonce(), w.late())
    return w.submit(
        "withdraw",
        intent,
        contender.owner.sign(w.domain, intent),
        contender.obligor.sign(w.domain, intent),
        contender.body,
        [hit.claim for hit in hits],
    )


def dispute(document: Document, step: int = OPEN, obligor: Party | None = None, **other: Any) -> Outcome:
    """An obligor denies an attested claim, renews or withdraws."""
    w = document.world
    members = other.pop("members", [w.members[0]] if step == OPEN else [])
    intent = DisputeIntent(
        document.claim, document.version(), step, os.urandom(32), True, new_nonce(), w.late()
    )
    intent = replace(intent, **other)
    by = obligor or document.obligor
    return w.submit(
        "dispute", intent, by.sign(w.domain, intent), [one.sign(w.domain, intent) for one in members]
    )


def resolve(
    hit: Document,
    verdict: int,
    contender: Document | None = None,
    count: int = 4,
    liens: Sequence[bytes] | None = None,
    **other: Any,
) -> Outcome:
    """The council ends a conflict or a dispute."""
    w = hit.world
    seq = w.status(hit.claim)["seq"]
    intent = ResolveIntent(hit.claim, seq, verdict, os.urandom(32), True, new_nonce(), w.late())
    intent = replace(intent, **other)
    return w.submit(
        "resolve",
        intent,
        w.by_council(intent, count),
        hit.body,
        sorted(hit.liens) if liens is None else list(liens),
        contender.body if contender else EMPTY,
        list(contender.tags()) if contender else [],
    )


def renew(document: Document, lien_id: bytes) -> Outcome:
    """A holder keeps an attested claim alive."""
    w = document.world
    intent = RenewIntent(document.claim, lien_id, new_nonce(), w.late())
    return w.submit("renew", intent, document.holder(lien_id, intent))


def assign_lien(document: Document, lien_id: bytes, to: Party, auth: Any = None, **other: Any) -> Outcome:
    """A holder passes its lien on; `auth` makes the holder's consent from the statement."""
    w = document.world
    intent = AssignLienIntent(
        document.claim,
        lien_id,
        to.key_id,
        to.certificate.key_set,
        os.urandom(32),
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    by = auth(intent) if auth else document.holder(lien_id, intent)
    outcome = w.submit("assignLien", intent, by, to.sign(w.domain, intent))
    if outcome.ok:
        document.liens[lien_id] = to
    return outcome


def freeze_lien(document: Document, lien_id: bytes, holder: bytes, shown: list[bytes], by: Party) -> Outcome:
    """A second key of the holder's set freezes its own lien."""
    w = document.world
    intent = FreezeLienIntent(document.claim, lien_id, new_nonce(), w.late())
    return w.submit("freezeLien", intent, holder, shown, by.sign(w.domain, intent))


def transfer(document: Document, to: Party, holders: bool = False, **other: Any) -> Outcome:
    """The whole claim changes hands."""
    w, body = document.world, document.body
    signer = other.pop("signer", document.owner)
    intent = TransferIntent(
        document.claim,
        w.status(document.claim)["seq"],
        body.terms_hash,
        body.doc_root,
        to.key_id,
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    outcome = w.submit(
        "transfer",
        intent,
        signer.sign(w.domain, intent),
        to.sign(w.domain, intent),
        document.holders(intent) if holders else [],
        body,
    )
    if outcome.ok:
        document.owner = to
        document.body = replace(body, owner=to.key_id)
    return outcome


def liens_hash(lien_ids: Sequence[bytes]) -> bytes:
    """How a split names the liens that move."""
    return keccak(encode(["bytes32[]"], [list(lien_ids)]))


def split(
    document: Document, to: Party, ppm: int, moved: Sequence[bytes] = (), **other: Any
) -> tuple[Outcome, Document | None]:
    """A part becomes a claim of its own; returns it as a document."""
    w, body = document.world, document.body
    ids = sorted(moved)
    unsigned = other.pop("unsigned", False)
    intent = SplitIntent(
        document.claim,
        w.status(document.claim)["seq"],
        body.terms_hash,
        body.doc_root,
        to.key_id,
        ppm,
        liens_hash(ids),
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    auths = [document.holder(lien_id, intent) for lien_id in ids]
    if unsigned:
        auths = [(*one[:3], []) for one in auths]
    outcome = w.submit(
        "split", intent, document.owner.sign(w.domain, intent), to.sign(w.domain, intent), auths, body
    )
    if not outcome.ok:
        return outcome, None
    root = document.claim if body.root == ZERO else body.root
    child = replace(
        document,
        owner=to,
        claim=outcome.data,
        body=replace(body, owner=to.key_id, root=root),
        liens={lien_id: document.liens.pop(lien_id) for lien_id in ids},
    )
    return outcome, child


def amend(document: Document, new_cap: int, due: int | None = None, **other: Any) -> Outcome:
    """Terms, documents or due week change."""
    w = document.world
    signers = other.pop("obligors", [document.obligor] if document.body.obligor != ZERO else [])
    holders = other.pop("holders", True)
    terms, root = os.urandom(32), os.urandom(32)
    intent = AmendIntent(
        document.claim,
        w.status(document.claim)["seq"],
        terms,
        root,
        document.due_week() if due is None else due,
        new_cap,
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    outcome = w.submit(
        "amend",
        intent,
        document.owner.sign(w.domain, intent),
        [one.sign(w.domain, intent) for one in signers],
        document.holders(intent) if holders else [],
        document.body,
    )
    if outcome.ok:
        document.body = replace(document.body, terms_hash=terms, doc_root=root)
        document.terms, document.doc_root = terms, root
    return outcome


def reissue(document: Document, new_cap: int = FULL, **other: Any) -> Outcome:
    """A document is replaced by a new one under a new number."""
    w = document.world
    name = other.pop("name", os.urandom(32))
    holders = other.pop("holders", True)
    sets = document.tags(names=[name])
    terms, root = os.urandom(32), os.urandom(32)
    draft = document.draft(sets, terms_hash=terms, doc_root=root)
    w.pass_time()
    intent = ReissueIntent(
        document.claim,
        w.status(document.claim)["seq"],
        draft[0],
        terms,
        root,
        tags_hash(sets),
        document.due_week(),
        new_cap,
        new_nonce(),
        w.late(),
    )
    intent = replace(intent, **other)
    obligors = [document.obligor] if document.body.obligor != ZERO else []
    outcome = w.submit(
        "reissue",
        intent,
        document.owner.sign(w.domain, intent),
        [one.sign(w.domain, intent) for one in obligors],
        document.holders(intent) if holders else [],
        document.body,
        draft[1],
        list(sets),
    )
    if outcome.ok:
        document.names.append(name)
        document.body = replace(document.body, terms_hash=terms, doc_root=root)
        document.terms, document.doc_root = terms, root
    return outcome


def add_tags(
    document: Document, sets: list[TagSet], number: bool, member: bool = False, lien: bytes | None = None
) -> Outcome:
    """Another official number, or the tags of a newer epoch; by the owner, or by a holder with a member."""
    w = document.world
    first = document.liens[lien] if lien else document.owner
    draft = document.draft(sets, owner=first.key_id)
    w.pass_time()
    intent = AddTagsIntent(document.claim, draft[0], tags_hash(sets), number, new_nonce(), w.late())
    by = (
        [] if lien else [document.owner.sign(w.domain, intent)],
        [document.holder(lien, intent)] if lien else [],
        [w.members[1].sign(w.domain, intent)] if member else [],
    )
    return w.submit("addTags", intent, by, document.body, draft[1], list(sets))


def void(document: Document, obligors: list[Party] | None = None) -> Outcome:
    """End a claim without liens and children."""
    w = document.world
    intent = VoidIntent(document.claim, w.status(document.claim)["seq"], new_nonce(), w.late())
    signers = [document.obligor] if obligors is None else obligors
    return w.submit(
        "voidClaim",
        intent,
        document.owner.sign(w.domain, intent),
        [one.sign(w.domain, intent) for one in signers],
        document.body,
    )


def freeze(document: Document, count: int = 3) -> Outcome:
    """The council holds a claim."""
    intent = FreezeIntent(document.claim, os.urandom(32), new_nonce(), document.world.late())
    return document.world.submit("freeze", intent, document.world.by_council(intent, count))


def pause(world: Any, count: int = 3) -> Outcome:
    """The council pauses new business."""
    intent = PauseIntent(os.urandom(32), new_nonce(), world.late())
    return world.submit("pause", intent, world.by_council(intent, count))


def revoke(world: Any, party: Party) -> Outcome:
    """The registry revokes a key."""
    intent = RevokeIntent(party.key_id, os.urandom(32), new_nonce(), world.late())
    return world.submit("revoke", intent, world.registry.sign(digest(world, intent)))


def digest(world: Any, intent: Intent) -> bytes:
    """What a key signs for a statement."""
    found: bytes = world.domain.digest(intent.struct_hash())
    return found
