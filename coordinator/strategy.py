"""Federated averaging over numbers that the server can't read: Flower's FedAvg with the ring in place of floats.

``configure_train`` asks the banks of the signed roster, found by public key, and nobody else (the stock strategy
samples from everyone who is online). ``aggregate_train`` adds ring elements mod 2^64 (the stock one multiplies by
weights from row counts in the clear); row counts travel inside the masked vector. The sum stands under a group mask
that only the banks know. Complete or void: without every bank of the roster there is no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from coordinator.fleet import Fleet, Place
from protocol import ring
from protocol.canonical import encode
from protocol.opening import Opening, Roster

TOTAL = "total"


class MaskedFedAvg(FedAvg):
    """FedAvg over one signed roster.

    Args:
        fleet: signs the requests and lets checked answers through.
        roster: the banks of the attempt.
        place: where in the job the rounds belong.
        opened: rounds whose totals stand already; training goes on after them.
        seconds: a round's deadline.
        keep: called with (round, total) before a total is given out.
    """

    def __init__(
        self,
        fleet: Fleet,
        roster: Roster,
        place: Place,
        opened: int,
        seconds: int,
        keep: Callable[[int, bytes], None],
    ) -> None:
        count = len(roster.banks)
        super().__init__(
            fraction_evaluate=0.0, min_train_nodes=count, min_evaluate_nodes=count, min_available_nodes=count
        )
        self._fleet, self._roster, self._place = fleet, roster, place
        self._opened, self._seconds, self._keep = opened, seconds, keep

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return one signed request per bank of the roster: the round and the last round's total."""
        round_ = self._opened + server_round
        total = total_of(arrays)
        head = {"round": round_, "roster": list(self._roster.banks), "seconds": self._seconds}
        return self._fleet.requests(
            "train", {bank: framed(head, total) for bank in self._roster.banks}, self._place
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add the masked updates of exactly the roster.

        Raises:
            JobVoid: a bank's update is missing.
            ProtocolError: a stranger's is among them, or lengths differ.
        """
        round_ = self._opened + server_round
        updates = dict(self._fleet.read(reply, self._place) for reply in replies)
        length = len(next(iter(updates.values()), b"")) // 8
        opening = Opening(self._roster, "update", round_, length)
        for bank, data in updates.items():
            opening.add(bank, ring.from_bytes(data, length))
        total = opening.total()
        self._keep(round_, ring.to_bytes(total))
        return ArrayRecord({TOTAL: Array(np.asarray(total))}), None


def arrays_of(total: bytes) -> ArrayRecord:
    """Return a total as Flower's arrays; none before the first round."""
    return ArrayRecord({TOTAL: Array(ring.from_bytes(total, len(total) // 8))})


def total_of(arrays: ArrayRecord) -> bytes:
    """Return the bytes of a total."""
    return ring.to_bytes(np.asarray(arrays[TOTAL].numpy(), dtype=np.uint64))


def framed(head: dict[str, object], body: bytes = b"") -> bytes:
    """Return a request's payload: a JSON head behind its length, then bytes."""
    text = encode(head)
    return len(text).to_bytes(4, "big") + text + body
