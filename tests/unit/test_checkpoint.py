"""Notes, checkpoints and cosignatures: the reference's note, and what is refused."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.checkpoint import (
    COSIGNATURE,
    ED25519,
    START,
    Checkpoint,
    Note,
    NoteKey,
    Signature,
    cosign,
    cosigners,
    is_quorum,
    require_final,
    sign,
    verify,
)
from protocol.errors import ProtocolError, SignatureInvalid
from protocol.keys import PublicKey

VECTOR = json.loads((Path(__file__).parent.parent / "vectors/signed_note.json").read_text())
CHECKPOINT = Checkpoint(
    origin="concordat/ledger/00ff",
    size=8,
    root=bytes(range(32)),
    chain_id=(1 << 53) - 1,
    genesis=b"\1" * 32,
    registry=(b"\2" * 20, b"\3" * 32),
    number=7,
    block_hash=b"\4" * 32,
    state_root=b"\5" * 32,
    time=1_700_000_000,
    previous=START,
    members=b"\6" * 32,
)


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def note_key(name: str, seed: int, kind: int = COSIGNATURE) -> NoteKey:
    return NoteKey(name, kind, PublicKey(key(seed).public_key().public_bytes_raw()))


def test_the_reference_note_verifies_and_is_reproduced() -> None:
    vkey, note = NoteKey.from_text(VECTOR["vkey"]), Note.decode(VECTOR["note"])
    assert verify(note, vkey) == 0
    assert vkey.text == VECTOR["vkey"]
    secret = base64.b64decode(VECTOR["skey"].split("+", 4)[4])
    assert secret[0] == ED25519
    made = sign(note.text, "PeterNeumann", Ed25519PrivateKey.from_private_bytes(secret[1:]))
    assert Note(note.text, (made,)).encode() == VECTOR["note"]


def test_every_changed_byte_of_the_reference_note_is_refused() -> None:
    vkey, data = NoteKey.from_text(VECTOR["vkey"]), VECTOR["note"].encode()
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((ProtocolError, UnicodeDecodeError)):
            verify(Note.decode(changed.decode()), vkey)


def test_every_slice_of_the_reference_key_is_refused() -> None:
    text = VECTOR["vkey"]
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if (start, end) != (0, len(text)):
                with pytest.raises(ProtocolError):
                    NoteKey.from_text(text[start:end])


def test_the_message_of_a_cosignature_has_the_published_form() -> None:
    """The layout of C2SP tlog-cosignature, built here by hand."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    made = cosign(text, "witness.example.com/w1", key(1), 1679315147)
    assert int.from_bytes(made.blob[4:12], "big") == 1679315147
    message = b"cosignature/v1\ntime 1679315147\n" + text.encode()
    key(1).public_key().verify(made.blob[12:], message)
    assert verify(Note(text, (made,)), note_key("witness.example.com/w1", 1)) == 1679315147


def test_a_cosignature_is_bound_to_text_time_key_and_type() -> None:
    made = cosign(CHECKPOINT.text, "w", key(1), 1000)
    verify(Note(CHECKPOINT.text, (made,)), note_key("w", 1))
    later = Signature("w", made.blob[:4] + (1001).to_bytes(8, "big") + made.blob[12:])
    other = dataclasses.replace(CHECKPOINT, time=CHECKPOINT.time + 1)
    for note in (Note(CHECKPOINT.text, (later,)), Note(other.text, (made,))):
        with pytest.raises(SignatureInvalid, match=r"\[NOTE_SIGNATURE\]"):
            verify(note, note_key("w", 1))
    for wrong in (note_key("w", 2), note_key("v", 1), note_key("w", 1, ED25519)):
        with pytest.raises(SignatureInvalid, match=r"\[NOTE_UNSIGNED\]"):
            verify(Note(CHECKPOINT.text, (made,)), wrong)


def test_one_bad_signature_of_a_known_key_refuses_the_note() -> None:
    good = cosign(CHECKPOINT.text, "w", key(1), 1000)
    bad = Signature("w", good.blob[:-1] + bytes([good.blob[-1] ^ 1]))
    members = {"a": note_key("w", 1)}
    assert cosigners(Note(CHECKPOINT.text, (good,)), members) == {"a": 1000}
    with pytest.raises(SignatureInvalid, match=r"\[NOTE_SIGNATURE\]"):
        cosigners(Note(CHECKPOINT.text, (good, bad)), members)


@pytest.mark.parametrize(
    ("count", "members", "final"),
    [
        *[(1, 1, True), (2, 2, True), (1, 2, False), (2, 3, False), (3, 3, True), (2, 4, False)],
        *[(3, 4, True), (4, 6, False), (5, 6, True), (0, 0, False)],
    ],
)
def test_final_is_more_than_two_thirds(count: int, members: int, final: bool) -> None:
    assert is_quorum(count, members) is final
    if not members:
        return
    keys = {str(seed): note_key(f"w{seed}", seed) for seed in range(1, members + 1)}
    made = [cosign(CHECKPOINT.text, f"w{seed}", key(seed), 5) for seed in range(1, count + 1)]
    # One member can't stand for two by signing twice.
    note = Note(CHECKPOINT.text, (*made, *made))
    if final:
        assert require_final(note, keys) == {str(seed): 5 for seed in range(1, count + 1)}
    else:
        with pytest.raises(SignatureInvalid, match=r"\[CHECKPOINT_NOT_FINAL\]"):
            require_final(note, keys)


def test_a_checkpoint_round_trips() -> None:
    assert Checkpoint.from_text(CHECKPOINT.text) == CHECKPOINT
    bare = dataclasses.replace(CHECKPOINT, registry=None)
    assert Checkpoint.from_text(bare.text) == bare
    assert bare.digest != CHECKPOINT.digest


@given(st.data())
def test_only_the_one_form_of_a_checkpoint_is_read(data: st.DataObject) -> None:
    text = CHECKPOINT.text
    at = data.draw(st.integers(0, len(text)))
    insert = data.draw(st.sampled_from([" ", "\n", "0", "A", "+", "é"]))
    changed = text[:at] + insert + text[at:]
    try:
        found = Checkpoint.from_text(changed)
    except ProtocolError:
        return
    assert found.text == changed
    assert found != CHECKPOINT


def test_size_and_height_must_agree() -> None:
    with pytest.raises(ProtocolError, match=r"\[CHECKPOINT_MALFORMED\]"):
        Checkpoint.from_text(dataclasses.replace(CHECKPOINT, size=9).text)


@pytest.mark.parametrize(
    "data",
    [
        *[
            "",
            "text\n",
            "text\n\n",
            "text\n\n— w AAAA\n",
            "text\n\n— w AAAAAAA=\n\n",
            "a\tb\n\n— w AAAAAAA=\n",
        ],
        *["text\n\n— w  AAAAAAA=\n", "text\n\n- w AAAAAAA=\n", "text\n\n— w AAAAAAB=\n"],
        *[
            "text\n\n— w+ AAAAAAA=\n",
            "text\n\n" + "— w AAAAAAA=\n" * 101,
            "x" * 70_000 + "\n\n— w AAAAAAA=\n",
        ],
    ],
)
def test_malformed_notes_are_refused(data: str) -> None:
    with pytest.raises(ProtocolError, match=r"\[NOTE_MALFORMED\]"):
        Note.decode(data)


def test_a_note_keeps_empty_lines_of_its_text() -> None:
    note = Note("a\n\nb\n", (sign("a\n\nb\n", "w", key(1)),))
    assert Note.decode(note.encode()) == note
