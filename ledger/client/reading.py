"""Reading a chain from a node that one believes: the own member's replica, or an own validator node.

Not protected: a node that lies. `EmbeddedChain` and `RawChain` say what is final; this only reads what stands there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import httpx

from protocol.errors import ProtocolError, Unavailable


@dataclass(frozen=True, slots=True)
class Block:
    """A block as an index needs it.

    Attributes:
        number: height.
        hash: 32 bytes.
        parent: hash of the block before, 32 bytes.
        time: Unix seconds.
    """

    number: int
    hash: bytes
    parent: bytes
    time: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A log entry with its place.

    Attributes:
        block: number of its block.
        block_hash: 32 bytes.
        index: position within the block.
        transaction: hash, 32 bytes.
        topics: 32 bytes each.
        data: the rest.
    """

    block: int
    block_hash: bytes
    index: int
    transaction: bytes
    topics: tuple[bytes, ...]
    data: bytes


class ChainReader:
    """Blocks, log entries and views of one node."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        """Connect nothing yet.

        Args:
            url: the node's JSON-RPC address.
            client: HTTP client.
        """
        self._url = url
        self._client = client
        self._ids = itertools.count(1)

    def block(self, number: int | None = None) -> Block | None:
        """Return a block, or the newest one; None if there is none at this height.

        Raises:
            Unavailable: the node does not answer.
        """
        found = self._ask("eth_getBlockByNumber", "latest" if number is None else hex(number), False)
        if found is None:
            return None
        try:
            return Block(
                int(found["number"], 16),
                _bytes(found["hash"]),
                _bytes(found["parentHash"]),
                int(found["timestamp"], 16),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error

    def entries(self, address: bytes, first: int, last: int) -> list[Entry]:
        """Return a contract's log entries of some blocks, in order.

        Args:
            address: 20 bytes.
            first: first block.
            last: last block.

        Raises:
            Unavailable: the node does not answer.
        """
        query = {"address": "0x" + address.hex(), "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            found = [
                Entry(
                    int(each["blockNumber"], 16),
                    _bytes(each["blockHash"]),
                    int(each["logIndex"], 16),
                    _bytes(each["transactionHash"]),
                    tuple(_bytes(topic) for topic in each["topics"]),
                    _bytes(each["data"]),
                )
                for each in self._ask("eth_getLogs", query)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error
        return sorted(found, key=lambda each: (each.block, each.index))

    def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        """Return what a contract's view gives at a block, or at the newest one.

        Raises:
            Unavailable: the node does not answer.
        """
        call = {"to": "0x" + to.hex(), "data": "0x" + data.hex()}
        return _bytes(self._ask("eth_call", call, "latest" if block is None else hex(block)))

    def _ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            answer = self._client.post(self._url, json=body).json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("LEDGER_SILENT", "The ledger's node does not answer.") from error
        if not isinstance(answer, dict) or "result" not in answer:
            raise Unavailable("LEDGER_REFUSES", "The ledger's node does not answer this.")
        return answer["result"]


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise _unusable()
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise _unusable() from error


def _unusable() -> ProtocolError:
    return ProtocolError("LEDGER_ANSWER", "The ledger's node gives an answer that can't be used.")
