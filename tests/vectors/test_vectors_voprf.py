"""RFC 9497 appendix A.1.2 through the product's own calls, the batch included."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from protocol import group, voprf
from protocol.errors import ProtocolError

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("voprf_rfc9497.json").read_text())
KEY = voprf.derive_key_pair(bytes.fromhex(VECTORS["seed"]), bytes.fromhex(VECTORS["key_info"]))


def _bytes(vector: dict[str, Any], name: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in vector[name]]


def test_key_pair_is_derived() -> None:
    assert KEY.secret.hex() == VECTORS["secret"]
    assert KEY.public.hex() == VECTORS["public"]
    assert VECTORS["secret"] not in repr(KEY)


@pytest.mark.parametrize("vector", VECTORS["vectors"])
def test_both_sides_of_a_batch(vector: dict[str, Any]) -> None:
    scalars = [group.decode_scalar(data) for data in _bytes(vector, "blinds")]
    batch = voprf.blind_with(_bytes(vector, "inputs"), scalars)
    assert list(batch.elements) == _bytes(vector, "blinded")
    proof_scalar = group.decode_scalar(bytes.fromhex(vector["proof_scalar"]))
    with ThreadPoolExecutor(2) as pool:
        response = voprf.blind_evaluate(KEY, batch.request, pool, proof_scalar)
        assert response == b"".join(_bytes(vector, "evaluated")) + bytes.fromhex(vector["proof"])
        assert voprf.finalize(batch, response, KEY.public, pool) == _bytes(vector, "outputs")
    assert voprf.evaluate(KEY, _bytes(vector, "inputs")) == _bytes(vector, "outputs")


@pytest.mark.parametrize("vector", VECTORS["vectors"])
def test_no_changed_bit_of_a_response_is_taken(vector: dict[str, Any]) -> None:
    scalars = [group.decode_scalar(data) for data in _bytes(vector, "blinds")]
    batch = voprf.blind_with(_bytes(vector, "inputs"), scalars)
    response = b"".join(_bytes(vector, "evaluated")) + bytes.fromhex(vector["proof"])
    for at in range(len(response)):
        changed = bytearray(response)
        changed[at] ^= 1 << at % 8
        with pytest.raises(ProtocolError):
            voprf.finalize(batch, bytes(changed), KEY.public)
