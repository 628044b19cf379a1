"""Signed envelopes: one message of one party to another, within one job.

Specification, integers big-endian::

    version 1 (1 byte) ‖ lp(job) ‖ lp(sender) ‖ lp(recipient) ‖ lp(step)
    ‖ attempt (4) ‖ generation (4) ‖ sequence (8) ‖ payload length (4) ‖ payload ‖ signature (64)

The Ed25519 signature covers, in the domain ``envelope``, the SHA-256 of everything before it, so that a
message of a gigabyte is signed without a second copy.

Invariants:
    - Nothing of an envelope is returned before its signature has been verified under the directory's key of
      the sender it names.
    - Every byte counts: a truncated envelope, a trailing byte and another version are refused.
    - An envelope is accepted by its recipient only, in its job only, and once only (`ReplayGuard`).

What each party learns: relays see everything but the payload's meaning; payloads that must stay secret are
sealed first (`protocol.sealing`). Not protected: a relay may delay or drop envelopes; deadlines catch that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol.canonical import digest, lp
from protocol.errors import ProtocolError, Replayed, SignatureInvalid, WrongRecipient
from protocol.identity import Directory, check_name
from protocol.keys import IdentityKey

VERSION = 1
_SIGNATURE = 64
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_STEP = re.compile(r"[a-z0-9][a-z0-9._/-]{0,63}")


@dataclass(frozen=True)
class Envelope:
    """A message.

    Attributes:
        job: the manifest's digest J, or another name of at most 128 characters.
        attempt: attempt of the job's stage, from 0.
        generation: generation of the session; a new session leaves the old one's messages behind.
        sender: name of the sending party.
        recipient: name of the one party that may accept it.
        step: what the message is, such as ``"join/table"``.
        sequence: strictly increasing within (job, attempt, generation, sender).
        payload: bytes, sealed where they must be secret; less than 4 GiB.
    """

    job: str
    attempt: int
    generation: int
    sender: str
    recipient: str
    step: str
    sequence: int
    payload: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.job, str) or _JOB.fullmatch(self.job) is None:
            raise ProtocolError("ENVELOPE_MALFORMED", "An envelope's job is not well formed.")
        if not isinstance(self.step, str) or _STEP.fullmatch(self.step) is None:
            raise ProtocolError("ENVELOPE_MALFORMED", "An envelope's step is not well formed.")
        check_name(self.sender)
        check_name(self.recipient)
        for number, bits in ((self.attempt, 32), (self.generation, 32), (self.sequence, 64)):
            if type(number) is not int or not 0 <= number < 1 << bits:
                raise ProtocolError("ENVELOPE_MALFORMED", "A number of an envelope is out of range.")
        if not isinstance(self.payload, bytes) or len(self.payload) >= 1 << 32:
            raise ProtocolError("ENVELOPE_MALFORMED", "An envelope's payload must be bytes below 4 GiB.")

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is signed, in hexadecimal."""
        return _hash(_head(self), self.payload).hex()


def _head(envelope: Envelope) -> bytes:
    return b"".join(
        (
            VERSION.to_bytes(1, "big"),
            lp(envelope.job, envelope.sender, envelope.recipient, envelope.step),
            envelope.attempt.to_bytes(4, "big"),
            envelope.generation.to_bytes(4, "big"),
            envelope.sequence.to_bytes(8, "big"),
            len(envelope.payload).to_bytes(4, "big"),
        )
    )


def _hash(*parts: bytes | memoryview) -> bytes:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.digest()


def pack(envelope: Envelope, key: IdentityKey) -> bytes:
    """Return the signed bytes of an envelope.

    Args:
        envelope: the message.
        key: the identity key of its sender.
    """
    head = _head(envelope)
    return head + envelope.payload + key.sign("envelope", _hash(head, envelope.payload))


class _Reader:
    """Reads fields off a byte string and refuses to read past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.position = 0

    def take(self, count: int) -> memoryview:
        if count > len(self._data) - self.position:
            raise ProtocolError("ENVELOPE_TRUNCATED", "An envelope is shorter than it says.")
        self.position += count
        return self._data[self.position - count : self.position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> str:
        length = self.number(4)
        if length > 512:
            raise ProtocolError("ENVELOPE_MALFORMED", "A field of an envelope is too long.")
        try:
            return bytes(self.take(length)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError("ENVELOPE_MALFORMED", "A field of an envelope is not text.") from error


def unpack(data: bytes, *, recipient: str, job: str, directory: Directory) -> Envelope:
    """Return the envelope of received bytes once it has been verified.

    Args:
        data: the bytes as received.
        recipient: the reader's own name.
        job: the job the reader is in.
        directory: the parties that the reader accepts.

    Raises:
        ProtocolError: ``ENVELOPE_VERSION``, ``ENVELOPE_TRUNCATED``, ``ENVELOPE_TRAILING`` or
            ``ENVELOPE_MALFORMED``.
        SignatureInvalid: ``ENVELOPE_SENDER`` if the sender is no party, ``SIGNATURE_INVALID`` if another key
            signed it or a byte has changed.
        WrongRecipient: ``ENVELOPE_RECIPIENT`` or ``ENVELOPE_JOB``.
    """
    data = bytes(data)
    reader = _Reader(data)
    if reader.number(1) != VERSION:
        raise ProtocolError("ENVELOPE_VERSION", "An envelope has a version that this party does not speak.")
    its_job, sender, its_recipient, step = (reader.text() for _ in range(4))
    attempt, generation, sequence = reader.number(4), reader.number(4), reader.number(8)
    payload = reader.take(reader.number(4))
    signed = reader.position
    signature = bytes(reader.take(_SIGNATURE))
    if reader.position != len(data):
        raise ProtocolError("ENVELOPE_TRAILING", "An envelope has bytes behind its end.")
    party = directory.get(sender)
    if party is None:
        raise SignatureInvalid("ENVELOPE_SENDER", "An envelope names a sender that is no party.")
    party.identity.verify("envelope", _hash(memoryview(data)[:signed]), signature)
    # Only now is it known who says so: a wrong recipient before this line would be anybody's word.
    if its_recipient != recipient:
        raise WrongRecipient("ENVELOPE_RECIPIENT", f"An envelope of {party.name} is for another party.")
    if its_job != job:
        raise WrongRecipient("ENVELOPE_JOB", f"An envelope of {party.name} belongs to another job.")
    return Envelope(its_job, attempt, generation, sender, its_recipient, step, sequence, bytes(payload))


@dataclass
class _Stream:
    last: int
    seen: dict[int, str]


class ReplayGuard:
    """Accepts each envelope once, in order, per (job, attempt, generation, sender).

    A guard belongs to one recipient. Its state must be stored before the accepted message is acted on.
    """

    def __init__(self) -> None:
        self._streams: dict[tuple[str, int, int, str], _Stream] = {}

    def accept(self, envelope: Envelope) -> None:
        """Record an envelope.

        Raises:
            Replayed: ``ENVELOPE_REPEATED`` if these very bytes were accepted before (a resend: the recipient
                may answer with its stored reply), ``ENVELOPE_OUT_OF_ORDER`` for any other sequence number
                that does not increase, above all an old number with a new content.
        """
        place = (envelope.job, envelope.attempt, envelope.generation, envelope.sender)
        stream = self._streams.get(place)
        mark = envelope.digest
        if stream is None:
            self._streams[place] = _Stream(envelope.sequence, {envelope.sequence: mark})
            return
        if envelope.sequence > stream.last:
            stream.last = envelope.sequence
            stream.seen[envelope.sequence] = mark
            return
        if hmac.compare_digest(stream.seen.get(envelope.sequence, ""), mark):
            raise Replayed("ENVELOPE_REPEATED", f"An envelope of {envelope.sender} was received before.")
        raise Replayed("ENVELOPE_OUT_OF_ORDER", f"An envelope of {envelope.sender} comes behind a later one.")

    def forget(self, job: str) -> None:
        """Drop the streams of a job that has ended; its envelopes are refused by their job from now on."""
        self._streams = {place: stream for place, stream in self._streams.items() if place[0] != job}

    def to_state(self) -> dict[str, Any]:
        """Return what has been accepted as a JSON value with a checksum against a half-written file."""
        streams = [
            [*place, [[sequence, mark] for sequence, mark in sorted(stream.seen.items())]]
            for place, stream in sorted(self._streams.items())
        ]
        return {"version": VERSION, "streams": streams, "digest": digest("replay-guard", streams)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ReplayGuard:
        """Restore a guard.

        Raises:
            ProtocolError: ``REPLAY_STATE`` if the state is damaged: a node must not start without it.
        """
        guard = cls()
        try:
            if state["version"] != VERSION or digest("replay-guard", state["streams"]) != state["digest"]:
                raise ValueError("checksum")
            for job, attempt, generation, sender, marks in state["streams"]:
                seen = {int(sequence): str(mark) for sequence, mark in marks}
                guard._streams[(job, attempt, generation, sender)] = _Stream(max(seen), seen)
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(
                "REPLAY_STATE",
                "The record of accepted envelopes is damaged.",
                "Restore the node's database; without this record old messages could be played again.",
            ) from error
        return guard
