"""The one error tree of the product.

::

    ConcordatError                code, public message, hint
    ├── ConfigurationError        a file or an option of an operator is wrong
    ├── DataError                 a table breaks the data contract: names file, row, field, never a value
    ├── ProtocolError             a peer's bytes break a rule; nothing of them was used
    │   ├── SignatureInvalid
    │   ├── Replayed
    │   └── WrongRecipient
    ├── NotApproved               this institution did not approve what it is asked to do
    ├── JobVoid                   a job or an attempt can't go on; the message states the cause
    ├── Unavailable               a peer, a relay or a store doesn't answer; trying again may help
    └── LedgerError               a refusal of the registry of receivables

Codes are stable, upper-case and never reused. A message is public: it never holds a borrower's data.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ConcordatError(Exception):
    """Any error that a user can act on.

    Args:
        code: stable identifier, such as ``"DATA_MISSING_FIELD"``.
        message: what happened, for people, without anybody's data.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f"\n  {self.hint}" if self.hint else "")

    def problem(self) -> dict[str, Any]:
        """Return the error as an RFC 9457 problem object."""
        return {
            "type": f"urn:concordat:problem:{self.code.lower().replace('_', '-')}",
            "title": self.code,
            "status": self.http_status,
            "detail": self.message,
            "hint": self.hint,
        }


class ConfigurationError(ConcordatError):
    """A configuration file or an option is wrong."""

    exit_code = 2
    http_status = 400


class DataError(ConcordatError):
    """A table breaks the data contract."""

    exit_code = 3
    http_status = 422


class ProtocolError(ConcordatError):
    """Bytes of a peer break a rule of the protocol; nothing of them was used."""

    exit_code = 4
    http_status = 400


class SignatureInvalid(ProtocolError):
    """A signature does not verify under the key that should have made it."""

    http_status = 403


class Replayed(ProtocolError):
    """A message was seen before, or comes out of its order."""

    http_status = 409


class WrongRecipient(ProtocolError):
    """A message is addressed to somebody else, or belongs to another job or attempt."""

    http_status = 403


class NotApproved(ConcordatError):
    """The institution has not approved this job, this code or this contract."""

    exit_code = 5
    http_status = 403


class JobVoid(ConcordatError):
    """A job or an attempt can't go on; the message states the cause."""

    exit_code = 6
    http_status = 409


class Unavailable(ConcordatError):
    """A peer, a relay or a store doesn't answer."""

    exit_code = 7
    http_status = 503


class LedgerError(ConcordatError):
    """The registry of receivables refuses an action."""

    exit_code = 8
    http_status = 409
