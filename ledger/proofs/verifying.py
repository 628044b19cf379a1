"""Verifying a proof: bytes in, a verdict out, or an error with a stable code. No network, no clock of its own.

Form: canonical JSON (RFC 8785) of an object with exactly

    kind        "concordat-proof"
    version     1
    statement   "absence", "presence" or "document"; see `statements`
    subject     the statement's fields
    ledger      what the maker trusts; compared with what the reader trusts
    checkpoint  a C2SP signed note
    header      the block's header, RLP
    nodes       {"account": […], "storage": […]}: tree nodes in the order of first use
    digest      of all the rest

Invariants: no bit of a file can be changed without its being refused. Every field has one spelling and is bound to
the checkpoint or compared with the reader's trust; what is true of several tags alike (the same empty place in the
tree) is told apart by the digest, which guards against accidents only: whoever computes it anew can still state
nothing but what is true.

What each party learns: a reader learns what the file shows, plus hashes of neighbours in the trees. Not protected:
freshness beyond `max_age`; whoever shows a file chooses the moment of which it speaks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ledger.proofs.state import Final, ProvenState, check_header, final
from ledger.proofs.statements import STATEMENTS, Absence, Finding, Presence, Statement, name_of
from ledger.proofs.trust import Trust, exactly, malformed, unhex
from ledger.proofs.verdict import Verdict
from protocol import canonical
from protocol.errors import ProtocolError, SignatureInvalid

KIND = "concordat-proof"
VERSION = 1
MAX_PROOF = 4 << 20
"""Bytes of a file that is read."""

MAX_AGE = 86_400
"""Seconds after which a statement is too old, unless the reader says otherwise."""


@dataclass(frozen=True)
class Proof:
    """A file's content; nothing of it is verified."""

    statement: Statement
    ledger: Trust
    checkpoint: str
    header: bytes
    account: tuple[bytes, ...]
    storage: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the file's bytes."""
        content: dict[str, Any] = {
            "kind": KIND,
            "version": VERSION,
            "statement": name_of(self.statement),
            "subject": self.statement.to_json(),
            "ledger": self.ledger.to_json(),
            "checkpoint": self.checkpoint,
            "header": self.header.hex(),
            "nodes": {
                "account": [each.hex() for each in self.account],
                "storage": [each.hex() for each in self.storage],
            },
        }
        return canonical.encode(sealed(content))

    @classmethod
    def decode(cls, data: bytes) -> Proof:
        """Read a file.

        Raises:
            ProtocolError: ``PROOF_SIZE``, ``PROOF_MALFORMED``, ``PROOF_DIGEST``, ``CANONICAL_BYTES``, or a
                field's own code.
        """
        if len(data) > MAX_PROOF:
            raise ProtocolError("PROOF_SIZE", f"A proof has at most {MAX_PROOF >> 20} MB.")
        found = exactly(
            canonical.decode(data),
            *("kind", "version", "statement", "subject", "ledger", "checkpoint", "header", "nodes", "digest"),
        )
        if found["kind"] != KIND or type(found["version"]) is not int or found["version"] != VERSION:
            raise malformed()
        if sealed(found) != found:
            raise ProtocolError("PROOF_DIGEST", "The file was damaged or changed.", "Ask for it again.")
        kind = STATEMENTS.get(found["statement"]) if isinstance(found["statement"], str) else None
        if kind is None or not isinstance(found["checkpoint"], str):
            raise malformed()
        nodes = exactly(found["nodes"], "account", "storage")
        return cls(
            kind.from_json(found["subject"]),
            Trust.from_json(found["ledger"]),
            found["checkpoint"],
            unhex(found["header"]),
            _nodes(nodes["account"]),
            _nodes(nodes["storage"]),
        )


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a file's content with the digest of all the rest."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    return {**rest, "digest": canonical.digest("ledger-proof", rest)}


def _nodes(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise malformed()
    return tuple(unhex(each) for each in value)


def verify(
    data: bytes,
    trust: Trust | str,
    *,
    now: int,
    max_age: int | None = MAX_AGE,
    removed: Collection[str] = (),
    tags: Collection[bytes] = (),
) -> Verdict:
    """Return what a proof proves.

    Args:
        data: the file's bytes.
        trust: the ledger, or its fingerprint.
        now: the reader's clock, Unix seconds.
        max_age: seconds that the block may be old, since status and revocation change; None for any age, which is
            enough for when a document was anchored.
        removed: members whose signature no longer counts.
        tags: tags that the statement must be about, all of them and no others, where the reader derived them.

    Raises:
        ProtocolError: ``PROOF_…``, ``NOTE_…``, ``CHECKPOINT_…``, ``MERKLE_…``, ``CANONICAL_BYTES``: the file is not
            what it should be.
        SignatureInvalid: the signatures don't suffice, or it is another ledger's.
        LedgerError: ``PROOF_CLAIMED``, ``PROOF_NO_CLAIM``, ``PROOF_NOT_ANCHORED``: the opposite is true.
    """
    proof = Proof.decode(data)
    known = _trusted(proof.ledger, trust)
    covered = final(proof.checkpoint, known, now, removed)
    if max_age is not None:
        _check_age(covered, now, max_age)
    check_header(proof.header, covered.checkpoint)
    _check_tags(proof.statement, tags)
    state = ProvenState(covered, known, proof.account, proof.storage)
    finding = proof.statement.find(state)
    state.finish()
    return verdict(proof.statement, finding, covered, known)


def verdict(statement: Statement, finding: Finding, covered: Final, trust: Trust) -> Verdict:
    """Put a finding under its checkpoint."""
    return Verdict(
        statement=name_of(statement),
        status=finding.status,
        grade=finding.grade,
        facts=finding.facts,
        proved=tuple(finding.proved),
        not_proved=tuple(finding.not_proved),
        block=covered.checkpoint.number,
        time=covered.checkpoint.time,
        signers=covered.signers,
        members=covered.members,
        fingerprint=trust.fingerprint,
    )


def _trusted(stated: Trust, trust: Trust | str) -> Trust:
    if isinstance(trust, Trust):
        trust.require(stated)
        return trust
    if stated.fingerprint != trust:
        raise SignatureInvalid(
            "PROOF_LEDGER",
            "The proof is of another ledger than the one with this fingerprint.",
            "Compare the fingerprint with the consortium by telephone.",
        )
    return stated


def _check_age(covered: Final, now: int, max_age: int) -> None:
    if covered.checkpoint.time < now - max_age:
        raise ProtocolError(
            "PROOF_STALE",
            "The proof speaks of a block that is too old to rely on.",
            "Ask for a fresh one, or say which age you accept.",
        )


def _check_tags(statement: Statement, expected: Collection[bytes]) -> None:
    if not expected:
        return
    if isinstance(statement, Absence):
        held = {tag for tags in statement.tags for tag in tags}
    elif isinstance(statement, Presence):
        held = set(statement.tags)
    else:
        held = set()
    if held != set(expected):
        raise ProtocolError("PROOF_OTHER_TAGS", "The proof is about other tags than the ones that you named.")
