"""The operator's signed word that a transaction is durable and at which place.

Specification: an Ed25519 signature of the operator's identity key in the domain ``ledger-acknowledgement``
over ``lp(1, consortium, chain id, transaction hash, log index, position, block hash, block time)``.

With an acknowledgement and a checkpoint of more than `log_index` records, anybody can show that a transaction
was promised and left out. It does not say that the call succeeded: the receipt does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol.canonical import lp
from protocol.errors import ProtocolError
from protocol.keys import IdentityKey, PublicKey

DOMAIN = "ledger-acknowledgement"


@dataclass(frozen=True)
class Acknowledgement:
    """Where a transaction stands.

    Attributes:
        consortium: 32 bytes as hexadecimal digits.
        chain_id: this chain's.
        transaction: hash, 32 bytes.
        log_index: index of the record, which is also the block's number.
        position: index within the block.
        block_hash: 32 bytes.
        block_time: Unix seconds.
    """

    consortium: str
    chain_id: int
    transaction: bytes
    log_index: int
    position: int
    block_hash: bytes
    block_time: int

    def _covered(self) -> bytes:
        place: tuple[bytes | str | int, ...] = (self.transaction, self.log_index, self.position)
        return lp(1, self.consortium, self.chain_id, *place, self.block_hash, self.block_time)

    def sign(self, key: IdentityKey) -> dict[str, Any]:
        """Return the acknowledgement as a JSON object with its signature."""
        return {
            "consortium": self.consortium,
            "chainId": self.chain_id,
            "transactionHash": "0x" + self.transaction.hex(),
            "logIndex": self.log_index,
            "position": self.position,
            "blockHash": "0x" + self.block_hash.hex(),
            "blockTime": self.block_time,
            "operator": key.public.hex,
            "signature": key.sign(DOMAIN, self._covered()).hex(),
        }


def verify(document: Mapping[str, Any], operator: PublicKey) -> Acknowledgement:
    """Return an acknowledgement whose signature is the operator's.

    Raises:
        ProtocolError: ``ACKNOWLEDGEMENT_MALFORMED``.
        SignatureInvalid: ``SIGNATURE_INVALID``.
    """
    try:
        found = Acknowledgement(
            consortium=str(document["consortium"]),
            chain_id=int(document["chainId"]),
            transaction=bytes.fromhex(document["transactionHash"].removeprefix("0x")),
            log_index=int(document["logIndex"]),
            position=int(document["position"]),
            block_hash=bytes.fromhex(document["blockHash"].removeprefix("0x")),
            block_time=int(document["blockTime"]),
        )
        signature = bytes.fromhex(document["signature"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ProtocolError(
            "ACKNOWLEDGEMENT_MALFORMED", "The acknowledgement lacks a field, or one has a wrong form."
        ) from error
    operator.verify(DOMAIN, found._covered(), signature)
    return found
