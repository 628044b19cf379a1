"""What is known of a call on its way, and what may happen to it next. No I/O.

States::

    QUEUED    signed and durable here; perhaps sent, perhaps not
    INCLUDED  in a block: the gateway's signed acknowledgement was verified, or the chain gave a receipt
    FINAL     its block is under a final checkpoint (or deep enough, on a chain of validators)
    REFUSED   the gateway will never take it; its nonce is filled otherwise

    QUEUED → INCLUDED → FINAL,  QUEUED → REFUSED,  INCLUDED → QUEUED (its block was replaced: raw chains only)

A final call may still have been refused *by the contract*: `succeeded` tells, and `refusal` why.

`view` is what callers see. It fails closed: while chain or checkpoint are stale, everything that is not FINAL is
UNKNOWN, and UNKNOWN must never be taken for "free to pledge".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol.errors import LedgerError


class State(StrEnum):
    """Where a call stands."""

    QUEUED = "queued"
    INCLUDED = "included"
    FINAL = "final"
    REFUSED = "refused"


class Answer(StrEnum):
    """What a caller may rely on."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


_ALLOWED = {
    (State.QUEUED, State.INCLUDED),
    (State.QUEUED, State.REFUSED),
    (State.INCLUDED, State.FINAL),
    (State.INCLUDED, State.QUEUED),
}


@dataclass(frozen=True)
class Submission:
    """One call.

    Attributes:
        key: the caller's idempotency key.
        sender: address, 20 bytes.
        nonce: the sender's count.
        raw: signed transaction.
        hash: its hash, 32 bytes.
        state: where it stands.
        block: number of its block, or None.
        block_hash: hash of its block, or b"".
        succeeded: what the receipt says, or None.
        refusal: stable code of a refusal by gateway or contract, or "".
        attempts: times that it was sent.
    """

    key: str
    sender: bytes
    nonce: int
    raw: bytes
    hash: bytes
    state: State
    block: int | None = None
    block_hash: bytes = b""
    succeeded: bool | None = None
    refusal: str = ""
    attempts: int = 0


def check_step(before: State, after: State) -> None:
    """Refuse a step that the states don't allow.

    Raises:
        LedgerError: ``OUTBOX_STEP``.
    """
    if before is not after and (before, after) not in _ALLOWED:
        raise LedgerError("OUTBOX_STEP", f"A call that is {before} can't become {after}.")


def view(submission: Submission, *, fresh: bool) -> Answer:
    """Return what a caller may rely on.

    Args:
        submission: the call.
        fresh: whether chain and checkpoint are recent enough to judge by.
    """
    if submission.state is State.FINAL:
        return Answer.DONE if submission.succeeded else Answer.FAILED
    if submission.state is State.REFUSED:
        return Answer.FAILED
    return Answer.PENDING if fresh else Answer.UNKNOWN
