"""Envelopes, replay guard, sealing, canonical encoding and labels: every rule kept and broken."""

import json
from dataclasses import replace
from typing import Any

import pytest

from protocol import canonical, labels, sealing
from protocol.envelope import Envelope, ReplayGuard, pack, unpack
from protocol.errors import ConcordatError, ProtocolError, Replayed, SignatureInvalid, WrongRecipient
from protocol.identity import Directory, IdentityKey, Party, Role
from protocol.labels import Label, LabelLedger
from protocol.sealing import SealingKey, seal

KEYS = {name: IdentityKey.generate() for name in ("bank-a", "bank-b", "compute")}
DIRECTORY = Directory(
    Party(name, Role.COMPUTE if name == "compute" else Role.BANK, key.public, "", 0, 10, 0)
    for name, key in KEYS.items()
)
LETTER = Envelope("job-1", 0, 2, "bank-a", "compute", "join/table", 7, b"payload")


def _refused(code: str, error: type[ConcordatError] = ProtocolError) -> Any:
    return pytest.raises(error, match=rf"\[{code}\]")


def _open(data: bytes, recipient: str = "compute", job: str = "job-1") -> Envelope:
    return unpack(data, recipient=recipient, job=job, directory=DIRECTORY)


class TestEnvelope:
    def test_round_trip(self) -> None:
        assert _open(pack(LETTER, KEYS["bank-a"])) == LETTER
        empty = replace(LETTER, payload=b"", attempt=2**32 - 1, sequence=2**64 - 1)
        assert _open(pack(empty, KEYS["bank-a"])) == empty

    def test_other_recipient_and_other_job(self) -> None:
        data = pack(LETTER, KEYS["bank-a"])
        with _refused("ENVELOPE_RECIPIENT", WrongRecipient):
            _open(data, recipient="bank-b")
        with _refused("ENVELOPE_JOB", WrongRecipient):
            _open(data, job="job-2")

    def test_other_key(self) -> None:
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            _open(pack(LETTER, KEYS["bank-b"]))

    def test_stranger(self) -> None:
        stranger = IdentityKey.generate()
        with _refused("ENVELOPE_SENDER", SignatureInvalid):
            _open(pack(replace(LETTER, sender="stranger"), stranger))

    def test_every_shorter_form_is_refused(self) -> None:
        data = pack(LETTER, KEYS["bank-a"])
        for length in range(len(data)):
            with pytest.raises(ProtocolError) as caught:
                _open(data[:length])
            assert caught.value.code in {"ENVELOPE_TRUNCATED", "ENVELOPE_MALFORMED"}

    def test_trailing_bytes(self) -> None:
        with _refused("ENVELOPE_TRAILING"):
            _open(pack(LETTER, KEYS["bank-a"]) + b"\0")

    def test_other_version(self) -> None:
        data = pack(LETTER, KEYS["bank-a"])
        with _refused("ENVELOPE_VERSION"):
            _open(b"\x02" + data[1:])

    def test_every_flipped_bit_of_the_head_is_refused(self) -> None:
        data = pack(LETTER, KEYS["bank-a"])
        for place in range(len(data) * 8):
            changed = bytearray(data)
            changed[place // 8] ^= 1 << (place % 8)
            with pytest.raises(ProtocolError):
                _open(bytes(changed))

    def test_field_that_is_not_text(self) -> None:
        data = pack(LETTER, KEYS["bank-a"]).replace(b"bank-a", b"bank-\xff")
        with _refused("ENVELOPE_MALFORMED"):
            _open(data)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("job", ""),
            ("job", "a b"),
            ("job", "j" * 129),
            ("job", None),
            ("step", ""),
            ("step", "UPPER"),
            ("step", "s" * 65),
            ("sender", "X"),
            ("recipient", ""),
            ("attempt", -1),
            ("attempt", 2**32),
            ("attempt", True),
            ("generation", 1.0),
            ("sequence", 2**64),
            ("payload", "text"),
        ],
    )
    def test_malformed_field(self, field: str, value: Any) -> None:
        with pytest.raises(ProtocolError):
            replace(LETTER, **{field: value})


class TestReplayGuard:
    def test_sequences_must_increase(self) -> None:
        guard = ReplayGuard()
        guard.accept(LETTER)
        guard.accept(replace(LETTER, sequence=9))
        with _refused("ENVELOPE_OUT_OF_ORDER", Replayed):
            guard.accept(replace(LETTER, sequence=8))
        guard.accept(replace(LETTER, sequence=10))

    def test_exact_resend_is_told_apart(self) -> None:
        guard = ReplayGuard()
        guard.accept(LETTER)
        guard.accept(replace(LETTER, sequence=9))
        with _refused("ENVELOPE_REPEATED", Replayed):
            guard.accept(LETTER)
        with _refused("ENVELOPE_OUT_OF_ORDER", Replayed):
            guard.accept(replace(LETTER, payload=b"other"))
        with _refused("ENVELOPE_OUT_OF_ORDER", Replayed):
            guard.accept(replace(LETTER, sequence=9, step="other"))

    @pytest.mark.parametrize(
        "change", [{"job": "job-2"}, {"attempt": 1}, {"generation": 3}, {"sender": "bank-b"}]
    )
    def test_streams_are_apart(self, change: dict[str, Any]) -> None:
        guard = ReplayGuard()
        guard.accept(LETTER)
        guard.accept(replace(LETTER, **change))

    def test_state_survives(self) -> None:
        guard = ReplayGuard()
        guard.accept(LETTER)
        guard.accept(replace(LETTER, sequence=9))
        state = json.loads(json.dumps(guard.to_state()))
        restored = ReplayGuard.from_state(state)
        assert restored.to_state() == guard.to_state()
        with _refused("ENVELOPE_REPEATED", Replayed):
            restored.accept(LETTER)
        with _refused("ENVELOPE_OUT_OF_ORDER", Replayed):
            restored.accept(replace(LETTER, sequence=3))
        restored.accept(replace(LETTER, sequence=11))

    def test_damaged_state_is_refused(self) -> None:
        guard = ReplayGuard()
        guard.accept(LETTER)
        state = guard.to_state()
        damaged: list[Any] = [
            {},
            state | {"version": 2},
            state | {"streams": []},
            state | {"digest": ""},
            state | {"streams": 5},
        ]
        for bad in damaged:
            with _refused("REPLAY_STATE"):
                ReplayGuard.from_state(bad)

    def test_forget_drops_one_job(self) -> None:
        guard = ReplayGuard()
        guard.accept(LETTER)
        guard.accept(replace(LETTER, job="job-2"))
        guard.forget("job-1")
        guard.accept(LETTER)
        with _refused("ENVELOPE_REPEATED", Replayed):
            guard.accept(replace(LETTER, job="job-2"))


class TestSealing:
    def test_round_trip_and_fresh_bytes(self) -> None:
        key = SealingKey.generate()
        first, second = (seal(key.public, b"data", info=b"i", aad=b"a") for _ in range(2))
        assert first != second
        assert len(first) == 4 + sealing.OVERHEAD
        restored = SealingKey.from_bytes(key.to_bytes())
        assert restored.open(first, info=b"i", aad=b"a") == b"data"
        assert key.open(seal(key.public, b"", info=b"", aad=b""), info=b"", aad=b"") == b""

    @pytest.mark.parametrize(("info", "aad"), [(b"j", b"a"), (b"i", b"b"), (b"ia", b""), (b"", b"ia")])
    def test_other_info_or_aad(self, info: bytes, aad: bytes) -> None:
        key = SealingKey.generate()
        with _refused("SEALING_OPEN"):
            key.open(seal(key.public, b"data", info=b"i", aad=b"a"), info=info, aad=aad)

    def test_other_key(self) -> None:
        sealed = seal(SealingKey.generate().public, b"data", info=b"i", aad=b"a")
        with _refused("SEALING_OPEN"):
            SealingKey.generate().open(sealed, info=b"i", aad=b"a")

    def test_changed_or_missing_byte(self) -> None:
        key = SealingKey.generate()
        sealed = seal(key.public, b"data", info=b"i", aad=b"a")
        for place in range(len(sealed)):
            changed = bytearray(sealed)
            changed[place] ^= 1
            with pytest.raises(ProtocolError):
                key.open(bytes(changed), info=b"i", aad=b"a")
            with pytest.raises(ProtocolError):
                key.open(sealed[:place], info=b"i", aad=b"a")
        with _refused("SEALING_VERSION"):
            key.open(b"\x02" + sealed[1:], info=b"i", aad=b"a")

    @pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), (1).to_bytes(32, "little")])
    def test_weak_or_malformed_key(self, public: bytes) -> None:
        with _refused("SEALING_KEY"):
            seal(public, b"data", info=b"", aad=b"")

    def test_malformed_private_key_and_text_form(self) -> None:
        with _refused("SEALING_KEY"):
            SealingKey.from_bytes(b"short")
        key = SealingKey.generate()
        assert key.to_bytes().hex() not in repr(key)


class TestCanonical:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"\xff",
            b'{"a":1,"a":1}',
            b'{"b":1,"a":1}',
            b'{"a": 1}',
            b"1.0",
            b"01",
            b"1e2",
            b"-0",
            b"NaN",
            b"Infinity",
            b'"\\u0041"',
            b'"\\ud800"',
            b"[" * 100_000 + b"]" * 100_000,
            b"9" * 5_000,
            b"1\n",
        ],
    )
    def test_bytes_that_are_not_canonical(self, data: bytes) -> None:
        with _refused("CANONICAL_BYTES"):
            canonical.decode(data)

    def test_length_prefixes(self) -> None:
        assert canonical.lp("ab", b"\x01", 12) == b"\0\0\0\x02ab\0\0\0\x01\x01\0\0\0\x0212"
        assert canonical.lp() == b""
        assert canonical.lp("job1", "2bank") != canonical.lp("job12", "bank")

    @pytest.mark.parametrize("part", [True, None, 1.5, ["x"], "\ud800"])
    def test_parts_without_an_encoding(self, part: Any) -> None:
        with _refused("CANONICAL_PART"):
            canonical.lp(part)

    def test_digest_has_a_domain(self) -> None:
        assert canonical.digest("a", 1) != canonical.digest("b", 1)
        assert canonical.digest("a", {"x": 1, "y": 2}) == canonical.digest("a", {"y": 2, "x": 1.0})
        assert len(canonical.digest("a", None)) == 64


class TestLabels:
    KEY = bytes(range(32))
    BASE = Label("h/update", "j" * 64, 1, 2, "bank-a", "shop", "v")

    def test_info_is_the_specification_s(self) -> None:
        expected = canonical.lp("concordat/v1", "h/update", "j" * 64, "1", "2", "bank-a", "shop", "v")
        assert self.BASE.info == expected
        pair = replace(self.BASE, bank=("bank-b", "bank-a"))
        assert pair.info == canonical.lp(
            "concordat/v1", "h/update", "j" * 64, "1", "2", "bank-a", "bank-b", "shop", "v"
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"label": "s/update"},
            {"job": "k" * 64},
            {"attempt": 2},
            {"round": 3},
            {"bank": "bank-b"},
            {"bank": ("bank-a", "bank-b")},
            {"partner": ""},
            {"vector": "w"},
            {"attempt": 12, "round": 0},
            {"bank": "bank-ashop", "partner": ""},
        ],
    )
    def test_every_field_counts(self, change: dict[str, Any]) -> None:
        assert labels.derive(self.KEY, self.BASE) != labels.derive(self.KEY, replace(self.BASE, **change))

    def test_a_pair_has_no_order(self) -> None:
        one, two = (replace(self.BASE, bank=pair) for pair in (("x1", "x2"), ("x2", "x1")))
        assert labels.derive(self.KEY, one) == labels.derive(self.KEY, two)

    @pytest.mark.parametrize(
        "change",
        [
            {"label": ""},
            {"job": ""},
            {"attempt": -1},
            {"round": True},
            {"bank": ("a", "a")},
            {"bank": ("a",)},
        ],
    )
    def test_malformed_label(self, change: dict[str, Any]) -> None:
        with _refused("LABEL_MALFORMED"):
            replace(self.BASE, **change)

    @pytest.mark.parametrize("key", [b"", bytes(16), bytes(31), bytes(33)])
    def test_key_of_another_length(self, key: bytes) -> None:
        with _refused("LABEL_KEY"):
            labels.derive(key, self.BASE)
        with _refused("LABEL_KEY"):
            labels.keystream(key, 8)

    def test_streams_are_prefixes(self) -> None:
        assert labels.keystream(self.KEY, 100)[:37] == labels.keystream(self.KEY, 37)
        assert labels.keystream(self.KEY, 0) == b""
        assert labels.words(self.KEY, 5).tolist() == labels.words(self.KEY, 9)[:5].tolist()

    def test_ledger(self) -> None:
        ledger = LabelLedger()
        ledger.record(self.KEY, self.BASE, b"message")
        ledger.record(self.KEY, self.BASE, b"message")
        ledger.record(self.KEY, replace(self.BASE, round=3), b"another")
        ledger.record(bytes(32), self.BASE, b"another")
        ledger.record(self.KEY, self.BASE, b"the peer's", owner="bank-b")
        assert len(ledger) == 4
        with _refused("LABEL_REUSED"):
            ledger.record(self.KEY, self.BASE, b"another")

    def test_ledger_keeps_neither_keys_nor_messages(self) -> None:
        ledger = LabelLedger()
        ledger.record(self.KEY, self.BASE, b"message")
        kept = b"".join(place + content for place, content in ledger._seen.items())
        assert self.KEY not in kept
        assert b"message" not in kept

    def test_observation_ends_with_its_block(self) -> None:
        with labels.observe(LabelLedger()) as ledger:
            labels.used(self.KEY, self.BASE, b"one")
            with _refused("LABEL_REUSED"):
                labels.used(self.KEY, self.BASE, b"two")
        labels.used(self.KEY, self.BASE, b"two")
        assert len(ledger) == 1
