"""Signed JSON documents: a kind, a body, and the signatures of parties over both.

Specification: a signature covers, in the domain ``document/KIND``,
``lp(version, signer) ‖ RFC 8785(body)``. Form::

    {"kind": "party", "version": 1, "body": {…},
     "signatures": [{"signer": "bank-a", "key": "<hex>", "signature": "<hex>"}]}

Invariants:
    - Nothing of a document is returned before every signature on it has been verified under a key that the
      *reader* holds; the key written in the document is only compared, never trusted.
    - A reader names the kind and the signers that it demands. Unknown fields, repeated signers, signers that
      the reader doesn't know and missing signers are refused.

Not protected: freshness and order. A body carries its own job, time or nonce where that matters. Whoever
reads a document learns who signed it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from protocol import canonical
from protocol.errors import ProtocolError, SignatureInvalid
from protocol.keys import IdentityKey, PublicKey

VERSION = 1


def _covered(signer: str, body: Mapping[str, Any]) -> bytes:
    return canonical.lp(VERSION, signer) + canonical.encode(body)


def _signature(kind: str, body: Mapping[str, Any], signer: str, key: IdentityKey) -> dict[str, str]:
    made = key.sign(f"document/{kind}", _covered(signer, body))
    return {"signer": signer, "key": key.public.hex, "signature": made.hex()}


def sign(kind: str, body: dict[str, Any], signer: str, key: IdentityKey) -> dict[str, Any]:
    """Return a document with one signature.

    Args:
        kind: what the document is; part of the signature's domain.
        body: a JSON object with a canonical form.
        signer: the name under which the reader knows the key.
        key: the signer's key.

    Raises:
        ProtocolError: ``CANONICAL_VALUE`` if the body has no canonical form.
    """
    frozen = canonical.decode(canonical.encode(body))
    return {
        "kind": kind,
        "version": VERSION,
        "body": frozen,
        "signatures": [_signature(kind, frozen, signer, key)],
    }


def add_signature(document: Mapping[str, Any], signer: str, key: IdentityKey) -> dict[str, Any]:
    """Return the document with one signature more; the earlier ones are not verified here.

    Raises:
        ProtocolError: ``DOCUMENT_MALFORMED``, or ``DOCUMENT_SIGNER_REPEATED`` if the party signed before.
    """
    kind, body, signatures = _parts(document)
    if any(entry["signer"] == signer for entry in signatures):
        raise ProtocolError("DOCUMENT_SIGNER_REPEATED", f"{signer} has signed this document already.")
    return {
        "kind": kind,
        "version": VERSION,
        "body": body,
        "signatures": [*signatures, _signature(kind, body, signer, key)],
    }


def verify(
    document: Mapping[str, Any], kind: str, keys: Mapping[str, PublicKey], required: Collection[str]
) -> dict[str, Any]:
    """Return a document's body once all of its signatures have been verified.

    Args:
        document: the document as received.
        kind: the kind that the reader expects.
        keys: the keys that the reader holds, by signer.
        required: the parties whose signatures the reader demands; at least one.

    Raises:
        ProtocolError: ``DOCUMENT_MALFORMED``, ``DOCUMENT_KIND``, ``DOCUMENT_SIGNER_REPEATED``,
            ``DOCUMENT_NO_REQUIREMENT``.
        SignatureInvalid: ``DOCUMENT_SIGNER_UNKNOWN``, ``DOCUMENT_SIGNER_MISSING``, ``DOCUMENT_KEY``,
            ``SIGNATURE_INVALID``.
    """
    if isinstance(required, str) or not required:
        raise ProtocolError("DOCUMENT_NO_REQUIREMENT", "A reader must say whose signatures it demands.")
    found_kind, body, signatures = _parts(document)
    if found_kind != kind:
        raise ProtocolError("DOCUMENT_KIND", f"A document of kind {kind} was expected.")
    signers: set[str] = set()
    for entry in signatures:
        signer = entry["signer"]
        if signer in signers:
            raise ProtocolError("DOCUMENT_SIGNER_REPEATED", "A party has signed the document twice.")
        signers.add(signer)
        key = keys.get(signer)
        if key is None:
            raise SignatureInvalid("DOCUMENT_SIGNER_UNKNOWN", "A document is signed by an unknown party.")
        if entry["key"] != key.hex:
            raise SignatureInvalid(
                "DOCUMENT_KEY",
                f"The document names another key for {signer} than the one on record.",
                "Compare the fingerprint with the party by telephone.",
            )
        key.verify(f"document/{kind}", _covered(signer, body), _bytes(entry["signature"]))
    missing = sorted(set(required) - signers)
    if missing:
        raise SignatureInvalid(
            "DOCUMENT_SIGNER_MISSING", f"The document lacks the signature of {', '.join(missing)}."
        )
    return body


def _bytes(text: str) -> bytes:
    if len(text) != 128 or set(text) - set("0123456789abcdef"):
        raise ProtocolError("DOCUMENT_MALFORMED", "A signature must be 128 lower-case hexadecimal digits.")
    return bytes.fromhex(text)


def _parts(document: Mapping[str, Any]) -> tuple[str, dict[str, Any], list[dict[str, str]]]:
    """Return kind, a copy of the body, and the signatures of a well-formed document."""
    if not isinstance(document, Mapping) or set(document) != {"kind", "version", "body", "signatures"}:
        raise ProtocolError(
            "DOCUMENT_MALFORMED", "A document must hold exactly kind, version, body, signatures."
        )
    kind, version = document["kind"], document["version"]
    if not isinstance(kind, str) or type(version) is not int or version != VERSION:
        raise ProtocolError("DOCUMENT_MALFORMED", f"A document must have a kind and version {VERSION}.")
    if not isinstance(document["body"], dict) or not isinstance(document["signatures"], list):
        raise ProtocolError(
            "DOCUMENT_MALFORMED", "A document's body must be an object, its signatures a list."
        )
    signatures: list[dict[str, str]] = []
    for entry in document["signatures"]:
        if (
            not isinstance(entry, dict)
            or set(entry) != {"signer", "key", "signature"}
            or not all(isinstance(value, str) for value in entry.values())
        ):
            raise ProtocolError("DOCUMENT_MALFORMED", "A signature must hold exactly signer, key, signature.")
        signatures.append(dict(entry))
    # A copy by value: what was verified can't be changed through the document afterwards.
    return kind, canonical.decode(canonical.encode(document["body"])), signatures
