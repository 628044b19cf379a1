"""The verifiable oblivious PRF between a bank and a data partner, and the audit of a bank's queries.

Specification: RFC 9497, suite ristretto255-SHA512, mode VOPRF (0x01), with batched proofs; training protocol,
steps B2 and B8. The partner derives one key per (purpose, epoch, bank), ``DeriveKeyPair(seed, lp(purpose) ‖
lp(epoch) ‖ lp(bank))``; the bank holds the public key from the manifest. The input of an enterprise is
``lp(id_type) ‖ lp(canonical id)``, with ``lp(consent code)`` behind it where the data contract demands one. A
bank pads its batch with dummies, inputs ``lp("dummy") ‖ lp(nonce)``. Its blinds come from an *audit key* that
it escrows with the auditor, so that each blinded point can be opened as one input, and as no other.

Invariants:
    - Outputs of another purpose, epoch or bank are independent: values cached in training open no serving
      table, and colluding banks can't pool theirs.
    - The bank takes no output unless the proof shows that the whole batch was evaluated under the key of the
      manifest. The identity and non-canonical encodings are refused on both sides.
    - A blinded point opens under the audit key to the input that was asked, or its bank is in breach:
      ``B₁ + r₂·H(victim)`` with an openable B₁ hides a query of the victim, and does not open.
    - The types of identifiers never include "dummy", and `lp` is injective: no dummy is an enterprise.

What each party learns: the partner the padded number of points; the bank the PRF at its inputs; an auditor
the inputs that it orders opened. Not protected: with no consent codes a bank can ask for any identifier, up to
its quota. Whoever has the audit key *and* the points unblinds them and can try identifiers: auditor and partner
together learn a bank's clients, so the escrow must not lie with the partner, and is opened for an order only.
Python does not erase secrets from memory.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from protocol import group, labels
from protocol.canonical import lp
from protocol.errors import ProtocolError
from protocol.group import ELEMENT_BYTES, SCALAR_BYTES, WIDE_BYTES, Element, Scalar
from protocol.labels import Label

CONTEXT = b"OPRFV1-\x01-ristretto255-SHA512"
OUTPUT_BYTES = 64
PROOF_BYTES = 2 * SCALAR_BYTES
SEED_BYTES = 32
MAXIMUM_BATCH = 65_535
"""Points under one proof: the composite's index has two bytes (RFC 9497 section 2.2.1)."""

PURPOSES = ("training", "serving")
CONSENT_BYTES = 16
NONCE_BYTES = 16

_DUMMY = "dummy"
_TO_GROUP = b"HashToGroup-" + CONTEXT
_TO_SCALAR = b"HashToScalar-" + CONTEXT
_DERIVE = b"DeriveKeyPair" + CONTEXT
_SEED = b"Seed-" + CONTEXT
_LONGEST = (1 << 16) - 1


@dataclass(frozen=True)
class KeyPair:
    """A partner's key for one purpose, epoch and bank."""

    secret: Scalar = field(repr=False)
    public: Element


@dataclass(frozen=True)
class Batch:
    """A bank's blinded batch; it stays with the bank, which sends `request` only.

    Attributes:
        inputs: shape (n,), PRF inputs.
        blinds: shape (n,), as `blinds` made them.
        elements: shape (n,), the blinded points.
    """

    inputs: tuple[bytes, ...] = field(repr=False)
    blinds: tuple[Scalar, ...] = field(repr=False)
    elements: tuple[Element, ...] = field(repr=False)

    @property
    def request(self) -> bytes:
        """The bytes for the partner, 32 a point."""
        return b"".join(self.elements)


def _prefixed(*parts: bytes) -> bytes:
    """Join parts behind two-byte lengths, as the RFC's transcripts do."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def key_info(purpose: str, epoch: str, bank: str) -> bytes:
    """Return the info of a key: what it is for, in which epoch, for which bank.

    Raises:
        ProtocolError: ``VOPRF_PURPOSE`` for a purpose other than training and serving, or an empty name.
    """
    if purpose not in PURPOSES or not epoch or not bank:
        raise ProtocolError("VOPRF_PURPOSE", "A key is for training or serving, of one epoch and one bank.")
    return lp(purpose) + lp(epoch) + lp(bank)


def derive_key_pair(seed: bytes, info: bytes) -> KeyPair:
    """Derive a key pair (RFC 9497 section 3.2.1).

    Args:
        seed: 32 random bytes of the partner.
        info: from `key_info`.

    Raises:
        ProtocolError: ``VOPRF_SEED`` for a seed of another length or an info beyond 65,535 bytes.
    """
    if len(seed) != SEED_BYTES or len(info) > _LONGEST:
        raise ProtocolError("VOPRF_SEED", f"A key is derived from a seed of {SEED_BYTES} bytes.")
    # The RFC counts up on a zero scalar, which comes with probability 2^-252; here that is an error.
    secret = group.hash_to_scalar(seed + _prefixed(info) + b"\0", _DERIVE)
    return KeyPair(secret, group.multiply_base(secret))


def enterprise_input(id_type: str, canonical_id: str, consent_code: bytes | None = None) -> bytes:
    """Return the PRF input of an enterprise.

    Args:
        id_type: kind of identifier, such as ``"uscc"``.
        canonical_id: the identifier in its one spelling, its check digit verified.
        consent_code: the 16 bytes that the partner issued to the enterprise for this epoch and bank, or None
            where the data contract demands none.

    Raises:
        ProtocolError: ``VOPRF_INPUT`` for an empty part, the reserved type "dummy", or a code of another
            length. The message never holds the identifier.
    """
    if not id_type or not canonical_id or id_type == _DUMMY:
        raise ProtocolError("VOPRF_INPUT", "An input needs a type other than dummy, and an identifier.")
    if consent_code is not None and len(consent_code) != CONSENT_BYTES:
        raise ProtocolError("VOPRF_INPUT", f"A consent code must have {CONSENT_BYTES} bytes.")
    return _checked_input(lp(id_type, canonical_id) + (lp(consent_code) if consent_code is not None else b""))


def dummy_input(nonce: bytes) -> bytes:
    """Return the PRF input of a dummy.

    Raises:
        ProtocolError: ``VOPRF_INPUT`` for a nonce that has not 16 bytes.
    """
    if len(nonce) != NONCE_BYTES:
        raise ProtocolError("VOPRF_INPUT", f"A dummy's nonce must have {NONCE_BYTES} bytes.")
    return lp(_DUMMY, nonce)


def _checked_input(data: bytes) -> bytes:
    if len(data) > _LONGEST:
        raise ProtocolError("VOPRF_INPUT", "An input is longer than 65,535 bytes.")
    return data


def hash_inputs(inputs: Sequence[bytes], pool: Executor | None = None) -> list[Element]:
    """Return H(input) for each input, shape (n,); a partner shares these between banks."""
    return group.hash_all(inputs, _TO_GROUP, pool)


def blinds(audit_key: bytes, label: Label, n: int) -> list[Scalar]:
    """Derive the blinds of a batch from the bank's audit key.

    Args:
        audit_key: 32 random bytes, escrowed with the auditor.
        label: names the batch; a second batch under one label would repeat its blinds.
        n: number of points.
    """
    stream = labels.keystream(labels.derive(audit_key, label), WIDE_BYTES * n)
    return [
        group.scalar_from_uniform(stream[at : at + WIDE_BYTES]) for at in range(0, len(stream), WIDE_BYTES)
    ]


def blind(inputs: Sequence[bytes], *, audit_key: bytes, label: Label, pool: Executor | None = None) -> Batch:
    """Blind a batch of inputs (RFC 9497 section 3.3.2, Blind).

    Raises:
        ProtocolError: ``VOPRF_BATCH`` for an empty batch, one beyond 65,535 points, or one that asks twice;
            ``LABEL_REUSED`` if an observing ledger saw another batch under this label.
    """
    if not 1 <= len(inputs) <= MAXIMUM_BATCH or len(set(inputs)) != len(inputs):
        raise ProtocolError("VOPRF_BATCH", f"A batch has 1 to {MAXIMUM_BATCH} different inputs.")
    labels.used(audit_key, label, lp(*inputs))
    return blind_with(inputs, blinds(audit_key, label, len(inputs)), pool)


def blind_with(inputs: Sequence[bytes], scalars: Sequence[Scalar], pool: Executor | None = None) -> Batch:
    """Blind inputs by given scalars: the deterministic half of `blind`."""
    elements = group.multiply_each(scalars, hash_inputs([_checked_input(one) for one in inputs], pool), pool)
    return Batch(tuple(inputs), tuple(scalars), tuple(elements))


def open_point(element: Element, position: int, data: bytes, *, audit_key: bytes, label: Label) -> None:
    """Check as an auditor that a blinded point is the blinding of a stated input.

    Args:
        element: the point as the partner received it.
        position: its place in the batch.
        data: the input that the bank states, of `enterprise_input` or `dummy_input`.
        audit_key: the bank's escrowed key.
        label: the batch's label.

    Raises:
        ProtocolError: ``VOPRF_NOT_OPENED``; the bank is in breach.
    """
    if position < 0:
        raise ProtocolError("VOPRF_NOT_OPENED", "A point is opened at its place in the batch.")
    scalar = blinds(audit_key, label, position + 1)[position]
    expected = group.multiply(scalar, group.hash_to_group(data, _TO_GROUP))
    if not hmac.compare_digest(expected, element):
        raise ProtocolError(
            "VOPRF_NOT_OPENED",
            "A blinded point is not the blinding of the stated input under the escrowed key.",
            "The bank asked for something else than it states.",
        )


def _composite_scalars(public: Element, ours: Sequence[Element], theirs: Sequence[Element]) -> list[Scalar]:
    seed = hashlib.sha512(_prefixed(public, _SEED)).digest()
    return [
        group.hash_to_scalar(
            _prefixed(seed) + number.to_bytes(2, "big") + _prefixed(blinded, evaluated) + b"Composite",
            _TO_SCALAR,
        )
        for number, (blinded, evaluated) in enumerate(zip(ours, theirs, strict=True))
    ]


def _challenge(public: Element, *points: Element) -> Scalar:
    return group.hash_to_scalar(_prefixed(public, *points) + b"Challenge", _TO_SCALAR)


def blind_evaluate(
    key: KeyPair, request: bytes, pool: Executor | None = None, proof_scalar: Scalar | None = None
) -> bytes:
    """Evaluate a bank's batch (RFC 9497 sections 3.3.2 and 2.2.1, BlindEvaluate and GenerateProof).

    Args:
        key: the partner's key for this bank, epoch and purpose.
        request: the bank's points, 32 bytes each.
        pool: the caller's executor.
        proof_scalar: the proof's commitment; None except where a published vector states it.

    Returns:
        the evaluated points and the proof, 32·n + 64 bytes.

    Raises:
        ProtocolError: ``VOPRF_BATCH`` for no point or too many, ``GROUP_ELEMENT`` or ``GROUP_IDENTITY``.
    """
    if not ELEMENT_BYTES <= len(request) <= MAXIMUM_BATCH * ELEMENT_BYTES:
        raise ProtocolError("VOPRF_BATCH", f"A batch has 1 to {MAXIMUM_BATCH} points.")
    blinded = group.decode_elements(request, pool)
    evaluated = group.multiply_all(key.secret, blinded, pool)
    composite = group.combine(_composite_scalars(key.public, blinded, evaluated), blinded, pool)
    image = group.multiply(key.secret, composite)
    commitment = group.random_scalar() if proof_scalar is None else proof_scalar
    challenge = _challenge(
        key.public, composite, image, group.multiply_base(commitment), group.multiply(commitment, composite)
    )
    answer = group.scalar_subtract(commitment, group.scalar_multiply(challenge, key.secret))
    return b"".join((*evaluated, challenge, answer))


def _verify(
    public: Element,
    blinded: Sequence[Element],
    evaluated: Sequence[Element],
    proof: bytes,
    pool: Executor | None,
) -> None:
    """Verify a batch's proof (RFC 9497 section 2.2.2, VerifyProof)."""
    challenge = group.decode_scalar(proof[:SCALAR_BYTES])
    answer = group.decode_scalar(proof[SCALAR_BYTES:])
    scalars = _composite_scalars(public, blinded, evaluated)
    composite = group.combine(scalars, blinded, pool)
    image = group.combine(scalars, evaluated, pool)
    one = group.add(group.multiply_base(answer), group.multiply(challenge, public))
    other = group.add(group.multiply(answer, composite), group.multiply(challenge, image))
    if not hmac.compare_digest(_challenge(public, composite, image, one, other), challenge):
        raise ProtocolError("VOPRF_PROOF", "The proof fails.")


def _output(data: bytes, element: Element) -> bytes:
    return hashlib.sha512(_prefixed(data, element) + b"Finalize").digest()


def finalize(batch: Batch, response: bytes, public: Element, pool: Executor | None = None) -> list[bytes]:
    """Verify a partner's response and return the PRF outputs (RFC 9497 section 3.3.2, Finalize).

    Args:
        batch: the bank's blinded batch.
        response: of `blind_evaluate`.
        public: the partner's key from the manifest, decoded.
        pool: the caller's executor.

    Returns:
        64 bytes per input, in their order.

    Raises:
        ProtocolError: ``VOPRF_LENGTH`` if the response has another length, ``GROUP_ELEMENT``,
            ``GROUP_IDENTITY``, or ``VOPRF_PROOF`` if the batch was not evaluated under the partner's key.
    """
    n = len(batch.elements)
    if len(response) != ELEMENT_BYTES * n + PROOF_BYTES:
        raise ProtocolError("VOPRF_LENGTH", "A response has not one point for every point of the batch.")
    evaluated = group.decode_elements(response[:-PROOF_BYTES], pool)
    try:
        _verify(group.decode_element(public), batch.elements, evaluated, response[-PROOF_BYTES:], pool)
    except ProtocolError as error:
        raise ProtocolError(
            "VOPRF_PROOF",
            "A response was not evaluated under the partner's key.",
            "Nothing of it was used. Compare the partner's public key with the manifest's.",
        ) from error
    inverses = group.scalar_inverses(batch.blinds)
    unblinded = group.multiply_each(inverses, evaluated, pool)
    return [_output(data, element) for data, element in zip(batch.inputs, unblinded, strict=True)]


def evaluate(
    key: KeyPair,
    inputs: Sequence[bytes],
    hashed: Sequence[Element] | None = None,
    pool: Executor | None = None,
) -> list[bytes]:
    """Return the PRF at inputs that the partner knows (RFC 9497 section 3.3.1, Evaluate).

    Args:
        key: the partner's key.
        inputs: the partner's own enterprises.
        hashed: H(input) from `hash_inputs`, where it is shared between banks.
        pool: the caller's executor.

    Raises:
        ProtocolError: ``VOPRF_LENGTH`` if inputs and hashes differ in number.
    """
    points = hash_inputs([_checked_input(one) for one in inputs], pool) if hashed is None else hashed
    if len(points) != len(inputs):
        raise ProtocolError("VOPRF_LENGTH", "There is not one hash for every input.")
    images = group.multiply_all(key.secret, points, pool)
    return [_output(data, image) for data, image in zip(inputs, images, strict=True)]
