"""What a reader of proofs trusts: one ledger, its operator, its members, its contract.

A reader has it from the signed genesis document, or knows its fingerprint by telephone. A proof carries the same
statement for whoever only has the fingerprint; it is compared, never believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ledger.engine.genesis import Cosigned, Genesis, Member
from protocol import canonical
from protocol.errors import ProtocolError, SignatureInvalid
from protocol.identity import check_name
from protocol.keys import PublicKey

_HEX = re.compile(r"(?:[0-9a-f]{2})*")


def unhex(text: Any, size: int | None = None) -> bytes:
    """Return the bytes of lower-case hexadecimal text, of a size if one is given.

    Raises:
        ProtocolError: ``PROOF_MALFORMED``.
    """
    if not isinstance(text, str) or not _HEX.fullmatch(text) or (size is not None and len(text) != 2 * size):
        raise malformed()
    return bytes.fromhex(text)


def malformed() -> ProtocolError:
    """Return the error for a file that is no proof."""
    return ProtocolError("PROOF_MALFORMED", "The file is not a proof of this version, or it was changed.")


def exactly(value: Any, *names: str) -> dict[str, Any]:
    """Return an object that has exactly these fields.

    Raises:
        ProtocolError: ``PROOF_MALFORMED``.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise malformed()
    return value


def count(value: Any, most: int = (1 << 32) - 1) -> int:
    """Return a number that is not negative.

    Raises:
        ProtocolError: ``PROOF_MALFORMED``.
    """
    if type(value) is not int or not 0 <= value <= most:
        raise malformed()
    return value


@dataclass(frozen=True)
class Trust(Cosigned):
    """One ledger, as its readers know it.

    Attributes:
        consortium: 32 bytes.
        chain_id: the chain's.
        genesis: digest of the genesis document, 32 bytes.
        operator: who orders.
        members: who co-sign.
        registry: address of the contract, 20 bytes.
        code_hash: keccak-256 of its code, 32 bytes.
    """

    consortium: bytes
    chain_id: int
    genesis: bytes
    operator: Member
    members: tuple[Member, ...]
    registry: bytes
    code_hash: bytes

    @classmethod
    def of(cls, genesis: Genesis) -> Trust:
        """Return what a checked genesis document says.

        Raises:
            ProtocolError: ``PROOF_NO_REGISTRY`` if it names no registry.
        """
        if genesis.registry is None:
            raise ProtocolError("PROOF_NO_REGISTRY", "This ledger's genesis document names no registry.")
        return cls(
            genesis.consortium,
            genesis.chain.chain_id,
            genesis.digest,
            genesis.operator,
            genesis.members,
            genesis.registry.address,
            genesis.registry.code_hash,
        )

    @property
    def fingerprint(self) -> str:
        """What people compare: 64 hexadecimal digits."""
        return canonical.digest("ledger-trust", self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the statement as a JSON object."""
        return {
            "consortium": self.consortium.hex(),
            "chain_id": self.chain_id,
            "genesis": self.genesis.hex(),
            "operator": self.operator.to_json(),
            "members": [each.to_json() for each in self.members],
            "registry": self.registry.hex(),
            "code_hash": self.code_hash.hex(),
        }

    @classmethod
    def from_json(cls, value: Any) -> Trust:
        """Read a statement; nothing is verified.

        Raises:
            ProtocolError: ``PROOF_MALFORMED``, or the code of a malformed name or key.
        """
        found = exactly(
            value, "consortium", "chain_id", "genesis", "operator", "members", "registry", "code_hash"
        )
        if not isinstance(found["members"], list) or not found["members"]:
            raise malformed()
        members = tuple(_member(each) for each in found["members"])
        for one in ({each.name for each in members}, {each.checkpoint.raw for each in members}):
            if len(one) != len(members):
                raise malformed()
        return cls(
            unhex(found["consortium"], 32),
            count(found["chain_id"], (1 << 53) - 1),
            unhex(found["genesis"], 32),
            _member(found["operator"]),
            members,
            unhex(found["registry"], 20),
            unhex(found["code_hash"], 32),
        )

    def require(self, other: Trust) -> None:
        """Refuse a proof that speaks of another ledger than this one.

        Raises:
            SignatureInvalid: ``PROOF_CONSORTIUM``, ``PROOF_MEMBERS``, ``PROOF_LEDGER``.
        """
        if (self.consortium, self.chain_id) != (other.consortium, other.chain_id):
            raise SignatureInvalid(
                "PROOF_CONSORTIUM",
                "The proof is of another consortium than the one that you trust.",
                "Compare the fingerprint with the consortium by telephone.",
            )
        if self.members != other.members or self.operator != other.operator:
            raise SignatureInvalid(
                "PROOF_MEMBERS",
                "The proof was co-signed by another set of members than the one that you trust.",
                "A member has left, joined or changed its key: ask for a proof under the present set.",
            )
        if self != other:
            raise SignatureInvalid(
                "PROOF_LEDGER", "The proof is of another ledger of this consortium, or of another contract."
            )


def _member(value: Any) -> Member:
    found = exactly(value, "name", "identity", "checkpoint")
    if not all(isinstance(each, str) for each in found.values()):
        raise malformed()
    member = Member(
        check_name(found["name"]),
        PublicKey(unhex(found["identity"], 32)),
        PublicKey(unhex(found["checkpoint"], 32)),
    )
    if member.to_json() != found:
        raise malformed()
    return member
