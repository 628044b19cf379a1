"""Statements, signatures, openings and bodies as JSON, and sums of parts per million. No I/O.

Whatever another party sent is checked for form here; whether it is true is for whoever signs next, and for the
contract.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar

from coincurve import PublicKey
from eth_utils.crypto import keccak

from ledger.commitments import FULL, Body, Opening, key_id
from ledger.eip712 import Domain, Intent
from ledger.signers import SignerTuple
from protocol.canonical import lp
from protocol.errors import ProtocolError, SignatureInvalid

Statement = TypeVar("Statement", bound=Intent)

_BODY = ("owner", "obligor", "terms_hash", "doc_root", "contract_tag", "root")


def malformed(what: str) -> ProtocolError:
    """Return the error for another party's bytes."""
    return ProtocolError("REQUEST_MALFORMED", f"A request lacks a part, or one has a wrong form: {what}.")


def statement_json(statement: Intent) -> dict[str, Any]:
    """Return a statement's fields by their names in the signed type."""
    return {
        name: value.hex() if isinstance(value, bytes) else value
        for (_, name), value in zip(statement.fields(), statement.values(), strict=True)
    }


def read_statement(kind: type[Statement], found: Any) -> Statement:
    """Read a statement.

    Raises:
        ProtocolError: ``REQUEST_MALFORMED``.
    """
    try:
        values: list[Any] = []
        for solidity, name in kind.fields():
            value = found[name]
            if solidity == "bytes32":
                values.append(_word(value))
            elif (solidity == "bool" and isinstance(value, bool)) or (
                solidity.startswith("uint") and type(value) is int and 0 <= value < 1 << int(solidity[4:])
            ):
                values.append(value)
            else:
                raise ValueError
        if set(found) != {name for _, name in kind.fields()}:
            raise ValueError
        return kind(*values)
    except (KeyError, TypeError, ValueError) as error:
        raise malformed("statement") from error


def signer_json(signed: SignerTuple) -> list[Any]:
    """Return certificate and signature as JSON."""
    return [each.hex() if isinstance(each, bytes) else each for each in signed]


def read_signer(found: Any) -> SignerTuple:
    """Read certificate and signature.

    Raises:
        ProtocolError: ``REQUEST_MALFORMED``.
    """
    try:
        role, custodian, expiry, *rest = found
        key_set, key, certificate, signature = (bytes.fromhex(each) for each in rest)
        if len(key_set) != 32 or not 20 <= len(key) <= 200:
            raise ValueError
        return (int(role), int(custodian), int(expiry), key_set, key, certificate, signature)
    except (TypeError, ValueError) as error:
        raise malformed("signature") from error


def key_of(signed: SignerTuple) -> bytes:
    """Return the key id of whoever signed."""
    return key_id(signed[4])


def opening_json(opening: Opening) -> dict[str, Any]:
    """Return an opening as JSON."""
    return {
        "salt": opening.salt.hex(),
        "member": opening.member.hex(),
        "root": opening.root.hex(),
        "count": opening.count,
        "index": opening.index,
        "path": [each.hex() for each in opening.path],
    }


def read_opening(found: Any) -> Opening:
    """Read an opening.

    Raises:
        ProtocolError: ``REQUEST_MALFORMED``.
    """
    try:
        path = tuple(_word(each) for each in found["path"])
        salt, member, root = (_word(found[name]) for name in ("salt", "member", "root"))
        return Opening(salt, member, root, int(found["count"]), int(found["index"]), path)
    except (KeyError, TypeError, ValueError) as error:
        raise malformed("opening") from error


def body_json(body: Body) -> dict[str, str]:
    """Return a body as JSON."""
    return {name: getattr(body, name).hex() for name in _BODY}


def read_body(found: Any) -> Body:
    """Read a body.

    Raises:
        ProtocolError: ``REQUEST_MALFORMED``.
    """
    try:
        return Body(*(_word(found[name]) for name in _BODY))
    except (KeyError, TypeError, ValueError) as error:
        raise malformed("body") from error


def word(found: Any, what: str) -> bytes:
    """Read 32 bytes.

    Raises:
        ProtocolError: ``REQUEST_MALFORMED``.
    """
    try:
        return _word(found)
    except (TypeError, ValueError) as error:
        raise malformed(what) from error


def _word(text: Any) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ValueError
    return found


def check_signed(domain: Domain, statement: Intent, signed: SignerTuple, named: bytes) -> None:
    """Refuse a statement that the named account did not sign. Other kinds of keys are for the contract to judge.

    Raises:
        SignatureInvalid: ``REQUEST_SIGNATURE``.
    """
    key, signature = signed[4], signed[6]
    problem = SignatureInvalid("REQUEST_SIGNATURE", "The statement is not signed by the key that it names.")
    if key_id(key) != named:
        raise problem
    if len(key) != 20:
        return
    try:
        raw = signature[:64] + bytes([signature[64] - 27])
        digest = domain.digest(statement.struct_hash())
        public = PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except Exception as error:
        raise problem from error
    if keccak(public.format(compressed=False)[1:])[12:] != key:
        raise problem


def payee_nonce(claim: bytes, payee: str, salt: bytes) -> bytes:
    """Return the nonce that an obligor withdraws in order to prove to one payee that it is the obligor.

    Withdrawing a nonce that nobody can ever use changes nothing on the ledger, and the hash binds the proof to this
    claim and this payee: it opens no other bank's books.
    """
    return hashlib.sha256(lp("concordat/ledger-payee/v1", claim, payee, salt)).digest()


def ceiling_ppm(minor: int, payable: int) -> int:
    """Return what a pledge of an amount takes: parts per million of the payable, rounded up."""
    return -(-minor * FULL // payable)


def floor_ppm(minor: int, payable: int) -> int:
    """Return what an amount that remains is worth: parts per million of the payable, rounded down."""
    return minor * FULL // payable


def known_fields(found: Mapping[str, Any], names: set[str], what: str) -> None:
    """Refuse an object with other fields.

    Raises:
        ProtocolError: ``REQUEST_MALFORMED``.
    """
    if set(found) != names:
        raise malformed(what)
