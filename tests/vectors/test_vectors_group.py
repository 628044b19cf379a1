"""ristretto255 and expand_message_xmd against RFC 9496 and RFC 9380."""

import json
from pathlib import Path
from typing import Any

import pytest
import rbcl

from protocol import group
from protocol.errors import ProtocolError

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("ristretto255.json").read_text())


@pytest.mark.parametrize(("number", "encoding"), VECTORS["multiples"].items())
def test_multiples_of_the_generator(number: str, encoding: str) -> None:
    scalar = group.decode_scalar(int(number).to_bytes(32, "little"))
    assert group.multiply_base(scalar).hex() == encoding
    assert group.decode_element(bytes.fromhex(encoding)).hex() == encoding


@pytest.mark.parametrize(("uniform", "encoding"), VECTORS["from_uniform"].items())
def test_elements_of_uniform_bytes(uniform: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "expand_message_xmd", lambda message, dst, length: message)
    assert group.hash_to_group(bytes.fromhex(uniform), b"any").hex() == encoding


@pytest.mark.parametrize("encoding", VECTORS["invalid"])
def test_invalid_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        group.decode_element(bytes.fromhex(encoding))
    assert refusal.value.code == "GROUP_ELEMENT"


@pytest.mark.parametrize("encoding", VECTORS["invalid"])
def test_arithmetic_refuses_them_too(encoding: str) -> None:
    invalid, base = group.Element(bytes.fromhex(encoding)), group.multiply_base(group.random_scalar())
    # What the library itself answers is a valid-looking encoding: the trap that the module closes.
    assert rbcl.crypto_core_ristretto255_add(base, invalid) == bytes(32)
    with pytest.raises(ProtocolError):
        group.add(base, invalid)
    with pytest.raises(ProtocolError):
        group.multiply(group.random_scalar(), invalid)


@pytest.mark.parametrize(("message", "length", "uniform"), VECTORS["expand"])
def test_expansion_of_a_message(message: str, length: int, uniform: str) -> None:
    dst = VECTORS["expand_dst"].encode()
    assert group.expand_message_xmd(message.encode(), dst, length).hex() == uniform
