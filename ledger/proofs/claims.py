"""The state of a claim, read from storage words as the contract's own ``statusOf`` computes it."""

from __future__ import annotations

from dataclasses import dataclass

from ledger import storage
from ledger.commitments import FULL, WEEK
from ledger.proofs.state import State
from ledger.proofs.verdict import Grade, Status
from protocol.errors import ProtocolError

SHORT, CONFLICT, DISPUTED, HOLD = 1, 2, 4, 8
FLAGS = {SHORT: "SHORT", CONFLICT: "CONFLICT", DISPUTED: "DISPUTED", HOLD: "HOLD"}
_ATTESTED, _CONFIRMED = 1, 2
_LIVE, _SETTLED, _VOID = 0, 1, 2
_CONTEST_OVER = (3, 4)  # withdrawn, lost


@dataclass(frozen=True)
class Claim:
    """A claim as it counts at a block.

    Attributes:
        id: 32 bytes.
        fields: the packed slot.
        flags: names of those that hold.
        status: in one word.
        grade: who stands behind it.
    """

    id: bytes
    fields: dict[str, int]
    flags: tuple[str, ...]
    status: Status
    grade: Grade

    @property
    def holds_tags(self) -> bool:
        """Whether tags that lead here are taken; a settled claim keeps them."""
        return self.status not in (Status.VOID, Status.LAPSED, Status.DRAFT)

    @property
    def free(self) -> int:
        """What could still be pledged if nothing froze it, in ppm."""
        live = self.status in (Status.LIVE, Status.FROZEN)
        return max(0, self.fields["cap"] - self.fields["pledged"]) if live else 0


def claim_slots(claim: bytes) -> list[int]:
    """Return the slots that `read_claim` looks at first."""
    return [storage.mapped("_claims", claim)]


def read_claim(state: State, claim: bytes) -> Claim:
    """Return a claim; one that was never opened has the status DRAFT."""
    c = storage.unpack(storage.CLAIM, state.word(storage.mapped("_claims", claim)))
    if c["grade"] == 0:
        return Claim(claim, c, (), Status.DRAFT, Grade.NONE)
    grade = Grade.ATTESTED if c["grade"] == _ATTESTED else Grade.CONFIRMED
    flags = c["flags"] & (SHORT | CONFLICT)
    if flags & CONFLICT and _contest_over(state, claim):
        flags &= ~CONFLICT
    flags |= DISPUTED if c["disputeUntil"] > state.time else 0
    flags |= HOLD if c["holdUntil"] > state.time else 0
    named = tuple(name for bit, name in FLAGS.items() if flags & bit)
    if c["end"] == _SETTLED:
        status = Status.SETTLED
    elif c["end"] == _VOID:
        status = Status.VOID
    elif grade is Grade.ATTESTED and state.time // WEEK > c["lapseWeek"]:
        status = Status.LAPSED
    else:
        status = Status.FROZEN if named else Status.LIVE
    return Claim(claim, c, named, status, grade)


def _contest_over(state: State, claim: bytes) -> bool:
    contender = state.word(storage.mapped("_contests", claim)).to_bytes(32, "big")
    last = state.word(storage.mapped("_contenders", contender) + 3)
    return storage.unpack(storage.CONTENDER_END, last)["status"] in _CONTEST_OVER


@dataclass(frozen=True)
class Version:
    """What this version of the contract is in.

    Attributes:
        oldest: oldest live epoch.
        newest: newest live epoch.
        retired: whether the next version has taken over.
        first: whether there is no version before, whose live claims would count here too.
    """

    oldest: int
    newest: int
    retired: bool
    first: bool


def version_slots() -> list[int]:
    """Return the slots that `read_version` looks at."""
    return [storage.variable(label).slot for label in ("_oldestEpoch", "_predecessor")]


def read_version(state: State) -> Version:
    """Return epochs, retirement and predecessor.

    Raises:
        ProtocolError: ``PROOF_EPOCHS`` if the epochs make no sense.
    """
    settings = state.word(storage.variable("_oldestEpoch").slot)
    before = storage.number(state.word(storage.variable("_predecessor").slot), "_predecessor", 160)
    oldest = storage.number(settings, "_oldestEpoch", 16)
    newest = storage.number(settings, "_newestEpoch", 16)
    retired_at = storage.number(settings, "_retiredAt", 64)
    if not 1 <= oldest <= newest:
        raise ProtocolError("PROOF_EPOCHS", "The registry's epochs make no sense.")
    return Version(oldest, newest, retired_at != 0 and state.time >= retired_at, before == 0)


@dataclass(frozen=True)
class Lien:
    """One lien.

    Attributes:
        ppm: what is left of it.
        live: whether it counts.
        frozen_until: Unix seconds until which its holder froze it, or 0.
    """

    ppm: int
    live: bool
    frozen_until: int


def lien_slot(claim: bytes, lien: bytes) -> int:
    """Return the first slot of a lien."""
    return storage.mapped("_liens", claim, lien)


def read_lien(state: State, claim: bytes, lien: bytes) -> Lien:
    """Return a lien of a claim."""
    found = storage.unpack(storage.LIEN, state.word(lien_slot(claim, lien)))
    return Lien(found["ppm"], found["status"] == 1, found["frozenUntil"])


def account_of(state: State, claim: bytes) -> dict[str, int]:
    """Return where a claim's capacity went, in ppm, and the whole that it began with."""
    found = storage.unpack(storage.ACCOUNT, state.word(storage.mapped("_accounts", claim)))
    return {
        "original": FULL - found["absent"],
        **{name: found[name] for name in ("settled", "transferred", "credited")},
    }
