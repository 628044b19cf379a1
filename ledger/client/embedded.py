"""The embedded ledger as a chain for the outbox: the operator's gateway to send, the own member's door to believe.

Invariants:
    - An acknowledgement counts only under the operator's signature, for this ledger and these bytes.
    - Receipts are read from the *own member's* replica, which replayed them, not from the operator.
    - Final means: the own member's final checkpoint is cosigned by more than two thirds (verified here again),
      covers the block, is not older than the tolerance, and the block that stands there is the one expected.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx
from eth_hash.auto import keccak

from ledger.client.ports import Place, Receipt
from ledger.engine.acknowledgement import verify
from ledger.engine.evidence import read
from ledger.engine.genesis import Genesis
from protocol.checkpoint import require_final
from protocol.errors import ConcordatError, LedgerError, ProtocolError, Unavailable


class EmbeddedChain:
    """Gateway and member behind the port."""

    def __init__(
        self,
        genesis: Genesis,
        gateway: str,
        member: str,
        client: httpx.Client,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect nothing yet.

        Args:
            genesis: the checked genesis document.
            gateway: URL of the operator.
            member: URL of the own member's replica.
            client: HTTP client.
            clock: Unix time.
        """
        self._genesis = genesis
        self._gateway = gateway.rstrip("/")
        self._member = member.rstrip("/")
        self._client = client
        self._clock = clock
        self._ids = itertools.count(1)

    def send(self, raw: bytes) -> Place | None:
        """Send a transaction and return the place that the operator signed for."""
        document = self._rpc(self._gateway, "concordat_sendRawTransaction", "0x" + raw.hex())
        if not isinstance(document, dict):
            raise _unusable()
        try:
            found = verify(document, self._genesis.operator.identity)
        except ConcordatError as error:
            raise _unusable() from error
        expected = (self._genesis.consortium.hex(), self._genesis.chain.chain_id, keccak(raw))
        if (found.consortium, found.chain_id, found.transaction) != expected:
            raise _unusable()
        place = Place(found.log_index, found.block_hash)
        receipt = self.receipt(found.transaction)
        # The replica follows a moment later; until then the call stays queued and is sent again, harmlessly.
        return place if receipt is not None and receipt.place == place else None

    def receipt(self, transaction: bytes) -> Receipt | None:
        """Return a receipt from the own replica."""
        found = self._rpc(self._member, "eth_getTransactionReceipt", "0x" + transaction.hex())
        if found is None:
            return None
        try:
            place = Place(int(found["blockNumber"], 16), bytes.fromhex(found["blockHash"][2:]))
            return Receipt(place, int(found["status"], 16) == 1)
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error

    def revert_data(self, transaction: bytes) -> bytes:
        """Return revert data from the own replica."""
        found = self._rpc(self._member, "concordat_getRevertData", "0x" + transaction.hex())
        try:
            return bytes.fromhex(str(found).removeprefix("0x"))
        except ValueError as error:
            raise _unusable() from error

    def count(self, sender: bytes) -> int:
        """Return how many transactions of a sender the own replica has executed."""
        return int(self._rpc(self._member, "eth_getTransactionCount", "0x" + sender.hex(), "latest"), 16)

    def is_final(self, place: Place) -> bool:
        """Return whether a final checkpoint covers the block."""
        if self.final_height() < place.block:
            return False
        block = self._rpc(self._member, "eth_getBlockByNumber", hex(place.block), False)
        if not isinstance(block, dict) or block.get("hash") != "0x" + place.block_hash.hex():
            raise LedgerError("LEDGER_FORKED", "Another block is final where this call was acknowledged.")
        return True

    def final_height(self) -> int:
        """Return the number of the newest final block.

        Raises:
            Unavailable: ``NOT_FINAL``, ``LEDGER_BEHIND``, ``LEDGER_STALE``, ``LEDGER_SILENT``.
            LedgerError: ``LEDGER_HALTED``.
            SignatureInvalid: if the member's note lacks cosignatures.
        """
        answer = self._get(f"{self._member}/final")
        try:
            note, as_of = str(answer["note"]), int(answer["asOf"])
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable() from error
        statement = read(note, self._genesis)
        require_final(statement.note, self._genesis.member_keys())
        if as_of < self._clock() - self._genesis.clock_tolerance:
            raise Unavailable("LEDGER_STALE", "What the members called final is too old to rely on.")
        return statement.checkpoint.number

    def view(self, to: bytes, data: bytes) -> tuple[bytes, int]:
        """Return what a contract's view gives at the newest final block, and that block's number.

        This is what a decision may rest on. It fails closed: an error means unknown, never "free".

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: unknown, as `final_height`.
        """
        height = self.final_height()
        call = {"to": "0x" + to.hex(), "data": "0x" + data.hex()}
        found = self._rpc(self._member, "eth_call", call, hex(height))
        try:
            return bytes.fromhex(str(found).removeprefix("0x")), height
        except ValueError as error:
            raise _unusable() from error

    def _get(self, url: str) -> Any:
        try:
            response = self._client.get(url)
            content = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _silent() from error
        if (
            response.status_code == 409
            and isinstance(content, dict)
            and content.get("title") == "LEDGER_HALTED"
        ):
            raise LedgerError("LEDGER_HALTED", str(content.get("detail", "")), str(content.get("hint", "")))
        if response.status_code != 200:
            code = content.get("title") if isinstance(content, dict) else None
            raise Unavailable(str(code or "LEDGER_SILENT"), "The member can't say what is final.")
        return content

    def _rpc(self, url: str, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            answer = self._client.post(url, json=body).json()
        except (httpx.HTTPError, ValueError) as error:
            raise _silent() from error
        if not isinstance(answer, dict) or ("error" not in answer and "result" not in answer):
            raise _unusable()
        if "error" not in answer:
            return answer["result"]
        data = answer["error"].get("data") if isinstance(answer["error"], dict) else None
        code = str(data.get("code", "")) if isinstance(data, dict) else ""
        message = str(answer["error"].get("message", "")) if isinstance(answer["error"], dict) else ""
        if code.startswith("TX_") and code != "TX_UNKNOWN":
            raise LedgerError(code, message)
        raise Unavailable(code or "LEDGER_REFUSES", message or "The ledger does not answer this.")


def _silent() -> Unavailable:
    return Unavailable("LEDGER_SILENT", "A party of the ledger does not answer.", "What was sent is unknown.")


def _unusable() -> ProtocolError:
    return ProtocolError("LEDGER_ANSWER", "A party of the ledger gives an answer that can't be used.")
