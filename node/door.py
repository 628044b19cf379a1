"""The egress door: the only code that releases bytes from a node.

Whatever leaves goes through :meth:`Door.release`, which writes the signed record first and hands the bytes over
after. Two ways lead out: an object left for a peer on the exchange, and the reply to a Flower message, which the
shim passes on. An audit hook (``node.guard``) ends a process that tries a third.
"""

from __future__ import annotations

from collections.abc import Callable

from node.egress import EgressLog, Record
from node.exchange import Exchange
from protocol.errors import ConfigurationError


class Door:
    """The way out of a node."""

    def __init__(self, log: EgressLog, exchange: Exchange | None) -> None:
        self._log, self._exchange = log, exchange

    def leave(
        self, recipient: str, name: str, data: bytes, *, purpose: str, job: str, field_class: str
    ) -> Record:
        """Record a release, then leave an object for a peer on the exchange.

        Raises:
            Unavailable: the exchange doesn't answer; the record stands all the same.
        """
        exchange = self._exchange
        if exchange is None:
            raise ConfigurationError("DOOR_CLOSED", "this process has no connection to the exchange")
        return self.release(
            recipient,
            data,
            lambda payload: exchange.put(recipient, name, payload),
            purpose=purpose,
            job=job,
            field_class=field_class,
        )

    def release(
        self,
        recipient: str,
        data: bytes,
        deliver: Callable[[bytes], None],
        *,
        purpose: str,
        job: str,
        field_class: str,
    ) -> Record:
        """Record a release, then hand the bytes to ``deliver``."""
        record = self._log.append(
            peer=recipient, purpose=purpose, job=job, field_class=field_class, payload=data
        )
        deliver(data)
        return record
