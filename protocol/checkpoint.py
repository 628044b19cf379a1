"""Signed statements about the ledger's log: signed notes, checkpoints, cosignatures.

Specification: C2SP ``signed-note`` (Ed25519, type 0x01), ``tlog-checkpoint`` (origin, size, root, extension
lines) and ``tlog-cosignature`` (timestamped Ed25519, type 0x04). A ledger checkpoint has these extension
lines, in this order, one space between words, hexadecimal in lower case::

    chain <chain id>
    genesis <digest of the genesis document>
    registry <address> <keccak-256 of its code>      (or "registry none")
    block <number> <hash>
    state <state root>
    time <Unix seconds of the block>
    previous <SHA-256 of the checkpoint before, zeros for the first>
    members <digest of the member set>

Invariants:
    - Every line follows from the log and the checkpoint before, so whoever replays the log composes the same
      text: agreement is equality of bytes.
    - A signature of a known key that does not verify refuses the whole note; unknown keys are ignored.
    - Final means cosignatures of *more than* two thirds of the members over one text.

What each party learns: sizes, hashes and times, and who has signed; nothing of what a transaction says. Not
protected: a statement's age. A cosignature's timestamp is its signer's word, so readers bound it by their own
clock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import ProtocolError, SignatureInvalid
from protocol.keys import PublicKey

ED25519 = 0x01
COSIGNATURE = 0x04
MAX_NOTE = 64 * 1024
"""Bytes of a note that is read."""

MAX_SIGNATURES = 100
START = bytes(32)
"""What stands for the checkpoint before the first one."""

_DASH = "— "
_NAME = re.compile(r"[^\s+]{1,200}")
_MAX_TIME = (1 << 63) - 1


def _malformed(what: str) -> ProtocolError:
    return ProtocolError("NOTE_MALFORMED", f"A signed note is malformed: {what}.")


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("base64") from error
    if base64.b64encode(data).decode() != text:
        raise _malformed("base64")
    return data


@dataclass(frozen=True)
class NoteKey:
    """A key that notes are verified with.

    Attributes:
        name: the signer's name, without spaces and plus signs.
        kind: `ED25519` or `COSIGNATURE`.
        public: the key.
    """

    name: str
    kind: int
    public: PublicKey

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise _malformed("key name")
        if self.kind not in (ED25519, COSIGNATURE):
            raise _malformed("key type")

    @property
    def identifier(self) -> bytes:
        """The key ID: 4 bytes."""
        body = self.name.encode() + b"\n" + bytes([self.kind]) + self.public.raw
        return hashlib.sha256(body).digest()[:4]

    @property
    def text(self) -> str:
        """The key in the form ``name+id+base64`` (vkey)."""
        key = base64.b64encode(bytes([self.kind]) + self.public.raw).decode()
        return f"{self.name}+{self.identifier.hex()}+{key}"

    @classmethod
    def from_text(cls, text: str) -> NoteKey:
        """Read a vkey.

        Raises:
            ProtocolError: ``NOTE_MALFORMED``, ``KEY_MALFORMED``, ``KEY_WEAK``.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise _malformed("key")
        material = _unbase64(parts[2])
        if not material:
            raise _malformed("key")
        key = cls(parts[0], material[0], PublicKey(material[1:]))
        if key.identifier.hex() != parts[1]:
            raise _malformed("key identifier")
        return key


@dataclass(frozen=True)
class Signature:
    """A signature line.

    Attributes:
        name: the signer's name.
        blob: key ID (4 bytes) and what the signature type puts behind it.
    """

    name: str
    blob: bytes

    @property
    def line(self) -> str:
        """The line without its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.blob).decode()}"

    @classmethod
    def from_line(cls, line: str) -> Signature:
        """Read a line.

        Raises:
            ProtocolError: ``NOTE_MALFORMED``.
        """
        words = line.removeprefix(_DASH).split(" ")
        if not line.startswith(_DASH) or len(words) != 2 or not _NAME.fullmatch(words[0]):
            raise _malformed("signature line")
        blob = _unbase64(words[1])
        if len(blob) < 5:
            raise _malformed("signature line")
        return cls(words[0], blob)


@dataclass(frozen=True)
class Note:
    """A text and signatures, not verified yet.

    Attributes:
        text: ends in a newline.
        signatures: at least one when read from text.
    """

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> str:
        """Return the note in its published form."""
        return self.text + "\n" + "".join(each.line + "\n" for each in self.signatures)

    def plus(self, *signatures: Signature) -> Note:
        """Return the note with more signatures."""
        return Note(self.text, (*self.signatures, *signatures))

    @classmethod
    def decode(cls, data: str) -> Note:
        """Read a note.

        Raises:
            ProtocolError: ``NOTE_MALFORMED``.
        """
        if len(data.encode("utf-8", "replace")) > MAX_NOTE:
            raise _malformed("too long")
        if any(char < " " and char != "\n" for char in data):
            raise _malformed("control character")
        head, separator, tail = data.rpartition("\n\n")
        if not separator or not tail.endswith("\n"):
            raise _malformed("no signatures")
        lines = tail[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise _malformed("too many signatures")
        return cls(head + "\n", tuple(Signature.from_line(line) for line in lines))


def sign(text: str, name: str, key: Ed25519PrivateKey) -> Signature:
    """Sign a note's text (type 0x01)."""
    identifier = NoteKey(name, ED25519, PublicKey(key.public_key().public_bytes_raw())).identifier
    return Signature(name, identifier + key.sign(text.encode()))


def cosign(text: str, name: str, key: Ed25519PrivateKey, time: int) -> Signature:
    """Cosign a checkpoint's text as of a time in Unix seconds (type 0x04)."""
    identifier = NoteKey(name, COSIGNATURE, PublicKey(key.public_key().public_bytes_raw())).identifier
    return Signature(name, identifier + time.to_bytes(8, "big") + key.sign(_cosigned(text, time)))


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def verify(note: Note, key: NoteKey) -> int:
    """Check a key's signature on a note, and return its timestamp (0 for type 0x01, which has none).

    If the key signed more than once, every signature must verify, and the latest timestamp is returned.

    Raises:
        SignatureInvalid: ``NOTE_SIGNATURE`` if one does not verify, ``NOTE_UNSIGNED`` if there is none.
    """
    times = [
        _verify_one(note.text, each, key)
        for each in note.signatures
        if each.name == key.name and each.blob[:4] == key.identifier
    ]
    if not times:
        raise SignatureInvalid(
            "NOTE_UNSIGNED", "A note lacks the signature of a key that must have signed it."
        )
    return max(times)


def _verify_one(text: str, signature: Signature, key: NoteKey) -> int:
    blob, time, message = signature.blob[4:], 0, text.encode()
    if key.kind == COSIGNATURE:
        time = int.from_bytes(blob[:8], "big")
        blob, message = blob[8:], _cosigned(text, time)
    try:
        if len(blob) != 64 or time > _MAX_TIME:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(key.public.raw).verify(blob, message)
    except InvalidSignature as error:
        raise SignatureInvalid("NOTE_SIGNATURE", "A signature on a note does not verify.") from error
    return time


def cosigners(note: Note, members: Mapping[str, NoteKey]) -> dict[str, int]:
    """Return the timestamp of each member whose cosignature stands on a note.

    Args:
        note: a checkpoint with cosignatures.
        members: cosignature keys by member.

    Raises:
        SignatureInvalid: ``NOTE_SIGNATURE`` if a member's signature does not verify.
    """
    found: dict[str, int] = {}
    for member, key in members.items():
        try:
            found[member] = verify(note, key)
        except SignatureInvalid as error:
            if error.code != "NOTE_UNSIGNED":
                raise
    return found


def is_quorum(count: int, members: int) -> bool:
    """Return whether `count` members are more than two thirds of all."""
    return members > 0 and 3 * count > 2 * members


def require_final(note: Note, members: Mapping[str, NoteKey]) -> dict[str, int]:
    """Return the cosigners' timestamps if they are more than two thirds of the members.

    Raises:
        SignatureInvalid: ``NOTE_SIGNATURE``, ``CHECKPOINT_NOT_FINAL``.
    """
    found = cosigners(note, members)
    if not is_quorum(len(found), len(members)):
        raise SignatureInvalid(
            "CHECKPOINT_NOT_FINAL",
            f"{len(found)} of {len(members)} members have co-signed it; more than two thirds must.",
            "Wait for the members, and ask why if it lasts.",
        )
    return found


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of the ledger states.

    Attributes:
        origin: the log's name.
        size: records in the log.
        root: RFC 6962 root over them, 32 bytes.
        chain_id: the chain's.
        genesis: digest of the genesis document, 32 bytes.
        registry: (address 20 bytes, code hash 32 bytes) of the registry contract, or None.
        number: height of the last block.
        block_hash: its hash, 32 bytes.
        state_root: its state root, 32 bytes.
        time: its Unix time in seconds.
        previous: `digest` of the checkpoint before, 32 bytes.
        members: digest of the member set, 32 bytes.
    """

    origin: str
    size: int
    root: bytes
    chain_id: int
    genesis: bytes
    registry: tuple[bytes, bytes] | None
    number: int
    block_hash: bytes
    state_root: bytes
    time: int
    previous: bytes
    members: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        registry = "none" if self.registry is None else f"{self.registry[0].hex()} {self.registry[1].hex()}"
        lines: Iterable[str] = (
            self.origin,
            str(self.size),
            base64.b64encode(self.root).decode(),
            f"chain {self.chain_id}",
            f"genesis {self.genesis.hex()}",
            f"registry {registry}",
            f"block {self.number} {self.block_hash.hex()}",
            f"state {self.state_root.hex()}",
            f"time {self.time}",
            f"previous {self.previous.hex()}",
            f"members {self.members.hex()}",
        )
        return "".join(line + "\n" for line in lines)

    @property
    def digest(self) -> bytes:
        """What the next checkpoint names as `previous`, 32 bytes."""
        return hashlib.sha256(b"concordat/ledger/checkpoint/v1\n" + self.text.encode()).digest()

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Read a note's text; exactly the form that `text` writes is accepted.

        Raises:
            ProtocolError: ``CHECKPOINT_MALFORMED``.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ProtocolError("CHECKPOINT_MALFORMED", "A checkpoint does not have the ledger's form.")
        found = match.groupdict()
        address = found["address"]
        checkpoint = cls(
            origin=found["origin"],
            size=int(found["size"]),
            root=_unbase64(found["root"]),
            chain_id=int(found["chain"]),
            genesis=bytes.fromhex(found["genesis"]),
            registry=None if address is None else (bytes.fromhex(address), bytes.fromhex(found["code"])),
            number=int(found["number"]),
            block_hash=bytes.fromhex(found["block"]),
            state_root=bytes.fromhex(found["state"]),
            time=int(found["time"]),
            previous=bytes.fromhex(found["previous"]),
            members=bytes.fromhex(found["members"]),
        )
        if checkpoint.text != text or checkpoint.size != checkpoint.number + 1:
            raise ProtocolError("CHECKPOINT_MALFORMED", "A checkpoint does not have the ledger's form.")
        return checkpoint


_N, _H = r"(?:0|[1-9][0-9]{0,18})", r"[0-9a-f]{64}"
_FORM = re.compile(
    rf"(?P<origin>[^\s+]{{1,200}})\n(?P<size>{_N})\n(?P<root>[A-Za-z0-9+/]{{43}}=)\n"
    rf"chain (?P<chain>{_N})\ngenesis (?P<genesis>{_H})\n"
    rf"registry (?:none|(?P<address>[0-9a-f]{{40}}) (?P<code>{_H}))\n"
    rf"block (?P<number>{_N}) (?P<block>{_H})\nstate (?P<state>{_H})\ntime (?P<time>{_N})\n"
    rf"previous (?P<previous>{_H})\nmembers (?P<members>{_H})\n"
)
