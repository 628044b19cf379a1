"""The one function that derives every key, pad and mask.

Specification: ``X(key, label) = HKDF-Expand(key, info, 32)`` (RFC 5869, SHA-256) with ::

    info = lp("concordat/v1") ‖ lp(label) ‖ lp(J) ‖ lp(attempt) ‖ lp(round)
           ‖ lp(bank) ‖ lp(partner) ‖ lp(vector)

where a pair of banks stands as ``lp(min) ‖ lp(max)`` in the bank's place. Streams are AES-256-CTR (NIST SP
800-38A) under the derived key from a zero counter block.

Invariants:
    - Derived keys of different labels are independent: ``lp`` makes info injective, and a pair has one part
      more than a single bank, so neither can be read as the other.
    - A (key, label) masks exactly one byte string of an owner. A pad used twice opens the difference of what
      it masked: a label without the round shows the difference of two rounds. `LabelLedger` proves it over a
      run.
    - The two banks of a pair use the same pad with opposite signs, each for its one message.

Not protected: whoever has the key derives everything below it; keys of a job are erased at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from protocol.canonical import VERSION, lp
from protocol.errors import ProtocolError

KEY_BYTES = 32


@dataclass(frozen=True)
class Label:
    """What a derived key is for.

    Attributes:
        label: name of the use, such as ``"h/update"``.
        job: the manifest's digest J.
        attempt: attempt of the stage.
        round: Flower round, 0 where there is none.
        bank: a bank, a pair of banks in any order, or "".
        partner: a data partner, or "".
        vector: which vector of the step, or "".
    """

    label: str
    job: str
    attempt: int = 0
    round: int = 0
    bank: str | tuple[str, str] = ""
    partner: str = ""
    vector: str = ""

    def __post_init__(self) -> None:
        if not self.label or not self.job:
            raise ProtocolError("LABEL_MALFORMED", "A label must name its use and its job.")
        for number in (self.attempt, self.round):
            if type(number) is not int or number < 0:
                raise ProtocolError("LABEL_MALFORMED", "Attempt and round of a label must be whole numbers.")
        if isinstance(self.bank, tuple) and (len(self.bank) != 2 or len(set(self.bank)) != 2):
            raise ProtocolError("LABEL_MALFORMED", "A pair in a label must be two different banks.")

    @property
    def info(self) -> bytes:
        """The bytes that go into HKDF-Expand."""
        banks = (self.bank,) if isinstance(self.bank, str) else (min(self.bank), max(self.bank))
        return lp(VERSION, self.label, self.job, self.attempt, self.round, *banks, self.partner, self.vector)


def derive(key: bytes, label: Label) -> bytes:
    """Return the 32 bytes of a label under a key.

    Args:
        key: 32 uniform bytes (from `secrets`, HKDF-Extract or this function).
        label: the use.

    Raises:
        ProtocolError: ``LABEL_KEY`` if the key has not 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ProtocolError("LABEL_KEY", f"A key to derive from must have {KEY_BYTES} bytes.")
    return HKDFExpand(algorithm=hashes.SHA256(), length=KEY_BYTES, info=label.info).derive(key)


def keystream(key: bytes, n: int) -> bytes:
    """Return the first n bytes of AES-256-CTR under a derived key.

    The counter block starts at zero, which is sound because a derived key makes one stream only.

    Raises:
        ProtocolError: ``LABEL_KEY`` if the key has not 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ProtocolError("LABEL_KEY", f"A stream's key must have {KEY_BYTES} bytes.")
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(n)) + encryptor.finalize()


def words(key: bytes, n: int) -> NDArray[np.uint64]:
    """Return n uniform elements of the ring mod 2^64: the key stream as little-endian words, shape (n,)."""
    return np.frombuffer(keystream(key, 8 * n), dtype="<u8").astype(np.uint64)


class LabelLedger:
    """Proves over a run that no (key, label) has masked two byte strings. Keeps hashes only."""

    def __init__(self) -> None:
        self._seen: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def record(self, key: bytes, label: Label, message: bytes, owner: str = "") -> None:
        """Note that a pad masks a message.

        Args:
            key: the key that the pad's key was derived from.
            label: the pad's label.
            message: the bytes that it masks.
            owner: whose message, when one ledger watches several parties: the two banks of a pair mask one
                message each with the same pad, by design.

        Raises:
            ProtocolError: ``LABEL_REUSED`` if the pad has masked another message. The same message again is
                a resend and harmless.
        """
        place = hashlib.sha256(lp("ledger", hashlib.sha256(key).digest(), label.info, owner)).digest()
        content = hashlib.sha256(message).digest()
        if self._seen.setdefault(place, content) != content:
            raise ProtocolError(
                "LABEL_REUSED", "A pad is about to mask a second message; their difference would be open."
            )


_LEDGER: ContextVar[LabelLedger | None] = ContextVar("concordat_label_ledger", default=None)


@contextmanager
def observe(ledger: LabelLedger) -> Iterator[LabelLedger]:
    """Have every use of a pad within the block recorded in a ledger (one thread or task)."""
    token = _LEDGER.set(ledger)
    try:
        yield ledger
    finally:
        _LEDGER.reset(token)


def used(key: bytes, label: Label, message: bytes, owner: str = "") -> None:
    """Tell the observing ledger, if there is one, that a pad masks a message; call it before masking.

    Raises:
        ProtocolError: ``LABEL_REUSED``, see `LabelLedger.record`.
    """
    ledger = _LEDGER.get()
    if ledger is not None:
        ledger.record(key, label, message, owner)
