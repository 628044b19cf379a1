"""Openings at one bank: the masked sums of an attempt, over its signed roster and under its group key.

Specification: training protocol, B9 and "Openings". A bank signs the attempt's roster, shares the group key with the
other banks, and opens sums by name: fixed point, a count in front, pair masks, and the group mask at the first bank.

Invariants:
    - The masked bytes of a name are kept before they are sent and sent again as they are.
    - What is opened once in a job (``STANDING``) is not masked again for another roster: its total is reused.
    - A total that doesn't count the roster's banks is refused.

What a bank learns: the totals. The server learns lengths and times.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bank_node.encoding import Bound
from node.role import Channel, Job
from protocol import masking, opening, ring, sealing
from protocol.canonical import encode, lp
from protocol.errors import ProtocolError
from protocol.labels import Label
from protocol.mailbox import COORDINATOR

ROSTER, GROUP, KNOTS, CENTRING, EDGES, HISTOGRAM, COMPARISON, UPDATE = (
    "roster",
    "group",
    "knots",
    "centring",
    "edges",
    "histogram",
    "comparison",
    "update",
)
MASKED, SEALED, SIGNED = "masked sum", "sealed key", "signature"
STANDING = (KNOTS, CENTRING, EDGES)
"""Openings that stand for the whole job: opened once, they are not masked again for another roster."""


class Openings:
    """One bank's openings in one attempt of a job."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self._job, self._channel = job, channel
        self._pairs = {bank: job.pair_key(bank) for bank in job.manifest.proposal.banks if bank != job.party}

    def pairs(self, other: str) -> dict[str, bytes]:
        """Return this bank's pair keys with the other banks and with one other party of the job."""
        return {**self._pairs, other: self._job.pair_key(other)}

    def sign_roster(self) -> None:
        """Sign the attempt's roster and check that every bank of it has signed the same."""
        for bank, body in self.gather(ROSTER, self._job.roster.body).items():
            if opening.Roster.from_body(body) != self._job.roster:
                raise ProtocolError("ROSTER_DIFFERS", f"{bank} has signed another roster than this bank.")

    def gather(self, kind: str, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Sign a statement; return what every bank of the attempt has stated of that kind."""
        job, channel = self._job, self._channel
        signed = encode(channel.sign(kind, body))
        channel.put(f"{kind}.{job.attempt}", signed)
        channel.send(COORDINATOR, kind, signed, SIGNED)
        collected = json.loads(channel.receive(COORDINATOR, kind))
        return {bank: channel.verify(kind, collected[bank], bank) for bank in job.roster.banks}

    def agree_group_key(self) -> None:
        """Draw or receive the key that only the banks of the attempt know."""
        job, channel = self._job, self._channel
        first, name = job.roster.banks[0], f"group.{job.attempt}"
        info = lp("concordat/v1", GROUP, job.id, job.attempt)
        if job.party == first:
            key = channel.once(name, lambda: secrets.token_bytes(32))
            for bank in job.roster.banks[1:]:
                public = bytes.fromhex(job.manifest.enlistment(bank).sealing_key)
                sealed = sealing.seal(public, key, info=info, aad=lp(first, bank))
                channel.send(bank, GROUP, sealed, SEALED)
            return

        def take() -> bytes:
            sealed = channel.receive(first, GROUP)
            return job.sealing_key.open(sealed, info=info, aad=lp(first, job.party))

        key = channel.once(name, take)
        if len(key) != 32:
            raise ProtocolError("GROUP_KEY", f"{first} sent a group key of a wrong length.")

    def open_sum(
        self, name: str, make: Callable[[], NDArray[np.float64]], bound: Bound
    ) -> NDArray[np.float64]:
        """Open a sum of real numbers in fixed point.

        Args:
            name: of the opening.
            make: this bank's summand; called at most once an attempt.
            bound: of an element at one bank.

        Raises:
            ProtocolError: the sum could wrap, or as ``open``.
        """
        ring.check_headroom(len(self._job.roster.banks), bound.limit, bound.fraction_bits)
        total = self.open(name, lambda: ring.encode(make(), bound.fraction_bits, bound.limit))
        return ring.decode(total, bound.fraction_bits)

    def open(self, name: str, make: Callable[[], NDArray[np.uint64]]) -> NDArray[np.uint64]:
        """Open a sum over the roster through the server, or reuse the total that an earlier attempt opened.

        Raises:
            ProtocolError: the total doesn't count the roster, or an earlier attempt's key is not this bank's.
        """
        job, channel = self._job, self._channel
        attempt = self._opened_in(name)
        if attempt == job.attempt:
            masked = channel.once(f"{name}.{attempt}", lambda: self.masked(name, make()))
            if channel.recall(f"{name}.{attempt}.total") is None:
                channel.send(COORDINATOR, name, masked, MASKED)
        total = channel.once(f"{name}.{attempt}.total", lambda: channel.receive(COORDINATOR, name))
        return self.unmasked(name, total, attempt, 0)

    def _opened_in(self, name: str) -> int:
        """Return the attempt whose total stands: what this bank has seen opened itself, then what it is told.

        Its own memory comes first: masked again over fewer banks, a sum would show the bank that is missing, so
        that no server can have that by saying that nothing was opened.
        """
        job = self._job
        if name in STANDING:
            for earlier in range(job.attempt):
                if self._channel.recall(f"{name}.{earlier}.total") is not None:
                    return earlier
            return job.opened.get(name, job.attempt)
        return job.attempt

    def masked(self, name: str, vector: NDArray[np.uint64], round_: int = 0) -> bytes:
        """Return a bank's summand under its masks; the caller keeps the bytes before it sends them."""
        job = self._job
        masked = masking.mask(
            opening.with_count(vector),
            own=job.party,
            banks=job.roster.banks,
            pair_keys=self._pairs,
            group_key=self.group(job.attempt),
            label=Label(f"h/{name}", job.id, job.attempt, round_),
        )
        return ring.to_bytes(masked)

    def unmasked(self, name: str, total: bytes, attempt: int, round_: int) -> NDArray[np.uint64]:
        """Return a total without the group mask and the count.

        Raises:
            ProtocolError: ``OPENING_COUNT`` if masks did not cancel.
        """
        job = self._job
        elements = ring.from_bytes(total, len(total) // 8)
        opened = masking.unmask_group(
            elements, group_key=self.group(attempt), label=Label(f"h/{name}", job.id, attempt, round_)
        )
        banks = job.roster if attempt == job.attempt else self._roster_of(attempt)
        return opening.checked(opened, banks)

    def group(self, attempt: int) -> bytes:
        """Return the group key of an attempt.

        Raises:
            ProtocolError: ``GROUP_KEY`` if this bank took no part in it.
        """
        key = self._channel.recall(f"group.{attempt}")
        if key is None:
            raise ProtocolError("GROUP_KEY", f"this bank took no part in attempt {attempt}")
        return key

    def _roster_of(self, attempt: int) -> opening.Roster:
        signed = self._channel.recall(f"roster.{attempt}")
        if signed is None:
            raise ProtocolError("ROSTER_UNKNOWN", f"this bank took no part in attempt {attempt}")
        return opening.Roster.from_body(json.loads(signed)["body"])
