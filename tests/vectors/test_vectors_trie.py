"""The trie verifier against roots that Ethereum publishes (ethereum/tests, TrieTests)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_hash.auto import keccak
from proof_chain import Tree

from ledger.proofs import trie

VECTORS = json.loads((Path(__file__).parent / "trie_ethereum.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_roots(vector: dict[str, object]) -> None:
    secure = bool(vector["secure"])
    raw = {key.encode(): value.encode() for key, value in dict(vector["entries"]).items()}  # type: ignore[call-overload]
    entries = {bytes(keccak(key)) if secure else key: value for key, value in raw.items()}
    tree, root = Tree(entries), bytes.fromhex(str(vector["root"]))
    assert tree.root == root
    for key, value in entries.items():
        nodes = trie.Nodes(tree.proof(key))
        assert trie.lookup(root, key, nodes) == value
        nodes.finish()
    for absent in (b"no such key", b"d", b"dogg", b"\x00" * 32):
        if absent not in entries:
            nodes = trie.Nodes(tree.proof(absent))
            assert trie.lookup(root, absent, nodes) is None
            nodes.finish()


def test_the_empty_root_is_the_published_one() -> None:
    published = "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert trie.EMPTY_ROOT.hex() == published
    assert trie.lookup(trie.EMPTY_ROOT, b"any", trie.Nodes([])) is None
