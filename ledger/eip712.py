"""The statements that parties sign for the ledger: EIP-712 typed data.

Specification: EIP-712, with a domain of name, version, chain id, contract and salt. The chain id is random per
consortium and the salt names the consortium, so that a signature is worth nothing on another chain, another
version of the contract or in another consortium. Each action has a struct of its own; the contract's source is
``contracts/src/Intents.sol`` and a test compares every type string with the compiled ABI.

Invariants: all fields are static, so a struct hash is keccak256 over the type hash and one word a field. Nonces
are random (:func:`new_nonce`) and single-use under the key of the first signer.

What each reader learns: a statement holds hashes, tags' hashes and parts per million; no amount, name or date.
Not protected: who sees a statement learns its ratios and that two statements concern the same claim.
"""

from __future__ import annotations

import secrets
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

from eth_utils.crypto import keccak

DOMAIN_TYPE = (
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
NAME = "Concordat"
VERSION = "1"


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a statement counts.

    Args:
        chain_id: the consortium's random chain id, below 2^53.
        contract: 20 bytes, the ledger's address.
        consortium: 32 bytes, the salt.
    """

    chain_id: int
    contract: bytes
    consortium: bytes

    def separator(self) -> bytes:
        """Return the 32-byte domain separator."""
        return keccak(
            keccak(text=DOMAIN_TYPE)
            + keccak(text=NAME)
            + keccak(text=VERSION)
            + encode_word("uint256", self.chain_id)
            + encode_word("address", self.contract)
            + encode_word("bytes32", self.consortium)
        )

    def digest(self, struct_hash: bytes) -> bytes:
        """Return the 32 bytes that a key signs for a struct hash."""
        return keccak(self.preimage(struct_hash))

    def preimage(self, struct_hash: bytes) -> bytes:
        """Return the 66 bytes whose hash is `digest`."""
        return b"\x19\x01" + self.separator() + struct_hash


def encode_word(solidity_type: str, value: Any) -> bytes:
    """Encode one static value as the ABI does.

    Args:
        solidity_type: ``bytes32``, ``address``, ``bool`` or ``uintN``.
        value: bytes, bool or int of that type.

    Raises:
        ValueError: the value does not fit the type.
    """
    if solidity_type in ("bytes32", "address"):
        if len(value) != (32 if solidity_type == "bytes32" else 20):
            raise ValueError(f"a {solidity_type} has another length")
        return bytes(value).rjust(32, b"\0")
    bits = 1 if solidity_type == "bool" else int(solidity_type.removeprefix("uint"))
    if not 0 <= int(value) < 1 << bits:
        raise ValueError(f"a value does not fit {solidity_type}")
    return int(value).to_bytes(32, "big")


def new_nonce() -> bytes:
    """Return a fresh random nonce of 32 bytes."""
    return secrets.token_bytes(32)


class Intent:
    """One signed statement; subclasses are dataclasses whose fields follow ``TYPE``."""

    __slots__ = ()
    TYPE: ClassVar[str]

    @classmethod
    def fields(cls) -> list[tuple[str, str]]:
        """Return (solidity type, name) of every field, in order."""
        inner = cls.TYPE[cls.TYPE.index("(") + 1 : -1]
        pairs = [field.split(" ") for field in inner.split(",")]
        return [(pair[0], pair[1]) for pair in pairs]

    @classmethod
    def primary_type(cls) -> str:
        """Return the EIP-712 primary type."""
        return cls.TYPE[: cls.TYPE.index("(")]

    def values(self) -> tuple[Any, ...]:
        """Return the fields in the order of the type, as the ABI takes them."""
        return astuple(self)  # type: ignore[call-overload, no-any-return]

    def struct_hash(self) -> bytes:
        """Return the 32-byte struct hash."""
        words = [
            encode_word(kind, value) for (kind, _), value in zip(self.fields(), self.values(), strict=True)
        ]
        return keccak(keccak(text=self.TYPE) + b"".join(words))

    def typed_data(self, domain: Domain) -> dict[str, Any]:
        """Return the EIP-712 JSON form that wallets and Web3Signer show and sign."""
        return {
            "types": {
                "EIP712Domain": [
                    {"name": name, "type": kind}
                    for kind, name in (field.split(" ") for field in DOMAIN_TYPE[13:-1].split(","))
                ],
                self.primary_type(): [{"name": name, "type": kind} for kind, name in self.fields()],
            },
            "primaryType": self.primary_type(),
            "domain": {
                "name": NAME,
                "version": VERSION,
                "chainId": domain.chain_id,
                "verifyingContract": "0x" + domain.contract.hex(),
                "salt": "0x" + domain.consortium.hex(),
            },
            "message": {
                name: "0x" + value.hex() if isinstance(value, bytes) else value
                for (_, name), value in zip(self.fields(), self.values(), strict=True)
            },
        }
