"""Statements that contradict each other, and how anybody checks that they do.

A *statement* is a checkpoint that the operator signed, perhaps with its timestamp ("at this time my log had no more
than these records") and with members' cosignatures. Two of the operator's statements are a proof of misconduct if

    TWO_HISTORIES   they name one size, or one predecessor, with different texts; or the later one is older
    CLOCK           at time t it stated a size, and it signed a larger log whose last block is older than t by more
                    than the tolerance: it withheld that block from somebody, or dated it back; or a checkpoint's
                    block lies in the future of the operator's own timestamp by more than the tolerance
    WRONG_LEDGER    a checkpoint under this ledger's origin names another chain, genesis, registry or member set

Such a proof needs no trust in who presents it (`judge`). Three further kinds are a member's own finding, kept with
the notes that led to it, and not taken over by others, who look for themselves:

    REPLAY_DIFFERS      the log does not replay to what the checkpoint states
    RECORD_FORBIDDEN    the log holds a record that no honest operator writes
    NOT_AN_EXTENSION    the operator offers no chain of checkpoints from the member's last one

Not protected: an operator that answers nobody; that is an outage, and finality grows old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.engine.genesis import Genesis
from protocol import canonical
from protocol.checkpoint import COSIGNATURE, Checkpoint, Note, cosigners, verify
from protocol.errors import ProtocolError, SignatureInvalid

PROVABLE = frozenset({"TWO_HISTORIES", "CLOCK", "WRONG_LEDGER"})
OWN = frozenset({"REPLAY_DIFFERS", "RECORD_FORBIDDEN", "NOT_AN_EXTENSION"})


@dataclass(frozen=True)
class Statement:
    """A verified note.

    Attributes:
        note: as received.
        checkpoint: its content.
        time: the operator's timestamp in Unix seconds, or None.
        members: timestamps by member whose cosignature stands on it.
    """

    note: Note
    checkpoint: Checkpoint
    time: int | None
    members: Mapping[str, int]

    @property
    def size(self) -> int:
        """Records in the log."""
        return self.checkpoint.size


def read(text: str, genesis: Genesis) -> Statement:
    """Return the statement of a note once every known signature on it has been verified.

    Raises:
        ProtocolError: ``NOTE_MALFORMED``, ``CHECKPOINT_MALFORMED``, ``CHECKPOINT_ORIGIN``.
        SignatureInvalid: ``NOTE_UNSIGNED`` without the operator's signature, ``NOTE_SIGNATURE``.
    """
    note = Note.decode(text)
    verify(note, genesis.operator_key())
    checkpoint = Checkpoint.from_text(note.text)
    if checkpoint.origin != genesis.origin:
        raise ProtocolError("CHECKPOINT_ORIGIN", "A checkpoint is of another ledger.")
    try:
        time: int | None = verify(note, genesis.operator_key(COSIGNATURE))
    except SignatureInvalid as error:
        if error.code != "NOTE_UNSIGNED":
            raise
        time = None
    return Statement(note, checkpoint, time, cosigners(note, genesis.member_keys()))


def contradiction(first: Statement, second: Statement, genesis: Genesis) -> str | None:
    """Return which provable kind of misconduct two statements of the operator are, or None."""
    for each in (first, second):
        if _foreign(each.checkpoint, genesis):
            return "WRONG_LEDGER"
        if each.time is not None and each.checkpoint.time > each.time + genesis.clock_tolerance:
            return "CLOCK"
    small, large = sorted((first, second), key=lambda each: each.size)
    a, b = small.checkpoint, large.checkpoint
    if a.text != b.text and (a.size == b.size or a.previous == b.previous or a.time > b.time):
        return "TWO_HISTORIES"
    if small.size < large.size and small.time is not None and b.time < small.time - genesis.clock_tolerance:
        return "CLOCK"
    return None


def _foreign(checkpoint: Checkpoint, genesis: Genesis) -> bool:
    registry = genesis.registry
    return (
        checkpoint.chain_id != genesis.chain.chain_id
        or checkpoint.genesis != genesis.digest
        or checkpoint.members != genesis.member_set
        or checkpoint.registry != (None if registry is None else (registry.address, registry.code_hash))
    )


@dataclass(frozen=True)
class Evidence:
    """What made a member stop.

    Attributes:
        kind: one of `PROVABLE` or `OWN`.
        notes: the notes that contradict each other, or led to the finding.
        detail: for people; holds no transaction.
    """

    kind: str
    notes: tuple[str, ...]
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as a JSON object."""
        return {"kind": self.kind, "notes": list(self.notes), "detail": self.detail}

    @classmethod
    def from_json(cls, value: Any) -> Evidence:
        """Read evidence; nothing is verified.

        Raises:
            ProtocolError: ``EVIDENCE_MALFORMED``.
        """
        try:
            kind, notes, detail = value["kind"], value["notes"], value["detail"]
            found = cls(str(kind), tuple(str(note) for note in notes), str(detail)[:500])
        except (KeyError, TypeError) as error:
            raise ProtocolError("EVIDENCE_MALFORMED", "The bytes are no evidence.") from error
        if found.kind not in PROVABLE | OWN or not 1 <= len(found.notes) <= 2:
            raise ProtocolError("EVIDENCE_MALFORMED", "The bytes are no evidence.")
        return found

    @property
    def identifier(self) -> str:
        """A digest to name the evidence by."""
        return canonical.digest("ledger-evidence", self.to_json())


def judge(found: Evidence, genesis: Genesis) -> None:
    """Check that evidence proves misconduct of the operator by itself.

    Raises:
        ProtocolError: ``EVIDENCE_UNPROVEN``, or the code of a malformed note.
        SignatureInvalid: if a note is not the operator's.
    """
    statements = [read(note, genesis) for note in found.notes]
    if found.kind not in PROVABLE or contradiction(statements[0], statements[-1], genesis) != found.kind:
        raise ProtocolError("EVIDENCE_UNPROVEN", "The notes do not contradict each other.")
