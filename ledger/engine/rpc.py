"""JSON-RPC as this ledger speaks it: an allowlist, with limits on what a read may cost.

Specification: JSON-RPC 2.0; the methods keep their Ethereum meaning, except that ``pending`` means ``latest``
(the ledger shows nothing before it is durable) and that prices are zero.

Invariants: a method that is not in the table is refused before any engine sees it, and so is a parameter too
many (``eth_call``'s state overrides for instance). Nothing here changes state but the two sending methods.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ledger.engine.port import TRANSACTION_GAS
from protocol.errors import ConcordatError, LedgerError, ProtocolError

MAX_BATCH = 200
"""Requests in one HTTP body."""

MAX_LOG_BLOCKS = 10_000
"""Blocks that one `eth_getLogs` may span."""

MAX_PROOF_SLOTS = 64
"""Storage slots of one `eth_getProof`."""


@dataclass(frozen=True)
class Rule:
    """How a method may be called.

    Attributes:
        least: fewest parameters.
        most: most parameters.
        tag: position of a block tag, or None.
    """

    least: int
    most: int
    tag: int | None = None


FORWARDED: dict[str, Rule] = {
    "eth_blockNumber": Rule(0, 0),
    "eth_call": Rule(1, 2, 1),
    "eth_chainId": Rule(0, 0),
    "eth_estimateGas": Rule(1, 2, 1),
    "eth_getBalance": Rule(1, 2, 1),
    "eth_getBlockByHash": Rule(2, 2),
    "eth_getBlockByNumber": Rule(2, 2, 0),
    "eth_getBlockTransactionCountByHash": Rule(1, 1),
    "eth_getBlockTransactionCountByNumber": Rule(1, 1, 0),
    "eth_getCode": Rule(1, 2, 1),
    "eth_getLogs": Rule(1, 1),
    "eth_getProof": Rule(2, 3, 2),
    "eth_getStorageAt": Rule(2, 3, 2),
    "eth_getTransactionByBlockHashAndIndex": Rule(2, 2),
    "eth_getTransactionByBlockNumberAndIndex": Rule(2, 2, 0),
    "eth_getTransactionByHash": Rule(1, 1),
    "eth_getTransactionCount": Rule(1, 2, 1),
    "eth_getTransactionReceipt": Rule(1, 1),
    "net_version": Rule(0, 0),
    "web3_clientVersion": Rule(0, 0),
}
"""What the engine answers."""

OWN: dict[str, Rule] = {
    "eth_accounts": Rule(0, 0),
    "eth_gasPrice": Rule(0, 0),
    "eth_maxPriorityFeePerGas": Rule(0, 0),
    "eth_sendRawTransaction": Rule(1, 1),
    "eth_syncing": Rule(0, 0),
    "concordat_sendRawTransaction": Rule(1, 1),
    "concordat_getAcknowledgement": Rule(1, 1),
    "concordat_getRevertData": Rule(1, 1),
}
"""What the gateway answers."""

LONG = frozenset({"eth_getProof", "eth_getLogs", "concordat_getRevertData"})
"""What may take seconds on a large state."""

CONSTANTS: dict[str, Any] = {
    "eth_accounts": [],
    "eth_gasPrice": "0x0",
    "eth_maxPriorityFeePerGas": "0x0",
    "eth_syncing": False,
}


@dataclass(frozen=True)
class Call:
    """A request that passed the table.

    Attributes:
        id: the client's; None for a notification, which is answered all the same.
        method: in `FORWARDED` or `OWN`.
        params: cleaned parameters.
    """

    id: Any
    method: str
    params: list[Any]

    @property
    def body(self) -> str:
        """The request as JSON text for the engine."""
        return json.dumps({"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": self.params})


def decode(body: bytes) -> tuple[list[Any], bool]:
    """Return the requests of an HTTP body, and whether it was a batch.

    Raises:
        ProtocolError: ``RPC_MALFORMED``, ``RPC_BATCH``.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("RPC_MALFORMED", "The body is not JSON.") from error
    batch = isinstance(content, list)
    requests = content if batch else [content]
    if not 1 <= len(requests) <= MAX_BATCH:
        raise ProtocolError("RPC_BATCH", f"A batch must have 1 to {MAX_BATCH} requests.")
    return requests, batch


def admit(request: Any, head: int) -> Call:
    """Return a request's call if the table allows it.

    Args:
        request: decoded JSON.
        head: the last block's number, which bounds ``eth_getLogs``.

    Raises:
        ProtocolError: ``RPC_MALFORMED``, ``RPC_PARAMS``.
        LedgerError: ``RPC_NOT_ALLOWED``, ``RPC_RANGE``.
    """
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise ProtocolError("RPC_MALFORMED", "A request must be an object with a method.")
    method, params = request["method"], request.get("params", [])
    rule = FORWARDED.get(method) or OWN.get(method)
    if rule is None:
        raise LedgerError("RPC_NOT_ALLOWED", "This gateway does not offer that method.")
    if not isinstance(params, list) or not rule.least <= len(params) <= rule.most:
        raise ProtocolError("RPC_PARAMS", "The method takes other parameters.")
    params = list(params)
    if rule.tag is not None:
        if len(params) == rule.tag:
            params.append("latest")
        if params[rule.tag] in ("pending", "safe", "finalized"):
            params[rule.tag] = "latest"
    if method == "eth_getLogs":
        params = [_logs(params[0], head)]
    if method in ("eth_call", "eth_estimateGas"):
        _check_gas(params[0])
    if method == "eth_getProof":
        params[1] = [_slot(each) for each in _slots(params[1])]
    identifier = request.get("id")
    if not isinstance(identifier, str | int | float | None):
        raise ProtocolError("RPC_MALFORMED", "A request's id must be a string or a number.")
    return Call(identifier, method, params)


def _check_gas(call: Any) -> None:
    """Refuse a simulated call that may burn more than a real one."""
    try:
        gas = int(call.get("gas") or "0x0", 16)
    except (AttributeError, TypeError, ValueError) as error:
        raise ProtocolError("RPC_PARAMS", "The method takes other parameters.") from error
    if gas > TRANSACTION_GAS:
        raise LedgerError("RPC_RANGE", f"A call may use {TRANSACTION_GAS} gas.")


def _slots(keys: Any) -> list[Any]:
    if not isinstance(keys, list):
        raise ProtocolError("RPC_PARAMS", "The method takes other parameters.")
    if len(keys) > MAX_PROOF_SLOTS:
        raise LedgerError("RPC_RANGE", f"A proof may cover {MAX_PROOF_SLOTS} slots.")
    return keys


def _slot(key: Any) -> str:
    """Return a storage key in the one form that every engine reads: 32 bytes."""
    try:
        return f"0x{int(key, 16).to_bytes(32, 'big').hex()}"
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(
            "RPC_PARAMS", "A storage key must be a hexadecimal number of 32 bytes."
        ) from error


def _logs(filter_: Any, head: int) -> dict[str, Any]:
    if not isinstance(filter_, dict):
        raise ProtocolError("RPC_PARAMS", "The method takes other parameters.")
    query: dict[str, Any] = dict(filter_)
    if "blockHash" in query:
        return query
    query["fromBlock"] = _height(query.get("fromBlock", "latest"), head)
    query["toBlock"] = _height(query.get("toBlock", "latest"), head)
    if int(query["toBlock"], 16) - int(query["fromBlock"], 16) >= MAX_LOG_BLOCKS:
        raise LedgerError(
            "RPC_RANGE", f"A query may span {MAX_LOG_BLOCKS} blocks.", "Ask for the range in several parts."
        )
    return query


def _height(tag: Any, head: int) -> str:
    if tag == "earliest":
        return "0x0"
    if tag in ("latest", "pending", "safe", "finalized"):
        return hex(head)
    try:
        number = int(tag, 16)
    except (TypeError, ValueError) as error:
        raise ProtocolError("RPC_PARAMS", "A block must be a tag or a hexadecimal number.") from error
    if number < 0:
        raise ProtocolError("RPC_PARAMS", "A block must be a tag or a hexadecimal number.")
    return hex(min(number, head))


def raw_bytes(parameter: Any, size: int | None = None) -> bytes:
    """Return the bytes of a 0x-prefixed parameter.

    Raises:
        ProtocolError: ``RPC_PARAMS``.
    """
    try:
        if not isinstance(parameter, str) or not parameter.startswith("0x"):
            raise ValueError
        data = bytes.fromhex(parameter[2:])
    except ValueError:
        data = b""
    if not data or (size is not None and len(data) != size):
        raise ProtocolError("RPC_PARAMS", "A parameter must be 0x-prefixed hexadecimal bytes.")
    return data


def failure(identifier: Any, error: ConcordatError) -> dict[str, Any]:
    """Return an error as a JSON-RPC answer; the stable code stands in ``data``."""
    numbers = {
        "RPC_MALFORMED": -32600,
        "RPC_BATCH": -32600,
        "RPC_PARAMS": -32602,
        "RPC_NOT_ALLOWED": -32601,
        "RPC_RANGE": -32005,
        "LEDGER_BUSY": -32005,
    }
    return {
        "jsonrpc": "2.0",
        "id": identifier,
        "error": {
            "code": numbers.get(error.code, -32000),
            "message": error.message,
            "data": {"code": error.code, "hint": error.hint},
        },
    }
