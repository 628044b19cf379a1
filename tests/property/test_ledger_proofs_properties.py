"""Proofs against an adversary who changes them, and the trie verifier against random trees."""

from __future__ import annotations

import os
import secrets
from functools import cache
from typing import Any

import pytest
from eth_hash.auto import keccak
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proof_chain import NOW, ProofChain, Tree, packed

from ledger import storage
from ledger.commitments import NO_CONTRACT, ZERO, Body, Draft
from ledger.proofs import trie
from ledger.proofs.fields import SaltedFields
from ledger.proofs.making import make
from ledger.proofs.statements import Absence, DocumentLeaf, Presence
from ledger.proofs.verifying import sealed, verify
from protocol import canonical, merkle
from protocol.errors import ConcordatError, ProtocolError

KEYS = st.binary(min_size=4, max_size=4)
VALUES = st.binary(min_size=1, max_size=40)


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=40), KEYS)
def test_lookup_answers_as_the_tree(entries: dict[bytes, bytes], other: bytes) -> None:
    tree = Tree(entries)
    for key in [*entries, other]:
        nodes = trie.Nodes(tree.proof(key))
        assert trie.lookup(tree.root, key, nodes) == entries.get(key)
        nodes.finish()


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=2, max_size=40), KEYS, st.data())
def test_a_missing_or_changed_node_never_reads_as_absence(
    entries: dict[bytes, bytes], other: bytes, data: Any
) -> None:
    tree = Tree(entries)
    key = data.draw(st.sampled_from([*entries, other]))
    proof = tree.proof(key)
    at = data.draw(st.integers(0, len(proof) - 1))
    changed = bytearray(proof[at])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (proof[:at] + proof[at + 1 :], [*proof[:at], bytes(changed), *proof[at + 1 :]]):
        with pytest.raises(ProtocolError):
            trie.lookup(tree.root, key, trie.Nodes(bad))


@settings(deadline=None)
@given(st.binary(max_size=120))
@example(bytes.fromhex("c0"))
@example(bytes.fromhex("c22080"))
@example(bytes.fromhex("c4820000c0"))
@example(bytes.fromhex("d180808080808080808080808080808080c0"))
def test_any_bytes_are_a_node_or_refused(node: bytes) -> None:
    try:
        trie.lookup(bytes(keccak(node)), b"\x00\x11", trie.Nodes([node]))
    except ProtocolError as error:
        assert error.code in ("PROOF_NODE", "PROOF_NODE_MISSING")  # noqa: PT017


@settings(deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), min_size=1, max_size=12), st.data()
)
def test_shown_fields_lead_to_their_document_only(values: dict[str, str], data: Any) -> None:
    held = SaltedFields.of(values)
    names = data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, unique=True))
    shown = held.show(names)
    shown.verify(held.root())
    assert {each.name: each.value for each in shown.fields} == {name: values[name] for name in names}
    with pytest.raises(ProtocolError):
        shown.verify(SaltedFields.of(values).root())


def document(chain: ProofChain) -> DocumentLeaf:
    """A document of four fields in a tree of five leaves, anchored by a member; two fields shown."""
    held = SaltedFields.of({"amount": "50.00", "buyer": "B", "number": "INV-1", "seller": "S"})
    draft = Draft(
        *(secrets.token_bytes(32) for _ in range(3)), held.root(), NO_CONTRACT, secrets.token_bytes(32)
    )
    leaves = [secrets.token_bytes(32) for _ in range(5)]
    leaves[2] = draft.claim_id()
    tree, member = merkle.MerkleTree(leaves), secrets.token_bytes(32)
    anchor = storage.mapped("_anchors", storage.anchor_id(1, tree.root(), 5, member))
    chain.set(anchor, packed(storage.ANCHORED, number=12, time=NOW - 500))
    return DocumentLeaf(
        draft, held.show(["number", "seller"]), member, tree.root(), 5, 2, tree.inclusion_proof(2)
    )


def presence(chain: ProofChain) -> Presence:
    """A confirmed claim with two tags and two liens."""
    claim = secrets.token_bytes(32)
    body = Body(*(secrets.token_bytes(32) for _ in range(4)), NO_CONTRACT, ZERO)
    tags = tuple(sorted(secrets.token_bytes(32) for _ in range(2)))
    liens = tuple(sorted(secrets.token_bytes(32) for _ in range(2)))
    fields = {"cap": 900_000, "pledged": 700_000, "grade": 2, "liens": 2, "aliases": 2, "epoch": 1, "seq": 4}
    chain.set(storage.mapped("_claims", claim), packed(storage.CLAIM, **fields, dueWeek=2_990))
    chain.set(storage.mapped("_bodies", claim), int.from_bytes(body.digest(), "big"))
    chain.set(storage.mapped("_accounts", claim), packed(storage.ACCOUNT, settled=100_000))
    for tag in tags:
        chain.set(storage.mapped("claimOf", tag), int.from_bytes(claim, "big"))
    for lien, ppm in zip(liens, (300_000, 400_000), strict=True):
        chain.set(storage.mapped("_liens", claim, lien), packed(storage.LIEN, ppm=ppm, status=1))
    return Presence(claim, body, tags, liens)


def absence(chain: ProofChain) -> Absence:
    """Two unknown tags among others."""
    for _ in range(30):
        chain.set(storage.mapped("claimOf", secrets.token_bytes(32)), secrets.randbits(255) + 1)
    return Absence((tuple(sorted(secrets.token_bytes(32) for _ in range(2))),))


@cache
def made(kind: str) -> tuple[ProofChain, bytes]:
    """A chain and a proof of a kind."""
    chain = ProofChain()
    statement = {"document": document, "presence": presence, "absence": absence}[kind](chain)
    return chain, make(statement, chain, chain.trust, now=NOW)


@pytest.mark.parametrize("kind", ["document", "presence", "absence"])
def test_every_bit_that_is_flipped_is_refused(kind: str) -> None:
    """A bit of every byte outside hexadecimal runs and of every 64th digit; the next test draws from all bits.

    ``CONCORDAT_EVERY_BIT=1`` takes all bits of all bytes, which takes minutes.
    """
    chain, data = made(kind)
    assert verify(data, chain.trust, now=NOW).status
    run, every = 0, bool(os.environ.get("CONCORDAT_EVERY_BIT"))
    for at, byte in enumerate(data):
        run = run + 1 if chr(byte) in "0123456789abcdef" else 0
        for bit in range(8) if every else [at % 8] if run % 64 == 0 else []:
            flipped = data[:at] + bytes([byte ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(ConcordatError):
                verify(flipped, chain.trust, now=NOW)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(["document", "presence", "absence"]), st.data())
def test_any_bit_flipped_anywhere_is_refused(kind: str, data: Any) -> None:
    chain, proof = made(kind)
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 7))
    flipped = proof[:at] + bytes([proof[at] ^ 1 << bit]) + proof[at + 1 :]
    for trust in (chain.trust, chain.trust.fingerprint):
        with pytest.raises(ConcordatError) as caught:
            verify(flipped, trust, now=NOW)
        assert caught.value.code.isupper()


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["document", "presence", "absence"]), st.data())
def test_who_computes_the_digest_anew_can_only_say_what_is_true(kind: str, data: Any) -> None:
    """The same against somebody who also mends the digest: absence of another tag is the one thing left to say."""
    chain, proof = made(kind)
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 7))
    try:
        changed = canonical.decode(proof[:at] + bytes([proof[at] ^ 1 << bit]) + proof[at + 1 :])
    except ProtocolError:
        return
    before = canonical.decode(proof)
    try:
        verify(canonical.encode(sealed(changed)), chain.trust, now=NOW)
    except ConcordatError:
        return
    digest = {"digest": before["digest"]}
    rest = {**before, "subject": changed["subject"]} if kind == "absence" else before
    assert {**changed, **digest} == rest
    if kind == "absence":
        held = {slot for slot, value in chain.words.items() if value}
        for tag in changed["subject"]["tags"][0]:
            assert storage.mapped("claimOf", bytes.fromhex(tag)) not in held


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["document", "presence", "absence"]), st.data())
def test_a_file_cut_off_or_drawn_out_is_refused(kind: str, data: Any) -> None:
    chain, proof = made(kind)
    at = data.draw(st.integers(0, len(proof) - 1))
    for bad in (proof[:at], proof[:at] + b" " + proof[at:], proof + b"\n"):
        with pytest.raises(ConcordatError):
            verify(bad, chain.trust, now=NOW)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["document", "presence", "absence"]), st.data())
def test_a_field_taken_away_or_added_is_refused(kind: str, data: Any) -> None:
    chain, proof = made(kind)
    content = canonical.decode(proof)
    at: Any = content
    while isinstance(at, dict) and data.draw(st.booleans()):
        below = [name for name, value in at.items() if isinstance(value, dict)]
        if not below:
            break
        at = at[data.draw(st.sampled_from(below))]
    if data.draw(st.booleans()):
        at["more"] = 1
    else:
        del at[data.draw(st.sampled_from(sorted(set(at) - {"digest"})))]
    with pytest.raises(ConcordatError):
        verify(canonical.encode(sealed(content)), chain.trust, now=NOW)
