"""A ledger's state without an engine: a tree builder of its own, block headers, and members who co-sign.

The builder follows the Yellow Paper's appendix D by plain recursion; published roots check it. It shares nothing with
the verifier but RLP.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_hash.auto import keccak

from ledger import storage
from ledger.engine import rlp
from ledger.engine.genesis import Member
from ledger.proofs.making import encode_header
from ledger.proofs.trust import Trust
from protocol.checkpoint import START, Checkpoint, Note, Signature, cosign, sign
from protocol.keys import IdentityKey, PublicKey

NOW = 1_800_000_000
MEMBERS = ("bank-a", "bank-b", "bank-c", "bank-d")


class Tree:
    """A Merkle-Patricia tree over byte keys."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self.nodes: dict[bytes, bytes] = {}
        pairs = [(_nibbles(key), value) for key, value in sorted(entries.items())]
        node = self._node(pairs) if pairs else b"\x80"
        self.root = self._store(node)

    def _store(self, node: bytes) -> bytes:
        digest = bytes(keccak(node))
        self.nodes[digest] = node
        return digest

    def _node(self, pairs: list[tuple[tuple[int, ...], bytes]]) -> bytes:
        if len(pairs) == 1:
            path, value = pairs[0]
            return rlp.encode_list([rlp.encode_bytes(_hex_prefix(path, True)), rlp.encode_bytes(value)])
        common = 0
        while all(len(path) > common and path[common] == pairs[0][0][common] for path, _ in pairs):
            common += 1
        if common:
            below = self._child([(path[common:], value) for path, value in pairs])
            return rlp.encode_list([rlp.encode_bytes(_hex_prefix(pairs[0][0][:common], False)), below])
        children = []
        for nibble in range(16):
            part = [(path[1:], value) for path, value in pairs if path and path[0] == nibble]
            children.append(self._child(part) if part else b"\x80")
        here = [value for path, value in pairs if not path]
        return rlp.encode_list([*children, rlp.encode_bytes(here[0] if here else b"")])

    def _child(self, pairs: list[tuple[tuple[int, ...], bytes]]) -> bytes:
        node = self._node(pairs)
        return node if len(node) < 32 else rlp.encode_bytes(self._store(node))

    def proof(self, key: bytes) -> list[bytes]:
        """The hashed nodes on the way to a key, as eth_getProof gives them."""
        if self.nodes[self.root] == b"\x80":
            return []
        path, found, item = _nibbles(key), [], rlp.encode_bytes(self.root)
        while True:
            content = item[1:] if len(item) == 33 else b""
            node = self.nodes.get(content, item)
            if content in self.nodes:
                found.append(node)
            items = rlp.items(node)
            if len(items) == 17:
                if not path or items[path[0]][1] == b"":
                    return found
                item, path = items[path[0]][0], path[1:]
                continue
            encoded = items[0][1] or b""
            odd, leaf = encoded[0] >> 4 & 1, encoded[0] >> 5
            part = _nibbles(encoded)[1 if odd else 2 :]
            if leaf or path[: len(part)] != part:
                return found
            item, path = items[1][0], path[len(part) :]


def _nibbles(data: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in data for nibble in (byte >> 4, byte & 15))


def _hex_prefix(path: tuple[int, ...], leaf: bool) -> bytes:
    flag = 2 if leaf else 0
    whole = (flag + 1, *path) if len(path) % 2 else (flag, 0, *path)
    return bytes(a << 4 | b for a, b in zip(whole[::2], whole[1::2], strict=True))


def word(value: int) -> bytes:
    """A storage value as the tree holds it."""
    return rlp.encode_number(value)


def packed(fields: storage.Fields, **values: int) -> int:
    """A packed word."""
    total, at = 0, 0
    for name, bits in fields:
        total |= values.pop(name, 0) << at
        at += bits
    assert not values
    return total


@dataclass
class ProofChain:
    """A consortium's ledger at one block; also where proofs are made from."""

    words: dict[int, int] = field(default_factory=dict)
    time: int = NOW
    number: int = 77
    cosigners: tuple[str, ...] = MEMBERS[:3]
    cosigned_at: int = NOW
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identities = {name: IdentityKey.generate() for name in ("operator", *MEMBERS)}
        self.keys = {name: Ed25519PrivateKey.generate() for name in ("operator", *MEMBERS)}
        self.code = bytes(keccak(b"the registry's code"))
        self.trust = Trust(
            secrets.token_bytes(32),
            5_000_000_000,
            secrets.token_bytes(32),
            self.member("operator"),
            tuple(self.member(name) for name in MEMBERS),
            secrets.token_bytes(20),
            self.code,
        )
        self.epochs(1, 1)

    def member(self, name: str) -> Member:
        """A party's public half."""
        raw = self.keys[name].public_key().public_bytes_raw()
        return Member(name, self.identities[name].public, PublicKey(raw))

    def set(self, slot: int, value: int) -> None:
        """Write a word."""
        self.words[slot] = value

    def epochs(self, oldest: int, newest: int, retired_at: int = 0) -> None:
        """Write the live epochs, and a retirement."""
        value = 0
        for label, content in (
            ("_oldestEpoch", oldest),
            ("_newestEpoch", newest),
            ("_retiredAt", retired_at),
        ):
            value |= content << (8 * storage.variable(label).offset)
        self.set(storage.variable("_oldestEpoch").slot, value)

    # ---- the chain

    def _trees(self) -> tuple[Tree, Tree]:
        held = {
            bytes(keccak(slot.to_bytes(32, "big"))): word(value)
            for slot, value in self.words.items()
            if value
        }
        inner = Tree(held)
        account = rlp.encode_list(
            [
                rlp.encode_number(1),
                rlp.encode_number(0),
                rlp.encode_bytes(inner.root),
                rlp.encode_bytes(self.code),
            ]
        )
        others = {bytes(keccak(bytes([n]) * 20)): account for n in range(5)}
        return Tree({bytes(keccak(self.trust.registry)): account, **others}), inner

    def block(self) -> dict[str, Any]:
        """The block as JSON-RPC shows it."""
        zero = "0x" + "00" * 32
        fixed = dict.fromkeys(
            ("parentHash", "sha3Uncles", "transactionsRoot", "receiptsRoot", "mixHash"), zero
        )
        return {
            **fixed,
            "miner": "0x" + "00" * 20,
            "stateRoot": "0x" + self._trees()[0].root.hex(),
            "logsBloom": "0x" + "00" * 256,
            "nonce": "0x0000000000000000",
            "extraData": "0x",
            "number": hex(self.number),
            "timestamp": hex(self.time),
            **dict.fromkeys(("difficulty", "gasLimit", "gasUsed", "baseFeePerGas"), "0x0"),
        }

    def checkpoint(self, **other: Any) -> Checkpoint:
        """The checkpoint over the block; fields may be replaced."""
        fields: dict[str, Any] = {
            "origin": self.trust.origin,
            "size": self.number + 1,
            "root": bytes(32),
            "chain_id": self.trust.chain_id,
            "genesis": self.trust.genesis,
            "registry": (self.trust.registry, self.trust.code_hash),
            "number": self.number,
            "block_hash": bytes(keccak(encode_header(self.block()))),
            "state_root": self._trees()[0].root,
            "time": self.time,
            "previous": START,
            "members": self.trust.member_set,
        }
        return Checkpoint(**{**fields, **other})

    def note(self, checkpoint: Checkpoint | None = None, *more: Signature) -> str:
        """The checkpoint, signed by the operator and by the cosigners."""
        text = (checkpoint or self.checkpoint()).text
        origin = self.trust.origin
        signatures = [sign(text, origin, self.keys["operator"])]
        signatures += [
            cosign(text, f"{origin}/{name}", self.keys[name], self.cosigned_at) for name in self.cosigners
        ]
        return Note(text, (*signatures, *more)).encode()

    # ---- Source

    def final_note(self) -> str:
        """As a member's door."""
        return self.note()

    def rpc(self, method: str, *params: Any) -> Any:
        """As a member's door, for the two reads that proofs need."""
        self.asked.append(method)
        if method == "eth_getBlockByNumber":
            return self.block()
        assert method == "eth_getProof"
        outer, inner = self._trees()
        slots = [int(each, 16) for each in params[1]]
        return {
            "accountProof": _hex(outer.proof(bytes(keccak(self.trust.registry)))),
            "storageProof": [
                {"proof": _hex(inner.proof(bytes(keccak(slot.to_bytes(32, "big")))))} for slot in slots
            ],
        }


def _hex(nodes: list[bytes]) -> list[str]:
    return ["0x" + each.hex() for each in nodes]
