"""Properties of the vertical protocol: whatever the inputs, both sides agree, and foreign bytes are refused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vertical_world import BANKS, COMPUTE, World, key, roster_of, signed_by

from protocol import group, join, product, ring, voprf
from protocol.errors import ConcordatError, ProtocolError
from protocol.group import ORDER
from protocol.join import MemorySpool, Reader, Table, Writer, bucketed
from protocol.labels import Label
from protocol.partner_opening import PartnerOpening, ReleaseRoster

KEY = voprf.derive_key_pair(key("seed"), voprf.key_info("training", "2026", "bank-a"))
SCALARS = st.integers(1, ORDER - 1).map(lambda n: group.decode_scalar(n.to_bytes(32, "little")))


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_bytes_are_an_element_in_one_spelling_or_refused(data: bytes) -> None:
    try:
        element = group.decode_element(data)
    except ProtocolError:
        return
    one = group.decode_scalar((1).to_bytes(32, "little"))
    assert group.multiply(one, element) == data


@settings(max_examples=30, deadline=None)
@given(SCALARS, SCALARS, st.binary(max_size=40))
def test_multiplication_distributes_and_commutes(a: group.Scalar, b: group.Scalar, message: bytes) -> None:
    point = group.hash_to_group(message, b"test")
    both = group.multiply(a, group.multiply(b, point))
    assert (
        both
        == group.multiply(b, group.multiply(a, point))
        == group.multiply(group.scalar_multiply(a, b), point)
    )
    minus = (int.from_bytes(a, "little") + int.from_bytes(b, "little")) % ORDER
    if minus:
        total = group.decode_scalar(minus.to_bytes(32, "little"))
        assert group.add(group.multiply(a, point), group.multiply(b, point)) == group.multiply(total, point)


@settings(max_examples=20, deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=8))
def test_inverses_invert(scalars: list[group.Scalar]) -> None:
    for scalar, inverse in zip(scalars, group.scalar_inverses(scalars), strict=True):
        product_ = int.from_bytes(scalar, "little") * int.from_bytes(inverse, "little")
        assert product_ % ORDER == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.binary(max_size=30), min_size=1, max_size=6, unique=True), st.binary(min_size=32, max_size=32)
)
def test_both_sides_of_the_voprf_agree(inputs: list[bytes], audit_key: bytes) -> None:
    label = Label("voprf/blind", "job")
    batch = voprf.blind(inputs, audit_key=audit_key, label=label)
    with ThreadPoolExecutor(2) as pool:
        response = voprf.blind_evaluate(KEY, batch.request, pool)
    assert voprf.finalize(batch, response, KEY.public) == voprf.evaluate(KEY, inputs)
    for position, data in enumerate(inputs):
        voprf.open_point(batch.elements[position], position, data, audit_key=audit_key, label=label)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_request_and_no_response(data: bytes) -> None:
    batch = voprf.blind([b"x"], audit_key=bytes(32), label=Label("voprf/blind", "job"))
    with pytest.raises(ProtocolError):
        voprf.finalize(batch, data, KEY.public)
    if len(data) % 32:
        with pytest.raises(ProtocolError):
            voprf.blind_evaluate(KEY, data)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_bank_finds_the_common_rows_and_nothing_else(data: st.DataObject) -> None:
    listed = data.draw(st.sets(st.integers(0, 60), min_size=1, max_size=40))
    own = data.draw(st.lists(st.integers(0, 60), unique=True, max_size=40))
    width, seed = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 99))
    outputs = {i: bytes([i]) * 64 for i in range(61)}
    bits = np.random.Generator(np.random.PCG64(seed)).integers(0, 2, (len(listed), width), dtype=np.uint8)
    table = Table("job", 0, "bank-a", "shop", bucketed(len(listed)), width)
    writer = Writer(table, len(listed), table_key=key("K"), share_seed=key("s"), spool=MemorySpool())
    writer.add([outputs[i] for i in listed], bits)
    reader = Reader(table, [outputs[i] for i in own], table_key=key("K"))
    for chunk in writer.chunks():
        reader.feed(chunk)
    matched = reader.finish()
    assert {own[row] for row in matched.rows} == listed & set(own)
    place = {i: n for n, i in enumerate(listed)}
    zeta = np.stack([join.zeta(table, key("s"), t, 0) for t in range(width)], axis=1)
    expected = bits[[place[own[row]] for row in matched.rows]].reshape(-1, width)
    assert np.array_equal(matched.shares ^ zeta[matched.slots], expected)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=600))
def test_foreign_bytes_as_a_table_give_an_answer_without_the_bank_s_rows(data: bytes) -> None:
    table = Table("job", 0, "bank-a", "shop", 28, 4)
    answers = set()
    for own in ([], [bytes(64)], [bytes([i]) * 64 for i in range(9)]):
        reader = Reader(table, own, table_key=key("K"))
        try:
            reader.feed(data)
            reader.finish()
            answers.add("taken")
        except ConcordatError as error:
            answers.add(error.code)
    assert len(answers) == 1


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1_000),
    st.integers(1, 50),
    st.integers(1, 5),
    st.integers(0, 40),
    st.floats(0, 1),
    st.integers(3, 4),
    st.integers(0, 3),
)
def test_the_opened_v_is_the_plaintext_sum(
    seed: int, n: int, k: int, rows: int, coverage: float, banks: int, attempt: int
) -> None:
    chosen = BANKS[:banks]
    world = World.random(seed, n=n, k=k, rows=rows, coverage=coverage).join_and_multiply(chosen)
    assert world.opened(roster_of(chosen, attempt)).tolist() == world.plain(chosen).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(0, 24), st.integers(1, 255))
def test_one_changed_byte_of_a_share_changes_v_or_is_refused(who: int, at: int, change: int) -> None:
    world, roster = WORLD, roster_of()
    partner = PartnerOpening(roster, world.k)
    shares = {bank: world.bank_share(bank, roster) for bank in BANKS[:3]}
    shares[COMPUTE] = world.compute_share(SIGNED)
    sender = sorted(shares)[who]
    changed = bytearray(shares[sender])
    changed[at] ^= change
    for name, data in shares.items():
        partner.add(name, bytes(changed) if name == sender else data)
    if at < 5:
        with pytest.raises(ProtocolError, match="OPENING_COUNT"):
            partner.result(SUMS)
    else:
        assert partner.result(SUMS).tolist() != world.plain(BANKS[:3]).tolist()


WORLD = World.random(21).join_and_multiply()
SUMS = WORLD.partner_sums(BANKS[:3])
SIGNED = signed_by(roster_of())


@settings(deadline=None)
@given(st.floats(1e-4, 1 - 1e-4), st.lists(st.booleans(), max_size=20))
def test_weights_are_within_half_a_step_and_add_up(base_rate: float, outcomes: list[bool]) -> None:
    values = product.weights(np.array(outcomes, dtype=np.bool_), base_rate)
    exact = np.array(outcomes, dtype=float) - base_rate
    assert np.abs(values / 4096 - exact).max(initial=0) <= 2.0**-13


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.sampled_from(range(8, 65, 8)))
def test_packing_is_a_homomorphism(numbers: list[int], width: int) -> None:
    values = np.array(numbers, dtype=np.uint64)
    unpacked = ring.unpack(ring.pack(values, width), width, len(values))
    assert int(unpacked.sum(dtype=np.uint64)) % 2**width == sum(numbers) % 2**width


@settings(deadline=None)
@given(st.permutations(BANKS), st.integers(3, 4))
def test_a_roster_does_not_depend_on_the_order_of_names(order: list[str], size: int) -> None:
    chosen = order[:size]
    assert roster_of(chosen).digest == roster_of(sorted(chosen)).digest
    assert ReleaseRoster.from_body(roster_of(chosen).body).parties == tuple(sorted((*chosen, COMPUTE)))
