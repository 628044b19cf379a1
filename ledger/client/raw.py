"""A chain of validators (Besu QBFT) as a chain for the outbox, over plain JSON-RPC.

Invariants:
    - A block counts as final once `depth` blocks stand on it and it still stands at its height. QBFT blocks are final
      at once, so there a depth of 1 guards only against a node that lags; a chain with reorganisations needs more.
    - A head older than `max_age` seconds makes everything unknown.
    - Nothing is trusted from the node's pool: a call is included when there is a receipt.

Block headers are read as plain JSON, so the longer extra data of proof-of-authority chains is no obstacle.
Not protected: a node that lies. Ask a node of your own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx

from ledger.client.ports import Place, Receipt
from protocol.errors import LedgerError, ProtocolError, Unavailable

_NEVER = {
    "nonce too low": "TX_NONCE_USED",
    "nonce below": "TX_NONCE_USED",
    "intrinsic gas": "TX_REFUSED",
    "exceeds block gas limit": "TX_GAS",
    "invalid signature": "TX_SIGNATURE",
    "chain id": "TX_CHAIN",
    "wrong chain": "TX_CHAIN",
}
"""What nodes say when they will never take a transaction, in lower case, and what it means here."""

_KNOWN = ("already known", "known transaction", "already imported", "already in pool")


class RawChain:
    """One node behind the port."""

    def __init__(
        self,
        url: str,
        client: httpx.Client,
        *,
        depth: int = 1,
        max_age: int = 60,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect nothing yet.

        Args:
            url: the node's JSON-RPC address.
            client: HTTP client.
            depth: blocks that must stand on a block before it counts as final.
            max_age: seconds after which the newest block is too old to judge by.
            clock: Unix time.
        """
        self._url = url
        self._client = client
        self._depth = depth
        self._max_age = max_age
        self._clock = clock
        self._ids = itertools.count(1)

    def send(self, raw: bytes) -> Place | None:
        """Put a transaction into the node's pool; a receipt will tell its place."""
        answer = self._post("eth_sendRawTransaction", "0x" + raw.hex())
        if "error" in answer:
            message = str((answer["error"] or {}).get("message", "")).lower()
            if any(each in message for each in _KNOWN):
                return None
            for words, code in _NEVER.items():
                if words in message:
                    raise LedgerError(code, "The chain will not take this transaction.")
            raise Unavailable("LEDGER_REFUSES", "The node does not take the transaction now.")
        return None

    def receipt(self, transaction: bytes) -> Receipt | None:
        """Return a receipt, or None."""
        found = self._result("eth_getTransactionReceipt", "0x" + transaction.hex())
        if found is None:
            return None
        try:
            place = Place(int(found["blockNumber"], 16), bytes.fromhex(found["blockHash"][2:]))
            return Receipt(place, int(found["status"], 16) == 1)
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error

    def revert_data(self, transaction: bytes) -> bytes:
        """Return revert data from a trace without its bulk.

        Replaying the call at the parent block would give another answer when an earlier transaction of the same
        block decided it.
        """
        options = {"disableStorage": True, "disableMemory": True, "disableStack": True}
        found = self._result("debug_traceTransaction", "0x" + transaction.hex(), options)
        try:
            return bytes.fromhex(str(found["returnValue"]).removeprefix("0x"))
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error

    def is_final(self, place: Place) -> bool:
        """Return whether the block stands at its height, under enough others, on a chain that is alive."""
        head = self._block("latest")
        if head is None or head[2] < self._clock() - self._max_age:
            raise Unavailable("LEDGER_STALE", "The chain's newest block is too old to judge by.")
        if head[0] < place.block + self._depth:
            return False
        found = self._block(hex(place.block))
        return found is not None and found[1] == place.block_hash

    def final_height(self) -> int:
        """Return the number of the newest block that counts as final, at least 0.

        Raises:
            Unavailable: ``LEDGER_STALE``, ``LEDGER_SILENT``.
        """
        head = self._block("latest")
        if head is None or head[2] < self._clock() - self._max_age:
            raise Unavailable("LEDGER_STALE", "The chain's newest block is too old to judge by.")
        return max(head[0] - self._depth, 0)

    def view(self, to: bytes, data: bytes) -> tuple[bytes, int]:
        """Return what a contract's view gives at the newest final block, and that block's number.

        Raises:
            Unavailable: unknown, as `final_height`.
        """
        height = self.final_height()
        found = self._result("eth_call", {"to": "0x" + to.hex(), "data": "0x" + data.hex()}, hex(height))
        try:
            return bytes.fromhex(str(found).removeprefix("0x")), height
        except ValueError as error:
            raise _unusable() from error

    def count(self, sender: bytes) -> int:
        """Return how many transactions of a sender are in the chain."""
        try:
            return int(self._result("eth_getTransactionCount", "0x" + sender.hex(), "latest"), 16)
        except (TypeError, ValueError) as error:
            raise _unusable() from error

    def _block(self, tag: str) -> tuple[int, bytes, int] | None:
        """Return (number, hash, time) of a block."""
        found = self._result("eth_getBlockByNumber", tag, False)
        if found is None:
            return None
        try:
            return int(found["number"], 16), bytes.fromhex(found["hash"][2:]), int(found["timestamp"], 16)
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error

    def _result(self, method: str, *params: Any) -> Any:
        answer = self._post(method, *params)
        if "error" in answer:
            raise Unavailable("LEDGER_REFUSES", "The node does not answer this.")
        return answer.get("result")

    def _post(self, method: str, *params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            answer = self._client.post(self._url, json=body).json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "LEDGER_SILENT", "The node does not answer.", "What was sent is unknown."
            ) from error
        if not isinstance(answer, dict):
            raise _unusable()
        return answer


def _unusable() -> ProtocolError:
    return ProtocolError("LEDGER_ANSWER", "The node gives an answer that can't be used.")
