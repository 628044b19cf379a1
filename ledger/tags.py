"""Tags: what lets two banks see that they hold the same document, without telling anybody which.

Specification: ledger protocol, section 2; RFC 9497 (ristretto255-SHA512, VOPRF). The input of a document is ::

    T1  = lp("concordat/t1/v1", scheme, seller, type class, number, year or "")
    tag = SHA-256(lp("concordat/ledger-tag/v1", epoch, "t1", output))      output: 64 bytes of RFC 9497 Finalize

Invariants:
    - A tag is a hash of the finished output. No group element is stored or compared: raw elements are linear, so one
      evaluation of a sum would test several documents at once.
    - Tags of all live epochs are made together, so that an epoch's boundary hides no duplicate.
    - An answer counts only under the proof for the pinned public key of its epoch.

What each party learns: the keeper sees blinded points, and how many. The asker learns the tags of its documents.

Not protected: `SingleKey` has one keeper, who can enumerate documents by itself, and who can refuse. The threshold
function that will stand behind the same interface has no such party. Quotas are the keeper's to enforce.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ledger.commitments import TagSet
from ledger.invoice import Invoice
from protocol import voprf
from protocol.canonical import lp
from protocol.errors import ConfigurationError
from protocol.group import Element
from protocol.labels import Label
from protocol.voprf import KeyPair

T1 = "t1"
_INPUT = "concordat/t1/v1"
_TAG = "concordat/ledger-tag/v1"
_KEY = "concordat/ledger-tag-key/v1"


def inputs(invoice: Invoice) -> tuple[bytes, ...]:
    """Return the tag input of each official number of a document."""
    return tuple(lp(_INPUT, *identity) for identity in invoice.identity)


def finish(epoch: int, output: bytes, kind: str = T1) -> bytes:
    """Return the tag, 32 bytes, of an output of RFC 9497 Finalize."""
    return hashlib.sha256(lp(_TAG, epoch, kind, output)).digest()


class TagFunction(Protocol):
    """What makes tags; one key today, a threshold of members later."""

    def tags(self, inputs: Sequence[bytes]) -> list[TagSet]:
        """Return the tags of one document for every live epoch, oldest first.

        Raises:
            Unavailable: fewer parties answer than are needed. That means unknown, never "unique".
            ProtocolError: an answer was not made under the pinned key.
        """
        ...


@dataclass(frozen=True)
class KeeperKeys:
    """The keeper's half: a key an epoch.

    Attributes:
        seed: 32 bytes.
        consortium: 32 bytes.
        epochs: live epochs, ascending.
    """

    seed: bytes = field(repr=False)
    consortium: bytes
    epochs: tuple[int, ...]

    def key(self, epoch: int) -> KeyPair:
        """Return the key pair of an epoch.

        Raises:
            ConfigurationError: ``TAG_EPOCH``.
        """
        if epoch not in self.epochs:
            raise ConfigurationError("TAG_EPOCH", "There is no key for this epoch of tags.")
        return voprf.derive_key_pair(self.seed, lp(_KEY, self.consortium, epoch))

    @property
    def public(self) -> dict[int, Element]:
        """Public keys by epoch, for everybody's configuration."""
        return {epoch: self.key(epoch).public for epoch in self.epochs}

    def evaluate(self, epoch: int, request: bytes) -> bytes:
        """Answer blinded points, 32 bytes each: evaluated points and their proof.

        Raises:
            ProtocolError: malformed points.
        """
        return voprf.blind_evaluate(self.key(epoch), request)


Ask = Callable[[int, bytes], bytes]
"""(epoch, blinded points) to evaluated points and proof; over the network, or in the keeper's own process."""


@dataclass(frozen=True)
class SingleKey:
    """The tag function of one keeper, as everybody but the keeper sees it.

    Attributes:
        public: the keeper's pinned public keys by live epoch.
        ask: reaches the keeper.
    """

    public: Mapping[int, Element]
    ask: Ask

    def tags(self, inputs: Sequence[bytes]) -> list[TagSet]:
        """Return a document's tags for every live epoch, oldest first; see `TagFunction`."""
        made = []
        for epoch in sorted(self.public):
            # A fresh key for the blinds: nobody escrows it, so nobody can open what was asked.
            label = Label("ledger/tag", secrets.token_hex(16))
            batch = voprf.blind(inputs, audit_key=secrets.token_bytes(32), label=label)
            outputs = voprf.finalize(batch, self.ask(epoch, batch.request), self.public[epoch])
            made.append(TagSet.of(epoch, (finish(epoch, output) for output in outputs)))
        return made
