"""Making a proof: asks a member's replica for a final checkpoint, a header and tree nodes.

Nothing is taken over unseen: the maker follows every node as a reader will, and verifies the file before it returns
it. `MemberSource` speaks to a member's door; anything with the two methods of `Source` will do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Protocol

import httpx

from ledger.engine import rlp
from ledger.proofs import trie
from ledger.proofs.state import Final, State, check_header, final, storage_root, word_at
from ledger.proofs.statements import Statement
from ledger.proofs.trust import Trust
from ledger.proofs.verifying import Proof, verify
from protocol.errors import ConcordatError, ProtocolError, Unavailable

MAX_SLOTS = 64
"""Slots of one question; the doors allow no more."""

_HEADER = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
"""A header's fields in order (Yellow Paper 4.4; EIP-1559, 4895, 4844, 4788, 7685); the later ones may be missing."""

_NUMBERS = {
    *("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed"),
    "excessBlobGas",
}


class Source(Protocol):
    """Where a proof is made from."""

    def final_note(self) -> str:
        """Return the newest final checkpoint with its cosignatures, a C2SP note."""
        ...

    def rpc(self, method: str, *params: Any) -> Any:
        """Return the result of a JSON-RPC read."""
        ...


class MemberSource:
    """A member's door over HTTP."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._ids = itertools.count(1)

    def final_note(self) -> str:
        """Return the newest final checkpoint.

        Raises:
            Unavailable: ``PROOF_NOT_NOW`` while the member can't say what is final.
        """
        try:
            return str(self._client.get(f"{self._url}/final").raise_for_status().json()["note"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise _not_now() from error

    def rpc(self, method: str, *params: Any) -> Any:
        """Ask the member's replica.

        Raises:
            Unavailable: ``PROOF_NOT_NOW``.
        """
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            return self._client.post(self._url, json=body).raise_for_status().json()["result"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise _not_now() from error


def _not_now() -> Unavailable:
    return Unavailable(
        "PROOF_NOT_NOW", "The member can't make a proof now.", "Try again, or ask another member."
    )


def encode_header(block: dict[str, Any]) -> bytes:
    """Return a block's header in RLP, from its JSON-RPC form."""
    fields = []
    for name in _HEADER:
        text = block.get(name)
        if text is None:
            continue
        if name in _NUMBERS:
            fields.append(rlp.encode_number(int(text, 16)))
        else:
            fields.append(rlp.encode_bytes(bytes.fromhex(text[2:])))
    return rlp.encode_list(fields)


class RecordingState(State):
    """Storage that is asked for word by word, and remembers which nodes it took."""

    def __init__(self, covered: Final, trust: Trust, source: Source) -> None:
        super().__init__(covered)
        self._address = "0x" + trust.registry.hex()
        self._source = source
        self._block = hex(covered.checkpoint.number)
        self._answers: dict[int, list[bytes]] = {}
        self._used: dict[bytes, None] = {}
        answer = self._ask([])
        self.account = tuple(_bytes(each) for each in answer["accountProof"])
        nodes = trie.Nodes(self.account)
        self._root = storage_root(covered.checkpoint.state_root, trust, nodes)
        nodes.finish()

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """Storage nodes in the order of first use."""
        return tuple(self._used)

    def expect(self, slots: Iterable[int]) -> None:
        """Fetch words together."""
        missing = [slot for slot in dict.fromkeys(slots) if slot not in self._answers]
        for at in range(0, len(missing), MAX_SLOTS):
            chunk = missing[at : at + MAX_SLOTS]
            proofs = self._ask(chunk)["storageProof"]
            for slot, proof in zip(chunk, proofs, strict=True):
                self._answers[slot] = [_bytes(each) for each in proof["proof"]]

    def word(self, slot: int) -> int:
        """Return a word and remember its nodes."""
        self.expect([slot])
        nodes = trie.Nodes(self._answers[slot])
        value = word_at(self._root, slot, nodes)
        self._used.update(dict.fromkeys(nodes.used))
        return value

    def _ask(self, slots: list[int]) -> dict[str, Any]:
        keys = [f"0x{slot:064x}" for slot in slots]
        answer = self._source.rpc("eth_getProof", self._address, keys, self._block)
        if not isinstance(answer, dict):
            raise _not_now()
        return answer


def _bytes(text: Any) -> bytes:
    return bytes.fromhex(str(text).removeprefix("0x"))


def make(statement: Statement, source: Source, trust: Trust, *, now: int) -> bytes:
    """Return a proof of a statement at the newest final block, verified.

    Args:
        statement: what is to be proved.
        source: a member's replica.
        trust: the ledger.
        now: Unix seconds.

    Raises:
        LedgerError: ``PROOF_CLAIMED``, ``PROOF_NO_CLAIM``, ``PROOF_NOT_ANCHORED``: the statement is not true.
        ProtocolError: the replica answers what does not follow from the checkpoint.
        Unavailable: ``PROOF_NOT_NOW``.
    """
    note = source.final_note()
    covered = final(note, trust, now)
    try:
        block = source.rpc("eth_getBlockByNumber", hex(covered.checkpoint.number), False)
        header = encode_header(block)
        check_header(header, covered.checkpoint)
        state = RecordingState(covered, trust, source)
        state.expect(statement.slots())
        statement.find(state)
    except ConcordatError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError("PROOF_ANSWER", "The replica gives an answer that can't be used.") from error
    data = Proof(statement, trust, note, header, state.account, state.nodes).encode()
    verify(data, trust, now=now, max_age=None)
    return data
