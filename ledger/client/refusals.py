"""From a call's end to what a service answers: nothing, a refusal with a stable code, or "unknown".

The errors raised here turn into RFC 9457 problems by `ConcordatError.problem`; their messages hold no id and no
value.
"""

from __future__ import annotations

from ledger.abi import decode_refusal
from ledger.client.submission import Answer, Submission, view
from protocol.errors import LedgerError, Unavailable


def code_of(data: bytes) -> str:
    """Return the stable code of a contract's revert data, such as ``LEDGER_OVER_CAPACITY``."""
    return decode_refusal(data).code


def require_done(submission: Submission, *, fresh: bool) -> None:
    """Return if the call is final and was taken.

    Args:
        submission: the call.
        fresh: `Pump.fresh`.

    Raises:
        LedgerError: with the refusal's code if it was refused for good.
        Unavailable: ``LEDGER_PENDING`` if it is on its way, ``LEDGER_UNCERTAIN`` if that can't be told.
    """
    answer = view(submission, fresh=fresh)
    if answer is Answer.FAILED:
        words = submission.refusal.removeprefix("LEDGER_").removeprefix("TX_").replace("_", " ").lower()
        raise LedgerError(
            submission.refusal or "LEDGER_REFUSED", f"The ledger refused: {words or 'no reason'}."
        )
    if answer is Answer.PENDING:
        raise Unavailable("LEDGER_PENDING", "The call is on its way and not final yet.", "Ask again.")
    if answer is Answer.UNKNOWN:
        raise Unavailable(
            "LEDGER_UNCERTAIN",
            "What became of the call can't be told now.",
            "Take nothing for granted, and don't send it under another key.",
        )
