"""What the outbox demands of a key and of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Signer(Protocol):
    """A key that signs transactions; it lies in memory, a keystore or a signing service."""

    @property
    def address(self) -> bytes:
        """The sender's address, 20 bytes."""
        ...

    def sign(self, nonce: int, to: bytes, data: bytes, gas: int) -> bytes:
        """Return a raw transaction of no value and no fee for the chain that the key is for."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a transaction stands.

    Attributes:
        block: number of its block.
        block_hash: 32 bytes.
    """

    block: int
    block_hash: bytes


@dataclass(frozen=True)
class Receipt:
    """What executing a transaction gave.

    Attributes:
        place: where it stands.
        succeeded: whether the contract took the call.
    """

    place: Place
    succeeded: bool


class LedgerChain(Protocol):
    """A chain that takes raw transactions."""

    def send(self, raw: bytes) -> Place | None:
        """Send a transaction; return its place if the chain vouches for one already.

        Sending the same bytes again is harmless.

        Raises:
            LedgerError: the chain will never take these bytes (``TX_…``).
            Unavailable: unknown; send again.
        """
        ...

    def receipt(self, transaction: bytes) -> Receipt | None:
        """Return the receipt of a transaction hash, or None if the chain has none (now).

        Raises:
            Unavailable: unknown.
        """
        ...

    def revert_data(self, transaction: bytes) -> bytes:
        """Return what a call that the contract refused returned.

        Raises:
            Unavailable: unknown.
        """
        ...

    def is_final(self, place: Place) -> bool:
        """Return whether a block is final and is the one that stands there.

        Raises:
            LedgerError: ``LEDGER_HALTED``; ``LEDGER_FORKED`` if another block is final there.
            Unavailable: unknown: nothing is final, or what is known is too old.
        """
        ...


class FinalView(Protocol):
    """What a decision may rest on: the state under a final block, or an error that means unknown."""

    def final_height(self) -> int:
        """Return the number of the newest final block.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: unknown.
        """
        ...

    def view(self, to: bytes, data: bytes) -> tuple[bytes, int]:
        """Return what a contract's view gives at the newest final block, and that block's number.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: unknown, never "free".
        """
        ...


class Chain(LedgerChain, FinalView, Protocol):
    """A chain to send to and to judge by."""

    def count(self, sender: bytes) -> int:
        """Return how many transactions of a sender the chain has executed.

        Raises:
            Unavailable: unknown.
        """
        ...
