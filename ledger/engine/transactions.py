"""Which raw transactions the ledger takes: a check before anything is logged.

Specification: Ethereum legacy transactions with EIP-155 replay protection, EIP-2930 (type 1) and EIP-1559
(type 2); RLP as in the Yellow Paper, appendix B; sender by secp256k1 recovery (appendix F) with low s
(EIP-2).

Invariants of a transaction that passes `parse`:
    - It names this chain; it calls a contract (it creates none); it moves no value and pays no fee, so that
      no sender needs a balance and no block's base fee moves.
    - Its gas limit is within the cap of one transaction, its size within 128 KiB.
    - Blob (type 3) and set-code (type 4) transactions are refused: the latter would give code to an account.

The same check runs in the gateway and in every member's replica, so an operator that logs a forbidden
transaction is found out. Nonces are the sequencer's matter. Not protected: what a contract does with a call.
"""

from __future__ import annotations

from dataclasses import dataclass

import coincurve
from eth_hash.auto import keccak

from ledger.engine import rlp
from ledger.engine.port import TRANSACTION_GAS
from protocol.errors import LedgerError, ProtocolError

MAX_SIZE = 128 * 1024
_HALF_N = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_MIN_GAS = 21_000


@dataclass(frozen=True)
class Transaction:
    """A transaction that the ledger may take.

    Attributes:
        raw: as signed by its sender.
        hash: keccak-256 of `raw`, 32 bytes.
        sender: recovered address, 20 bytes.
        nonce: the sender's count.
        gas: gas limit.
        to: called address, 20 bytes; empty only for a deployment of the genesis.
    """

    raw: bytes
    hash: bytes
    sender: bytes
    nonce: int
    gas: int
    to: bytes


def _refuse(code: str, message: str, hint: str = "") -> LedgerError:
    return LedgerError(code, message, hint)


def _number(item: bytes | None) -> int:
    if item is None or item[:1] == b"\0" or len(item) > 32:
        raise _refuse("TX_MALFORMED", "A number in the transaction is not in its shortest form.")
    return int.from_bytes(item, "big")


def _fields(raw: bytes) -> tuple[list[tuple[bytes, bytes | None]], int]:
    """Return a transaction's items (encoding, content) and its type (0 for legacy)."""
    if not raw or len(raw) > MAX_SIZE:
        raise _refuse("TX_SIZE", f"A transaction must have 1 to {MAX_SIZE} bytes.")
    kind = raw[0] if raw[0] <= 0x7F else 0
    if kind > 2 or raw[0] == 0:
        raise _refuse("TX_TYPE", "Only legacy, access-list and fee-market transactions are taken.")
    try:
        found = rlp.items(raw[1:] if kind else raw)
    except ProtocolError as error:
        raise _refuse("TX_MALFORMED", "The bytes are no transaction.") from error
    if len(found) != (9, 11, 12)[kind]:
        raise _refuse("TX_MALFORMED", "The transaction has a wrong number of fields.")
    return found, kind


def _sender(digest: bytes, recovery: int, r: int, s: int) -> bytes:
    if recovery not in (0, 1) or not 0 < s <= _HALF_N or not 0 < r < 1 << 256:
        raise _refuse("TX_SIGNATURE", "The transaction's signature is not in its only accepted form.")
    packed = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([recovery])
    try:
        key = coincurve.PublicKey.from_signature_and_message(packed, digest, hasher=None)
    except Exception as error:  # coincurve raises bare Exception for an unrecoverable point
        raise _refuse("TX_SIGNATURE", "The transaction's signature fits no key.") from error
    return keccak(key.format(compressed=False)[1:])[12:]


def parse(raw: bytes, chain_id: int, *, deployment: bool = False) -> Transaction:
    """Return the transaction if the ledger may take it.

    Args:
        raw: the signed bytes.
        chain_id: this chain's.
        deployment: allow the creation of a contract; only for the genesis document's own list.

    Raises:
        LedgerError: ``TX_SIZE``, ``TX_TYPE``, ``TX_MALFORMED``, ``TX_CHAIN``, ``TX_CREATES_CONTRACT``,
            ``TX_VALUE``, ``TX_FEE``, ``TX_GAS``, ``TX_SIGNATURE``.
    """
    found, kind = _fields(raw)
    encoded, content = [each[0] for each in found], [each[1] for each in found]
    if kind == 0:
        nonce, price, gas, to, value = content[:5]
        fees, v = [price], _number(content[6])
        chain, recovery = (v - 35) // 2, (v - 35) % 2
        replay = [rlp.encode_number(max(chain, 0)), rlp.encode_number(0), rlp.encode_number(0)]
        unsigned = rlp.encode_list([*encoded[:6], *replay])
    else:
        nonce, fees = content[1], content[2 : 2 + kind]
        gas, to, value = content[2 + kind : 5 + kind]
        chain, recovery = _number(content[0]), _number(content[-3])
        unsigned = bytes([kind]) + rlp.encode_list(encoded[:-3])
    if chain != chain_id:
        raise _refuse("TX_CHAIN", "The transaction is signed for another chain, or for any chain.")
    if to is None or len(to) not in (0, 20):
        raise _refuse("TX_MALFORMED", "The called address must have 20 bytes.")
    if not to and not deployment:
        raise _refuse(
            "TX_CREATES_CONTRACT",
            "This ledger takes no new contract.",
            "The consortium's contracts are part of its signed genesis document.",
        )
    if _number(value) != 0:
        raise _refuse("TX_VALUE", "A transaction on this ledger moves no value.")
    if any(_number(fee) != 0 for fee in fees):
        raise _refuse("TX_FEE", "A transaction on this ledger pays no fee: set every fee to 0.")
    if not _MIN_GAS <= _number(gas) <= TRANSACTION_GAS:
        raise _refuse(
            "TX_GAS", f"A transaction's gas limit must lie between {_MIN_GAS} and {TRANSACTION_GAS}."
        )
    if _number(nonce) >= (1 << 64) - 1:
        raise _refuse("TX_MALFORMED", "The nonce is out of range.")
    sender = _sender(keccak(unsigned), recovery, _number(content[-2]), _number(content[-1]))
    return Transaction(raw, keccak(raw), sender, _number(nonce), _number(gas), to)
