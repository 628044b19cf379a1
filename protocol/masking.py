"""Pairwise masks and the group mask: the server adds what it can't read.

Specification (pairwise masks after Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving
Machine Learning", CCS 2017, without its dropout recovery: here an opening is complete or void). Bank i of the
sorted roster sends, mod 2^64 ::

    x_i + Σ_{j > i} PRG(k_ij) − Σ_{j < i} PRG(k_ij) + [i first]·PRG(group key)

with k_ij derived by `protocol.labels` from the pair's key. The pair's key is HKDF-SHA256 of the X25519 secret
(RFC 7748), bound to the job, both names and both public keys.

Invariants:
    - Masks cancel only in the sum over the complete roster; any other sum is uniform.
    - The group mask is added by the first bank of the sorted roster *only*: were it added by all n, the
      server would see n·G, whose low bits are known for even n.
    - Every label carries job, attempt and round, so a pad is used for one vector.

What each party learns: the server the roster and lengths; each bank the sum over the roster, hence n − 1
colluding banks the last one's vector (differential privacy is the answer to that, not masks). Not protected:
a bank may send any vector; who takes part is public. A bank must not mask under two rosters of one attempt
(`protocol.opening.RosterBook`): the labels don't tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocol import labels, ring
from protocol.canonical import VERSION, lp
from protocol.errors import ProtocolError
from protocol.labels import Label

MINIMUM_BANKS = 3


class MaskKey:
    """A bank's X25519 key for pairwise masks; one per job."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"MaskKey({self.public.hex()[:16]}…)"

    @classmethod
    def generate(cls) -> MaskKey:
        """Draw a new key from the operating system's generator."""
        return cls(X25519PrivateKey.generate())

    @property
    def public(self) -> bytes:
        """The 32 bytes that stand in the enlistment."""
        return self._key.public_key().public_bytes_raw()

    def to_bytes(self) -> bytes:
        """Return the private key; the caller stores it encrypted and erases it at the job's end."""
        return self._key.private_bytes_raw()

    @classmethod
    def from_bytes(cls, data: bytes) -> MaskKey:
        """Restore a key.

        Raises:
            ProtocolError: ``MASK_KEY`` if it has not 32 bytes.
        """
        try:
            return cls(X25519PrivateKey.from_private_bytes(data))
        except (ValueError, TypeError) as error:
            raise ProtocolError("MASK_KEY", "A private mask key must have 32 bytes.") from error

    def agree(self, own: str, peer: str, peer_public: bytes, job: str) -> bytes:
        """Return the 32-byte key that this bank and a peer share in a job.

        Args:
            own: this bank's name.
            peer: the peer's name.
            peer_public: the peer's mask key from its signed enlistment.
            job: the manifest's digest J.

        Raises:
            ProtocolError: ``MASK_KEY`` if the peer's key is malformed, of small order (all-zero secret,
                RFC 7748 §6.1) or this bank's own, or the peer is this bank.
        """
        if own == peer or peer_public == self.public:
            raise ProtocolError("MASK_KEY", "A bank can't share a mask with itself.")
        try:
            secret = self._key.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except (ValueError, TypeError) as error:
            raise ProtocolError(
                "MASK_KEY", f"The mask key of {peer} is malformed or of small order."
            ) from error
        (low, low_key), (high, high_key) = sorted(((own, self.public), (peer, peer_public)))
        info = lp(VERSION, "mask-key", job, low, high, low_key, high_key)
        return HKDF(algorithm=hashes.SHA256(), length=labels.KEY_BYTES, salt=None, info=info).derive(secret)


def _check(label: Label, vector: NDArray[np.uint64]) -> None:
    if vector.dtype != np.uint64 or vector.ndim != 1:
        raise ProtocolError(
            "RING_ELEMENTS", "A vector to be masked must be one row of unsigned 64-bit words."
        )
    if label.bank != "":
        raise ProtocolError("LABEL_MALFORMED", "The masks fill in the banks of a label themselves.")


def mask(
    vector: NDArray[np.uint64],
    *,
    own: str,
    banks: Sequence[str],
    pair_keys: Mapping[str, bytes],
    group_key: bytes | None,
    label: Label,
) -> NDArray[np.uint64]:
    """Return a bank's vector under its masks; the input stays as it is.

    Args:
        vector: ring elements, shape (n,).
        own: this bank.
        banks: the complete roster, this bank included, in any order (T is among them where it has a mask).
        pair_keys: key from `MaskKey.agree` for every other member.
        group_key: 32 bytes that only the readers know, or None if the server may read the sum.
        label: use, job, attempt, round, vector; without banks.

    Raises:
        ProtocolError: ``MASK_ROSTER`` if the roster has fewer than three members, a member twice or lacks
            this bank; ``MASK_PAIR_MISSING``; ``RING_ELEMENTS``; ``LABEL_MALFORMED``; ``LABEL_REUSED`` under a
            ledger.
    """
    _check(label, vector)
    roster = sorted(banks)
    if len(set(roster)) != len(roster) or own not in roster:
        raise ProtocolError("MASK_ROSTER", "A roster must name this bank, and every bank once.")
    if len(roster) < MINIMUM_BANKS:
        raise ProtocolError("MASK_ROSTER", f"A sum needs at least {MINIMUM_BANKS} parties.")
    missing = [peer for peer in roster if peer != own and peer not in pair_keys]
    if missing:
        raise ProtocolError("MASK_PAIR_MISSING", f"There is no pair key for {', '.join(missing)}.")
    message = ring.to_bytes(vector)
    masked = vector.copy()
    for peer in roster:
        if peer == own:
            continue
        pair = replace(label, bank=(own, peer))
        labels.used(pair_keys[peer], pair, message, own)
        pad = labels.words(labels.derive(pair_keys[peer], pair), len(vector))
        if peer > own:
            masked += pad
        else:
            masked -= pad
    if group_key is not None and own == roster[0]:
        labels.used(group_key, label, message, own)
        masked += labels.words(labels.derive(group_key, label), len(vector))
    return masked


def unmask_group(total: NDArray[np.uint64], *, group_key: bytes, label: Label) -> NDArray[np.uint64]:
    """Return the sum over the roster without its group mask.

    Args:
        total: the opened sum, shape (n,).
        group_key: the readers' key.
        label: the label that the banks masked under.

    Raises:
        ProtocolError: ``RING_ELEMENTS``, ``LABEL_MALFORMED`` or ``LABEL_KEY``.
    """
    _check(label, total)
    return total - labels.words(labels.derive(group_key, label), len(total))
