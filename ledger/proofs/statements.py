"""The three statements that a file can make, and what each takes.

    absence    no claim in this registry holds any of these tags, one set for each live epoch
    presence   a claim stands in the registry, with its body, some of its tags and all or some of its liens
    document   a document, of which some fields are shown, is a leaf of a root that a member anchored; what became of
               it since; and whether its owner or that member revoked the leaf

A leaf is revoked when its owner, or the member that anchored it, uses up the nonce that `revocation_nonce` derives
from the leaf, by a signed ``Cancel``: one word of storage, so that *not revoked* can be proved as well. A whole
batch stays as it is.

Invariants: every field of a statement is bound to a storage word or to a hash under one; a verdict follows from
words alone. Lists that have no order of their own are ascending.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eth_hash.auto import keccak

from ledger import storage
from ledger.commitments import Body, Draft
from ledger.proofs.claims import (
    Claim,
    account_of,
    claim_slots,
    lien_slot,
    read_claim,
    read_lien,
    read_version,
    version_slots,
)
from ledger.proofs.fields import Shown, ShownField
from ledger.proofs.state import State
from ledger.proofs.trust import count, exactly, malformed, unhex
from ledger.proofs.verdict import Grade, Status, moment, share
from protocol import merkle
from protocol.errors import LedgerError, ProtocolError

_DRAFTS = 1
_REVOCATION = b"concordat.leaf-revocation.v1"
_LATER = "Anything after that block: ask the registry again before you act on it."
_REAL = "That the debt exists and is owed as the document says; the registry checks signatures, not trade."
_AMOUNT = (
    "Amounts, names and dates that the file does not show; shares are parts of the first committed payable."
)


@dataclass(frozen=True)
class Finding:
    """What a statement comes to, before it is put under its checkpoint."""

    status: Status
    grade: Grade
    facts: dict[str, Any]
    proved: list[str]
    not_proved: list[str]


def revocation_nonce(leaf: bytes) -> bytes:
    """Return the nonce whose use revokes a leaf, 32 bytes."""
    return bytes(keccak(_REVOCATION + leaf))


def _ascending(values: tuple[bytes, ...]) -> None:
    if any(a >= b for a, b in pairwise(values)):
        raise malformed()


def _words(values: Any) -> tuple[bytes, ...]:
    if not isinstance(values, list):
        raise malformed()
    return tuple(unhex(each, 32) for each in values)


@dataclass(frozen=True)
class Absence:
    """No claim holds these tags.

    Attributes:
        tags: for each live epoch, oldest first, 1 to 4 tags, ascending.
    """

    tags: tuple[tuple[bytes, ...], ...]

    def slots(self) -> list[int]:
        """Return the slots that are certainly looked at."""
        return [*version_slots(), *(storage.mapped("claimOf", tag) for tags in self.tags for tag in tags)]

    def find(self, state: State) -> Finding:
        """Judge the statement.

        Raises:
            LedgerError: ``PROOF_CLAIMED`` if a claim holds a tag.
            ProtocolError: ``PROOF_EPOCHS``, ``PROOF_RETIRED``, ``PROOF_PREDECESSOR``.
        """
        version = read_version(state)
        if version.retired:
            raise ProtocolError("PROOF_RETIRED", "This version of the registry is retired; ask the next one.")
        if not version.first:
            raise ProtocolError(
                "PROOF_PREDECESSOR",
                "Claims of the version before count here too, and a file does not cover them.",
                "Ask a member's service, which looks in both.",
            )
        if len(self.tags) != version.newest - version.oldest + 1:
            raise ProtocolError("PROOF_EPOCHS", "The file does not hold tags for exactly the live epochs.")
        ended = 0
        for tags in self.tags:
            for tag in tags:
                claim = state.word(storage.mapped("claimOf", tag)).to_bytes(32, "big")
                if any(claim):
                    if read_claim(state, claim).holds_tags:
                        raise LedgerError("PROOF_CLAIMED", "A claim holds one of the tags.")
                    ended += 1
        epochs = f"{version.oldest} to {version.newest}"
        total = sum(len(tags) for tags in self.tags)
        proved = [
            f"No claim in this registry and these epochs ({epochs}) holds any of the file's tags ({total}), "
            f"as of {moment(state.time)}."
        ]
        if ended:
            proved.append(f"{ended} of the tags belonged to claims that have ended and freed them.")
        return Finding(
            Status.ABSENT,
            Grade.NONE,
            {"epochs": [version.oldest, version.newest], "tags": _hex_sets(self.tags), "ended": ended},
            proved,
            [
                "What was pledged outside this registry, under other tags, or by a draft that nobody has opened.",
                "That the tags are those of a document that you hold: let your own member derive them and compare.",
                _LATER,
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the statement's fields."""
        return {"tags": _hex_sets(self.tags)}

    @classmethod
    def from_json(cls, value: Any) -> Absence:
        """Read the statement's fields.

        Raises:
            ProtocolError: ``PROOF_MALFORMED``.
        """
        sets = exactly(value, "tags")["tags"]
        if not isinstance(sets, list) or not 1 <= len(sets) <= 2:
            raise malformed()
        tags = tuple(_words(each) for each in sets)
        for each in tags:
            _ascending(each)
            if not 1 <= len(each) <= 4:
                raise malformed()
        return cls(tags)


@dataclass(frozen=True)
class Presence:
    """A claim stands in the registry.

    Attributes:
        claim: its id.
        body: what it is about.
        tags: some of its tags, ascending; at least one unless it is a part split off.
        liens: some of its live liens, ascending.
    """

    claim: bytes
    body: Body
    tags: tuple[bytes, ...]
    liens: tuple[bytes, ...]

    def slots(self) -> list[int]:
        """Return the slots that are certainly looked at."""
        return [
            *version_slots(),
            *claim_slots(self.claim),
            storage.mapped("_bodies", self.claim),
            storage.mapped("_accounts", self.claim),
            *(storage.mapped("claimOf", tag) for tag in self.tags),
            *(lien_slot(self.claim, lien) for lien in self.liens),
        ]

    def find(self, state: State) -> Finding:
        """Judge the statement.

        Raises:
            LedgerError: ``PROOF_NO_CLAIM``.
            ProtocolError: ``PROOF_BODY``, ``PROOF_TAG``, ``PROOF_LIEN``.
        """
        version = read_version(state)
        claim = read_claim(state, self.claim)
        if claim.grade is Grade.NONE:
            raise LedgerError("PROOF_NO_CLAIM", "There is no such claim in this registry.")
        if state.word(storage.mapped("_bodies", self.claim)) != int.from_bytes(self.body.digest(), "big"):
            raise ProtocolError("PROOF_BODY", "The file says the claim is about something else than it is.")
        if not self.tags and not any(self.body.root):
            raise malformed()
        for tag in self.tags:
            held = state.word(storage.mapped("claimOf", tag)).to_bytes(32, "big")
            if held != (self.body.root if any(self.body.root) else self.claim):
                raise ProtocolError("PROOF_TAG", "A tag of the file leads to another claim, or to none.")
        account = account_of(state, self.claim)
        liens = [read_lien(state, self.claim, each) for each in self.liens]
        if not all(each.live for each in liens):
            raise ProtocolError("PROOF_LIEN", "A lien of the file is not one that lives on this claim.")
        every = len(liens) == claim.fields["liens"]
        facts = {
            "claim": self.claim.hex(),
            "owner": self.body.owner.hex(),
            "obligor": self.body.obligor.hex() if any(self.body.obligor) else None,
            "documents": self.body.doc_root.hex(),
            "terms": self.body.terms_hash.hex(),
            "contractTag": self.body.contract_tag.hex(),
            "partOf": self.body.root.hex() if any(self.body.root) else None,
            "tags": [each.hex() for each in self.tags],
            "flags": list(claim.flags),
            "cap": claim.fields["cap"],
            "pledged": claim.fields["pledged"],
            "free": claim.free,
            **account,
            "dueWeek": claim.fields["dueWeek"],
            "lapseWeek": claim.fields["lapseWeek"] or None,
            "liens": [
                {"id": one.hex(), "ppm": lien.ppm, "frozenUntil": lien.frozen_until}
                for one, lien in zip(self.liens, liens, strict=True)
            ],
            "allLiens": every,
        }
        not_proved = [_REAL, _AMOUNT, _LATER, "Who stands behind a key: a key is not a name."]
        if not every:
            not_proved.append("The liens that the file does not show; their sum is part of what is pledged.")
        if version.retired:
            not_proved.append("Whether the next version of the registry has taken the claim over.")
        return Finding(claim.status, claim.grade, facts, _presence(claim, state.time), not_proved)

    def to_json(self) -> dict[str, Any]:
        """Return the statement's fields."""
        names = ("owner", "obligor", "terms", "documents", "contract", "root")
        return {
            "claim": self.claim.hex(),
            "body": {name: each.hex() for name, each in zip(names, self.body.values(), strict=True)},
            "tags": [each.hex() for each in self.tags],
            "liens": [each.hex() for each in self.liens],
        }

    @classmethod
    def from_json(cls, value: Any) -> Presence:
        """Read the statement's fields.

        Raises:
            ProtocolError: ``PROOF_MALFORMED``.
        """
        found = exactly(value, "claim", "body", "tags", "liens")
        names = ("owner", "obligor", "terms", "documents", "contract", "root")
        body = exactly(found["body"], *names)
        tags, liens = _words(found["tags"]), _words(found["liens"])
        _ascending(tags)
        _ascending(liens)
        return cls(unhex(found["claim"], 32), Body(*(unhex(body[name], 32) for name in names)), tags, liens)


@dataclass(frozen=True)
class DocumentLeaf:
    """A document behind a leaf of an anchored root.

    Attributes:
        draft: what the leaf commits to, with its salt.
        shown: the fields that are shown.
        member: key id of the member that anchored the root.
        root: the anchored root.
        count: leaves under it.
        index: the leaf's position.
        path: sibling hashes from the leaf up.
    """

    draft: Draft
    shown: Shown
    member: bytes
    root: bytes
    count: int
    index: int
    path: tuple[bytes, ...]

    @property
    def leaf(self) -> bytes:
        """The leaf's hash: the claim's id once somebody opens it."""
        return self.draft.claim_id()

    @property
    def _anchor(self) -> int:
        return storage.mapped("_anchors", storage.anchor_id(_DRAFTS, self.root, self.count, self.member))

    def _revocations(self) -> dict[str, int]:
        nonce = revocation_nonce(self.leaf)
        by = {"owner": self.draft.owner, "member": self.member}
        return {name: storage.spent_slot(key, nonce) for name, key in by.items()}

    def slots(self) -> list[int]:
        """Return the slots that are certainly looked at."""
        return [self._anchor, *self._revocations().values(), *claim_slots(self.leaf)]

    def find(self, state: State) -> Finding:
        """Judge the statement.

        Raises:
            LedgerError: ``PROOF_NOT_ANCHORED``.
            ProtocolError: ``PROOF_FIELDS``, ``MERKLE_INCLUSION``, ``MERKLE_RANGE``.
        """
        self.shown.verify(self.draft.doc_root)
        merkle.verify_inclusion(self.leaf, self.index, self.count, self.path, self.root)
        anchored = storage.unpack(storage.ANCHORED, state.word(self._anchor))
        if anchored["number"] == 0:
            raise LedgerError("PROOF_NOT_ANCHORED", "No member has anchored this document's root.")
        revoked = [name for name, slot in self._revocations().items() if state.word(slot)]
        claim = read_claim(state, self.leaf)
        since = moment(anchored["time"])
        proved = [
            f"The shown fields belong to one document of {self.shown.count} fields, and it has been anchored since "
            f"{since} (block {anchored['number']}); it existed in this form by then.",
            f"{' and '.join(revoked)} revoked it."
            if revoked
            else "Neither its owner nor that member revoked it.",
        ]
        if claim.status is Status.DRAFT:
            proved.append("It is a draft: nobody has claimed with it, and it gives no exclusivity.")
        else:
            proved += _presence(claim, state.time)
        facts = {
            "fields": {each.name: each.value for each in self.shown.fields},
            "fieldCount": self.shown.count,
            "anchored": {"block": anchored["number"], "time": anchored["time"]},
            "owner": self.draft.owner.hex(),
            "member": self.member.hex(),
            "revokedBy": revoked,
            "claim": self.leaf.hex(),
            "flags": list(claim.flags),
        }
        not_proved = [_REAL, "Who stands behind a key: a key is not a name.", _LATER]
        if claim.status is Status.DRAFT:
            not_proved.append("That the receivable is free: another draft of it may have become a claim.")
        status = Status.REVOKED if revoked else claim.status
        return Finding(status, claim.grade, facts, proved, not_proved)

    def to_json(self) -> dict[str, Any]:
        """Return the statement's fields."""
        return {
            "draft": {
                "owner": self.draft.owner.hex(),
                "tags": self.draft.tags_hash.hex(),
                "terms": self.draft.terms_hash.hex(),
                "documents": self.draft.doc_root.hex(),
                "contract": self.draft.contract_tag.hex(),
                "salt": self.draft.salt.hex(),
            },
            "fields": {
                "count": self.shown.count,
                "shown": [
                    {
                        "index": each.index,
                        "name": each.name,
                        "value": each.value,
                        "salt": each.salt.hex(),
                        "path": [one.hex() for one in each.path],
                    }
                    for each in self.shown.fields
                ],
            },
            "anchor": {
                "member": self.member.hex(),
                "root": self.root.hex(),
                "count": self.count,
                "index": self.index,
                "path": [one.hex() for one in self.path],
            },
        }

    @classmethod
    def from_json(cls, value: Any) -> DocumentLeaf:
        """Read the statement's fields.

        Raises:
            ProtocolError: ``PROOF_MALFORMED``.
        """
        found = exactly(value, "draft", "fields", "anchor")
        names = ("owner", "tags", "terms", "documents", "contract", "salt")
        draft = exactly(found["draft"], *names)
        fields = exactly(found["fields"], "count", "shown")
        anchor = exactly(found["anchor"], "member", "root", "count", "index", "path")
        if not isinstance(fields["shown"], list):
            raise malformed()
        return cls(
            Draft(*(unhex(draft[name], 32) for name in names)),
            Shown(count(fields["count"]), tuple(_shown(each) for each in fields["shown"])),
            unhex(anchor["member"], 32),
            unhex(anchor["root"], 32),
            count(anchor["count"]),
            count(anchor["index"]),
            _words(anchor["path"]),
        )


Statement = Absence | Presence | DocumentLeaf
STATEMENTS: dict[str, type[Absence] | type[Presence] | type[DocumentLeaf]] = {
    "absence": Absence,
    "presence": Presence,
    "document": DocumentLeaf,
}


def name_of(statement: Statement) -> str:
    """Return a statement's name in files."""
    return next(name for name, kind in STATEMENTS.items() if isinstance(statement, kind))


def _shown(value: Any) -> ShownField:
    found = exactly(value, "index", "name", "value", "salt", "path")
    if not isinstance(found["name"], str) or not isinstance(found["value"], str):
        raise malformed()
    return ShownField(
        count(found["index"]), found["name"], found["value"], unhex(found["salt"], 32), _words(found["path"])
    )


def _hex_sets(sets: tuple[tuple[bytes, ...], ...]) -> list[list[str]]:
    return [[tag.hex() for tag in tags] for tags in sets]


def _presence(claim: Claim, time: int) -> list[str]:
    """Say what a claim is at a block."""
    who = {
        Grade.CONFIRMED: "Owner and obligor signed for it (confirmed).",
        Grade.ATTESTED: "Its owner and a member bank signed for it; the obligor has not confirmed it (attested).",
    }[claim.grade]
    c = claim.fields
    if claim.status in (Status.LIVE, Status.FROZEN):
        state = (
            f"It carries {share(c['cap'])} of the first payable. Pledged: {share(c['pledged'])} (liens: {c['liens']}); "
            f"not pledged: {share(claim.free)}."
        )
    else:
        state = {
            Status.SETTLED: "It is settled; its tags stay taken.",
            Status.VOID: "It is void; its tags are free again.",
            Status.LAPSED: "It has lapsed: its last week has passed and nobody renewed it.",
        }[claim.status]
    lines = [f"A claim stands in this registry, as of {moment(time)}.", who, state]
    if claim.flags:
        lines.append(f"It is frozen: {', '.join(claim.flags)}.")
    return lines
