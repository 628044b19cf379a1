"""The group's refusals, and that batches equal single calls with any pool."""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import rbcl

from protocol import group
from protocol.errors import ProtocolError
from protocol.group import Element, Scalar

IDENTITY = Element(bytes(32))


def _scalar(number: int) -> Scalar:
    return group.decode_scalar(number.to_bytes(32, "little"))


def _elements(n: int) -> list[Element]:
    return group.hash_all([bytes([i % 256, i // 256]) for i in range(n)], b"test")


def _code(function: object, *arguments: object) -> str:
    with pytest.raises(ProtocolError) as refusal:
        function(*arguments)  # type: ignore[operator]
    return refusal.value.code


def test_the_identity_is_refused_everywhere() -> None:
    element = group.multiply_base(_scalar(5))
    inverse = group.multiply_base(Scalar((group.ORDER - 5).to_bytes(32, "little")))
    assert rbcl.crypto_core_ristretto255_is_valid_point(bytes(32))  # the library lets it pass
    assert _code(group.decode_element, bytes(32)) == "GROUP_IDENTITY"
    assert _code(group.decode_elements, element + bytes(32)) == "GROUP_IDENTITY"
    assert _code(group.add, element, inverse) == "GROUP_IDENTITY"
    assert _code(group.combine, [_scalar(1), _scalar(1)], [element, inverse]) == "GROUP_IDENTITY"
    assert _code(group.combine, [], []) == "GROUP_IDENTITY"
    assert _code(group.multiply, _scalar(3), IDENTITY) == "GROUP_ELEMENT"


def test_a_second_spelling_of_an_element_is_refused() -> None:
    """Bit 255 set, or the field's order added: the library at hand takes the first for the same element."""
    for element in _elements(20):
        second = element[:31] + bytes([element[31] | 0x80])
        assert rbcl.crypto_core_ristretto255_is_valid_point(second)
        assert _code(group.decode_element, second) == "GROUP_ELEMENT"
        assert _code(group.decode_elements, element + second) == "GROUP_ELEMENT"
        assert group.decode_element(element) == element
    for small in range(19):
        spelt = (small + 2**255 - 19).to_bytes(32, "little")
        assert _code(group.decode_element, spelt) == "GROUP_ELEMENT"


@pytest.mark.parametrize("number", [0, group.ORDER, group.ORDER + 1, 2**252 * 15, 2**256 - 1])
def test_scalars_out_of_range_are_refused(number: int) -> None:
    assert _code(group.decode_scalar, number.to_bytes(32, "little")) == "GROUP_SCALAR"


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33), "0" * 32])
def test_wrong_lengths_and_types_are_refused(data: bytes) -> None:
    assert _code(group.decode_scalar, data) == "GROUP_SCALAR"
    assert _code(group.decode_element, data) == "GROUP_ELEMENT"


def test_other_refusals() -> None:
    assert _code(group.decode_elements, bytes(33)) == "GROUP_ELEMENT"
    assert _code(group.scalar_subtract, _scalar(7), _scalar(7)) == "GROUP_SCALAR"
    assert _code(group.scalar_from_uniform, bytes(64)) == "GROUP_SCALAR"
    assert _code(group.scalar_from_uniform, bytes(32)) == "GROUP_SCALAR"
    assert _code(group.multiply_base, Scalar(bytes(32))) == "GROUP_SCALAR"
    assert _code(group.expand_message_xmd, b"", b"", 64) == "GROUP_EXPAND"
    assert _code(group.expand_message_xmd, b"", b"x" * 256, 64) == "GROUP_EXPAND"
    assert _code(group.expand_message_xmd, b"", b"x", 64 * 255 + 1) == "GROUP_EXPAND"


def test_hashing_to_the_identity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbcl, "crypto_core_ristretto255_from_hash", lambda data: bytes(32))
    assert _code(group.hash_to_group, b"", b"test") == "GROUP_IDENTITY"


def test_arithmetic() -> None:
    base = group.multiply_base(_scalar(1))
    five = group.multiply_base(_scalar(5))
    assert group.add(group.multiply_base(_scalar(2)), group.multiply_base(_scalar(3))) == five
    assert group.multiply(_scalar(5), base) == five
    assert group.scalar_multiply(_scalar(6), _scalar(7)) == _scalar(42)
    assert group.scalar_subtract(_scalar(6), _scalar(7)) == _scalar(group.ORDER - 1)
    assert group.scalar_inverses([]) == []
    for n in (1, 2, 9):
        scalars = [group.random_scalar() for _ in range(n)]
        inverses = group.scalar_inverses(scalars)
        assert [group.scalar_multiply(a, b) for a, b in zip(scalars, inverses, strict=True)] == [
            _scalar(1)
        ] * n


def test_domains_separate_hashes() -> None:
    assert group.hash_to_group(b"m", b"one") != group.hash_to_group(b"m", b"two")
    assert group.hash_to_scalar(b"m", b"one") != group.hash_to_scalar(b"m", b"two")


@pytest.fixture(scope="module", params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with ThreadPoolExecutor(2) if request.param == "threads" else ProcessPoolExecutor(2) as made:
        yield made


def test_batches_equal_single_calls_on_any_pool(pool: Executor) -> None:
    n = 2 * 512 + 3  # two chunks and a piece
    messages = [i.to_bytes(4, "big") for i in range(n)]
    elements = group.hash_all(messages, b"test", pool)
    assert elements == [group.hash_to_group(m, b"test") for m in messages]
    scalar, scalars = group.random_scalar(), [group.hash_to_scalar(m, b"test") for m in messages]
    assert group.multiply_all(scalar, elements, pool) == [group.multiply(scalar, e) for e in elements]
    each = group.multiply_each(scalars, elements, pool)
    assert each == group.multiply_each(scalars, elements)
    assert group.combine(scalars, elements, pool) == group.combine(scalars, elements)
    assert group.decode_elements(b"".join(elements), pool) == elements


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        group.multiply_each([_scalar(1)], _elements(2))
