"""The Merkle tree against the Certificate Transparency reference, and what its verifiers refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolError
from protocol.merkle import (
    MerkleTree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/merkle_rfc6962.json").read_text())
ENTRIES = [bytes.fromhex(each) for each in VECTORS["entries"]]
ROOTS = [bytes.fromhex(each) for each in VECTORS["roots"]]


def tree(size: int) -> MerkleTree:
    made = MerkleTree()
    for number in range(size):
        made.append(number.to_bytes(2, "big"))
    return made


def proof_of(case: dict[str, list[str]]) -> list[bytes]:
    return [bytes.fromhex(each) for each in case["proof"]]


def test_roots_of_the_reference() -> None:
    made = MerkleTree()
    assert made.root() == ROOTS[0]
    for size, entry in enumerate(ENTRIES, 1):
        assert made.append(entry) == leaf_hash(entry)
        assert made.root() == ROOTS[size]
    assert [made.root(size) for size in range(9)] == ROOTS
    assert MerkleTree(leaf_hash(each) for each in ENTRIES).root() == ROOTS[8]


def test_a_frontier_goes_on_like_the_tree() -> None:
    whole = tree(70)
    for start in (0, 1, 2, 7, 8, 33):
        frontier = tree(start).frontier()
        assert frontier.root() == whole.root(start)
        for number in range(start, 70):
            frontier.append(number.to_bytes(2, "big"))
            assert (frontier.size, frontier.root()) == (number + 1, whole.root(number + 1))


@pytest.mark.parametrize("case", VECTORS["inclusion"])
def test_inclusion_proofs_of_the_reference(case: dict[str, int]) -> None:
    made = MerkleTree(leaf_hash(each) for each in ENTRIES)
    index, size, proof = case["index"], case["size"], proof_of(case)  # type: ignore[arg-type]
    assert list(made.inclusion_proof(index, size)) == proof
    verify_inclusion(leaf_hash(ENTRIES[index]), index, size, proof, ROOTS[size])


@pytest.mark.parametrize("case", VECTORS["consistency"])
def test_consistency_proofs_of_the_reference(case: dict[str, int]) -> None:
    made = MerkleTree(leaf_hash(each) for each in ENTRIES)
    first, second, proof = case["first"], case["second"], proof_of(case)  # type: ignore[arg-type]
    assert list(made.consistency_proof(first, second)) == proof
    verify_consistency(first, second, proof, ROOTS[first], ROOTS[second])


def test_every_proof_of_small_trees_verifies_at_its_place_only() -> None:
    made = tree(20)
    for size in range(1, 21):
        root = made.root(size)
        for index in range(size):
            proof = made.inclusion_proof(index, size)
            verify_inclusion(made.leaf(index), index, size, proof, root)
            for other in range(size):
                if other != index:
                    with pytest.raises(ProtocolError, match=r"\[MERKLE_INCLUSION\]"):
                        verify_inclusion(made.leaf(index), other, size, proof, root)
        for first in range(1, size + 1):
            verify_consistency(first, size, made.consistency_proof(first, size), made.root(first), root)


@given(st.integers(2, 40), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    made = tree(size)
    index = data.draw(st.integers(0, size - 1))
    proof, leaf, root = list(made.inclusion_proof(index)), made.leaf(index), made.root()
    change = data.draw(st.sampled_from(["longer", "shorter", "step", "leaf", "root"]))
    place = data.draw(st.integers(0, len(proof) - 1))
    if change == "longer":
        proof.insert(place, made.leaf(0))
    elif change == "shorter":
        del proof[place]
    elif change == "step":
        proof[place] = node_hash(proof[place], proof[place])
    elif change == "leaf":
        leaf = node_hash(leaf, leaf)
    else:
        root = node_hash(root, root)
    with pytest.raises(ProtocolError, match=r"\[MERKLE_INCLUSION\]"):
        verify_inclusion(leaf, index, size, proof, root)


@given(st.integers(2, 40), st.data())
def test_a_changed_consistency_proof_is_refused(second: int, data: st.DataObject) -> None:
    made = tree(second)
    first = data.draw(st.integers(1, second - 1))
    proof, roots = list(made.consistency_proof(first)), [made.root(first), made.root()]
    change = data.draw(st.sampled_from(["longer", "shorter", "step", "first", "second"]))
    place = data.draw(st.integers(0, len(proof) - 1))
    if change == "longer":
        proof.append(made.leaf(0))
    elif change == "shorter":
        del proof[place]
    elif change == "step":
        proof[place] = node_hash(proof[place], proof[place])
    else:
        roots[change == "second"] = node_hash(roots[0], roots[1])
    with pytest.raises(ProtocolError, match=r"\[MERKLE_CONSISTENCY\]"):
        verify_consistency(first, second, proof, *roots)


def test_a_rewritten_prefix_has_no_consistency_proof() -> None:
    honest, other = tree(9), MerkleTree([leaf_hash(b"another"), *(tree(20).leaf(at) for at in range(1, 20))])
    with pytest.raises(ProtocolError, match=r"\[MERKLE_CONSISTENCY\]"):
        verify_consistency(9, 20, other.consistency_proof(9, 20), honest.root(), other.root())


def test_equal_sizes_need_equal_roots_and_no_proof() -> None:
    made = tree(5)
    verify_consistency(5, 5, [], made.root(), made.root())
    with pytest.raises(ProtocolError, match=r"\[MERKLE_CONSISTENCY\]"):
        verify_consistency(5, 5, [made.leaf(0)], made.root(), made.root())
    with pytest.raises(ProtocolError, match=r"\[MERKLE_CONSISTENCY\]"):
        verify_consistency(5, 5, [], made.root(), made.root(4))


def test_a_node_is_not_taken_for_a_leaf() -> None:
    made = tree(4)
    inner = made.leaf(0) + made.leaf(1)
    with pytest.raises(ProtocolError, match=r"\[MERKLE_INCLUSION\]"):
        verify_inclusion(leaf_hash(inner), 0, 2, [node_hash(made.leaf(2), made.leaf(3))], made.root())


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3), (-1, 2)])
def test_sizes_out_of_range_are_refused(first: int, second: int) -> None:
    made = tree(3)
    with pytest.raises(ProtocolError, match=r"\[MERKLE_RANGE\]"):
        verify_consistency(first, second, [], made.root(), made.root())
    with pytest.raises(ProtocolError, match=r"\[MERKLE_RANGE\]"):
        made.consistency_proof(first, second)


@pytest.mark.parametrize(("index", "size"), [(3, 3), (-1, 3), (0, 0), (0, 9)])
def test_indices_out_of_range_are_refused(index: int, size: int) -> None:
    with pytest.raises(ProtocolError, match=r"\[MERKLE_RANGE\]"):
        tree(3).inclusion_proof(index, size)
    with pytest.raises(ProtocolError, match=r"\[MERKLE_RANGE\]"):
        tree(3).leaf(3)
    with pytest.raises(ProtocolError, match=r"\[MERKLE_RANGE\]"):
        tree(3).root(4)


def test_a_hash_of_another_length_is_refused() -> None:
    made = tree(2)
    with pytest.raises(ProtocolError, match=r"\[MERKLE_HASH\]"):
        made.append_hash(b"short")
    with pytest.raises(ProtocolError, match=r"\[MERKLE_HASH\]"):
        verify_inclusion(made.leaf(0), 0, 2, [b"short"], made.root())
    with pytest.raises(ProtocolError, match=r"\[MERKLE_HASH\]"):
        verify_consistency(1, 2, [b""], made.root(1), made.root())
