"""VOPRF: keys, inputs, refusals, and the audit of a bank's queries."""

import hashlib
from collections.abc import Sequence

import pytest

from protocol import group, voprf
from protocol.errors import ProtocolError
from protocol.group import Element, Scalar
from protocol.labels import Label, LabelLedger, observe
from protocol.voprf import KeyPair

SEED = hashlib.sha256(b"seed").digest()
AUDIT = hashlib.sha256(b"audit").digest()
LABEL = Label("voprf/blind", "epoch-1", bank="bank-a", partner="shop", vector="0")


def _key(purpose: str = "training", epoch: str = "2026-1", bank: str = "bank-a") -> KeyPair:
    return voprf.derive_key_pair(SEED, voprf.key_info(purpose, epoch, bank))


def _input(number: int, code: bytes | None = None) -> bytes:
    return voprf.enterprise_input("uscc", f"id-{number}", code)


def _round(key: KeyPair, inputs: Sequence[bytes]) -> tuple[voprf.Batch, bytes]:
    batch = voprf.blind(inputs, audit_key=AUDIT, label=LABEL)
    return batch, voprf.blind_evaluate(key, batch.request)


def _code(raised: pytest.ExceptionInfo[ProtocolError]) -> str:
    return raised.value.code


class TestInputs:
    def test_parts_can_not_be_shifted(self) -> None:
        inputs = {
            voprf.enterprise_input("a", "bc"),
            voprf.enterprise_input("ab", "c"),
            voprf.enterprise_input("a", "bc", bytes(16)),
            voprf.enterprise_input("a", "bc", bytes(15) + b"\1"),
            voprf.dummy_input(bytes(16)),
            voprf.enterprise_input("dumm", "y"),
        }
        assert len(inputs) == 6

    @pytest.mark.parametrize(
        "arguments",
        [("", "x"), ("uscc", ""), ("dummy", "x"), ("uscc", "x", bytes(15)), ("uscc", "y" * 65_536)],
    )
    def test_malformed_inputs_are_refused_without_being_quoted(self, arguments: tuple[str, str]) -> None:
        with pytest.raises(ProtocolError) as refusal:
            voprf.enterprise_input(*arguments)
        assert _code(refusal) == "VOPRF_INPUT"
        assert "yyy" not in str(refusal.value)

    def test_a_dummy_needs_a_whole_nonce(self) -> None:
        with pytest.raises(ProtocolError, match="VOPRF_INPUT"):
            voprf.dummy_input(bytes(15))

    def test_a_dummy_is_never_an_enterprise(self) -> None:
        text = voprf.dummy_input(bytes(16))
        assert text.startswith(b"\0\0\0\5dummy")  # the type "dummy", which enterprises may not have

    @pytest.mark.parametrize("arguments", [("other", "e", "b"), ("training", "", "b"), ("serving", "e", "")])
    def test_key_info_names_purpose_epoch_and_bank(self, arguments: tuple[str, str, str]) -> None:
        with pytest.raises(ProtocolError, match="VOPRF_PURPOSE"):
            voprf.key_info(*arguments)

    def test_seed_has_32_bytes(self) -> None:
        with pytest.raises(ProtocolError, match="VOPRF_SEED"):
            voprf.derive_key_pair(bytes(31), b"info")


class TestRound:
    def test_bank_and_partner_compute_the_same_values(self) -> None:
        key = _key()
        inputs = [_input(i) for i in range(5)] + [voprf.dummy_input(bytes(16))]
        batch, response = _round(key, inputs)
        outputs = voprf.finalize(batch, response, key.public)
        assert outputs == voprf.evaluate(key, inputs)
        assert outputs == voprf.evaluate(key, inputs, voprf.hash_inputs(inputs))
        assert len(set(outputs)) == 6
        assert {len(output) for output in outputs} == {voprf.OUTPUT_BYTES}

    def test_outputs_of_other_keys_and_codes_share_nothing(self) -> None:
        keys = [_key(), _key("serving"), _key(epoch="2026-2"), _key(bank="bank-b")]
        inputs = [_input(1), _input(1, b"a" * 16), _input(1, b"b" * 16)]
        outputs = {output for key in keys for output in voprf.evaluate(key, inputs)}
        assert len(outputs) == len(keys) * len(inputs)

    @pytest.mark.parametrize("other", [_key("serving"), _key(epoch="2026-2"), _key(bank="bank-b")])
    def test_a_response_under_another_key_is_refused(self, other: KeyPair) -> None:
        batch, response = _round(other, [_input(1), _input(2)])
        with pytest.raises(ProtocolError, match="VOPRF_PROOF"):
            voprf.finalize(batch, response, _key().public)

    def test_a_partner_that_marks_one_bank_row_is_caught(self) -> None:
        """One point of the batch evaluated under a second key would make its owner recognisable later."""
        key, mark = _key(), _key("serving")
        batch, response = _round(key, [_input(i) for i in range(4)])
        marked = group.multiply(mark.secret, batch.elements[2])
        with pytest.raises(ProtocolError, match="VOPRF_PROOF"):
            voprf.finalize(batch, response[:64] + marked + response[96:], key.public)

    def test_two_swapped_points_are_caught(self) -> None:
        key = _key()
        batch, response = _round(key, [_input(1), _input(2)])
        with pytest.raises(ProtocolError, match="VOPRF_PROOF"):
            voprf.finalize(batch, response[32:64] + response[:32] + response[64:], key.public)

    def test_a_proof_for_another_batch_is_refused(self) -> None:
        key = _key()
        batch, response = _round(key, [_input(1)])
        _, other = _round(key, [_input(2)])
        with pytest.raises(ProtocolError, match="VOPRF_PROOF"):
            voprf.finalize(batch, response[:32] + other[32:], key.public)

    def test_red_an_unverified_response_would_give_wrong_values(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key, other = _key(), _key("serving")
        batch, response = _round(other, [_input(1)])
        monkeypatch.setattr(voprf, "_verify", lambda *_: None)
        assert voprf.finalize(batch, response, key.public) != voprf.evaluate(key, [_input(1)])

    @pytest.mark.parametrize("poison", [bytes(32), b"\1" + bytes(31), b"\xff" * 32])
    def test_identity_and_non_canonical_points_are_refused_on_both_sides(self, poison: bytes) -> None:
        key = _key()
        batch, response = _round(key, [_input(1), _input(2)])
        with pytest.raises(ProtocolError) as at_partner:
            voprf.blind_evaluate(key, batch.request[:32] + poison)
        assert _code(at_partner).startswith("GROUP_")
        with pytest.raises(ProtocolError) as at_bank:
            voprf.finalize(batch, poison + response[32:], key.public)
        assert _code(at_bank).startswith("GROUP_")
        with pytest.raises(ProtocolError, match="VOPRF_PROOF"):
            voprf.finalize(batch, response, Element(poison))

    @pytest.mark.parametrize("proof", [bytes(64), b"\xff" * 64])
    def test_proof_scalars_out_of_range_are_refused(self, proof: bytes) -> None:
        key = _key()
        batch, response = _round(key, [_input(1)])
        with pytest.raises(ProtocolError, match="VOPRF_PROOF"):
            voprf.finalize(batch, response[:32] + proof, key.public)

    @pytest.mark.parametrize("size", [0, 31, 64, 95, 97, 128])
    def test_a_response_of_another_length_is_refused(self, size: int) -> None:
        key = _key()
        batch, response = _round(key, [_input(1)])
        with pytest.raises(ProtocolError, match="VOPRF_LENGTH"):
            voprf.finalize(batch, (response + bytes(64))[:size], key.public)

    @pytest.mark.parametrize("request_", [b"", bytes(31), bytes(32 * 65_536)])
    def test_empty_and_oversized_requests_are_refused(self, request_: bytes) -> None:
        with pytest.raises(ProtocolError, match="VOPRF_BATCH"):
            voprf.blind_evaluate(_key(), request_)

    def test_a_batch_is_not_empty_and_asks_once(self) -> None:
        for inputs in ([], [_input(1), _input(1)]):
            with pytest.raises(ProtocolError, match="VOPRF_BATCH"):
                voprf.blind(inputs, audit_key=AUDIT, label=LABEL)

    def test_hashes_must_match_the_inputs_in_number(self) -> None:
        with pytest.raises(ProtocolError, match="VOPRF_LENGTH"):
            voprf.evaluate(_key(), [_input(1)], [])

    def test_blinding_two_batches_under_one_label_is_seen(self) -> None:
        with observe(LabelLedger()) as ledger:
            voprf.blind([_input(1)], audit_key=AUDIT, label=LABEL)
            voprf.blind([_input(1)], audit_key=AUDIT, label=LABEL)  # a resend
            with pytest.raises(ProtocolError, match="LABEL_REUSED"):
                voprf.blind([_input(2)], audit_key=AUDIT, label=LABEL)
        assert len(ledger) == 1


class TestAudit:
    def _batch(self) -> tuple[list[bytes], voprf.Batch]:
        inputs = [_input(1, b"c" * 16), voprf.dummy_input(b"n" * 16), _input(3, b"d" * 16)]
        return inputs, voprf.blind(inputs, audit_key=AUDIT, label=LABEL)

    def test_every_honest_point_opens(self) -> None:
        inputs, batch = self._batch()
        for position, (element, data) in enumerate(zip(batch.elements, inputs, strict=True)):
            voprf.open_point(element, position, data, audit_key=AUDIT, label=LABEL)

    def test_a_point_opens_to_no_other_input_place_label_or_key(self) -> None:
        inputs, batch = self._batch()
        other = Label("voprf/blind", "epoch-1", bank="bank-a", partner="shop", vector="1")
        wrong = [
            (1, inputs[0], AUDIT, LABEL),
            (0, inputs[1], AUDIT, LABEL),
            (1, voprf.dummy_input(b"m" * 16), AUDIT, LABEL),
            (1, inputs[1], hashlib.sha256(b"other").digest(), LABEL),
            (1, inputs[1], AUDIT, other),
            (-1, inputs[1], AUDIT, LABEL),
        ]
        for position, data, key, label in wrong:
            with pytest.raises(ProtocolError, match="VOPRF_NOT_OPENED"):
                voprf.open_point(batch.elements[1], position, data, audit_key=key, label=label)

    def test_a_query_hidden_in_a_dummy_does_not_open(self) -> None:
        """The bank sends B₁ + r₂·H(victim); with B₁ evaluated too it would read the victim's value."""
        key = _key()
        victim = _input(77)
        inputs, batch = self._batch()
        secret = group.random_scalar()
        hidden = group.add(batch.elements[1], group.multiply(secret, voprf.hash_inputs([victim])[0]))
        # The attack works as long as nobody asks for an opening:
        response = voprf.blind_evaluate(key, batch.elements[1] + hidden)
        first, second = (group.decode_element(response[at : at + 32]) for at in (0, 32))
        minus = Scalar((group.ORDER - 1).to_bytes(32, "little"))
        difference = group.add(second, group.multiply(minus, first))
        read = group.multiply(group.scalar_inverses([secret])[0], difference)
        assert read == group.multiply(key.secret, voprf.hash_inputs([victim])[0])
        # It opens as nothing that the bank could state:
        for data in (inputs[1], victim):
            with pytest.raises(ProtocolError, match="VOPRF_NOT_OPENED"):
                voprf.open_point(hidden, 1, data, audit_key=AUDIT, label=LABEL)
