"""Requests to parties that take part in no Flower round: left in their mailbox on the exchange, answered there.

The envelopes are the same as those that Flower carries to banks, and a node answers a repeat with what it kept.
"""

from __future__ import annotations

from node.exchange import Exchange
from protocol.envelope import Envelope
from protocol.errors import Unavailable
from protocol.mailbox import answer_name, request_name


class Mail:
    """The coordinator's mailboxes of requests.

    Args:
        exchange: the coordinator's connection.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def ask(self, party: str, data: bytes) -> None:
        """Leave a request; it replaces an earlier one."""
        self._exchange.put(party, request_name(party), data)

    def answer(self, party: str, request: Envelope) -> bytes | None:
        """Return the answer to a request if it is there."""
        place = (request.job, request.attempt, request.generation, request.sequence)
        try:
            return self._exchange.poll(party, answer_name(*place, party))
        except Unavailable:
            # Whatever keeps it from being read, the request's deadline ends the wait.
            return None

    def clear(self, party: str) -> None:
        """Empty a mailbox, so that a node that comes back later doesn't take up what is over."""
        self._exchange.put(party, request_name(party), b"")
