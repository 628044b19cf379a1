"""What a verified proof says, for programs in codes and for people in words.

Four verdicts stay apart: *integrity* (the file is whole and follows from the checkpoint), *issuer* (the checkpoint is
this consortium's), *status* and *grade* (what the registry says of the claim). Words claim no more than the registry
knows: whether a debt is real, what it amounts to, and what happened elsewhere or later are never among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What the registry says."""

    ABSENT = "ABSENT"
    DRAFT = "DRAFT"
    LIVE = "LIVE"
    FROZEN = "FROZEN"
    SETTLED = "SETTLED"
    VOID = "VOID"
    LAPSED = "LAPSED"
    REVOKED = "REVOKED"


class Grade(StrEnum):
    """Who stands behind a claim."""

    NONE = "NONE"
    ATTESTED = "ATTESTED"
    CONFIRMED = "CONFIRMED"


@dataclass(frozen=True)
class Verdict:
    """A verified statement. Whoever holds one may rely on integrity and issuer: verifiers raise otherwise.

    Attributes:
        statement: ``absence``, ``presence`` or ``document``.
        status: as of the block.
        grade: of the claim.
        facts: what was proved, by name.
        proved: the same in sentences.
        not_proved: what nobody should read into it.
        block: number of the block.
        time: its Unix time in seconds.
        signers: members whose cosignatures count.
        members: how many members there are.
        fingerprint: of the ledger that was trusted.
    """

    statement: str
    status: Status
    grade: Grade
    facts: dict[str, Any]
    proved: tuple[str, ...]
    not_proved: tuple[str, ...]
    block: int
    time: int
    signers: tuple[str, ...]
    members: int
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {
            "statement": self.statement,
            "integrity": "VALID",
            "issuer": "TRUSTED",
            "status": str(self.status),
            "grade": str(self.grade),
            "facts": self.facts,
            "proved": list(self.proved),
            "notProved": list(self.not_proved),
            "asOf": {"block": self.block, "time": self.time},
            "cosigned": {"by": list(self.signers), "members": self.members},
            "ledger": self.fingerprint,
        }

    def text(self) -> str:
        """Return the verdict as people read it."""
        lines = [
            f"Integrity  VALID: nothing in the file was changed, and it follows from block {self.block}.",
            f"Issuer     TRUSTED: the operator and {len(self.signers)} of {self.members} members signed that block's "
            "checkpoint.",
            f"Status     {self.status}",
            f"Grade      {self.grade}",
            f"As of      {moment(self.time)}",
            *(
                f"Field      {_plain(name)} = {_plain(value)}"
                for name, value in self.facts.get("fields", {}).items()
            ),
            "",
            "Proved:",
            *(f"  - {each}" for each in self.proved),
            "Not proved:",
            *(f"  - {each}" for each in self.not_proved),
        ]
        return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a document's text without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def moment(seconds: int) -> str:
    """Return a time in words, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def share(ppm: int) -> str:
    """Return a share of the payable in words."""
    return f"{ppm / 10_000:.4f} %"
