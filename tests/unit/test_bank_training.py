"""Local passes: the same bits from the same seeds, each network on its half, averages, and what is refused."""

import threading

import numpy as np
import pytest
import torch

from bank_node.network import ScoreNetwork, Shape, flatten, initialise, load, shape_of
from bank_node.training import (
    FRACTION_BITS,
    UPDATE_LIMIT,
    WEIGHT_LIMIT,
    LocalTrainer,
    Seeds,
    generator_for,
    half_of,
    is_holdout,
    update_vector,
    weights_from,
)
from protocol import ring
from protocol.errors import ConcordatError, ConfigurationError, DataError, ProtocolError
from protocol.job import DpRecipe, Recipe

RECIPE = Recipe(hidden=(8, 8), local_steps=20, rounds=2)
SALT = b"sixteen bytes ok"
SEEDS = Seeds(b"c" * 32, b"o" * 32)
IDS = [f"enterprise-{i}" for i in range(400)]


def rows(n: int = 400, width: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(0))
    x = rng.normal(size=(n, width)).astype(np.float32)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(np.int8)
    return x, y, half_of(IDS[:n], SALT)


def trainer(seeds: Seeds = SEEDS, recipe: Recipe = RECIPE, data: tuple | None = None) -> LocalTrainer:
    return LocalTrainer(recipe, *(data or rows()), seeds, -1.0)


def test_a_vector_goes_into_a_network_and_out_again() -> None:
    shape = Shape(5, (8, 4), 2)
    model = shape.model()
    initialise(model, generator_for(b"k" * 32, "test"), -1.5)
    vector = flatten(model)
    assert vector.shape == (shape.parameters,)
    other = shape.model()
    load(other, vector)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), other(x))
    assert model.output.bias.item() == -1.5
    assert not model.skip.weight.any()


@pytest.mark.parametrize("vector", [np.zeros(3, np.float32), np.full(10, np.nan, np.float32)])
def test_a_wrong_vector_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ProtocolError):
        load(ScoreNetwork(2, (2,)), vector)


@pytest.mark.parametrize(("width", "hidden"), [(0, (4,)), (3, ()), (3, (0,))])
def test_an_impossible_network_is_refused(width: int, hidden: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        ScoreNetwork(width, hidden)


def test_the_shape_follows_the_recipe() -> None:
    assert shape_of(Recipe(initialisations=3), 7).networks == 6
    assert shape_of(DpRecipe(), 7).networks == 2
    assert [Shape(7, (4,), 2).half(i) for i in range(4)] == [0, 0, 1, 1]


def test_every_bank_starts_from_the_same_networks() -> None:
    one = trainer(Seeds(b"c" * 32, b"1" * 32)).initial()
    two = trainer(Seeds(b"c" * 32, b"2" * 32), data=rows(200)).initial()
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[0], one[2])
    assert (one[0] != one[1]).any()
    assert (trainer(Seeds(b"d" * 32, b"1" * 32)).initial() != one).any()


def test_the_same_seeds_give_the_same_bits_in_another_thread_whatever_the_global_generators_do() -> None:
    first = trainer()
    expected = first.local_pass(first.initial(), 1)
    found = []

    def work() -> None:
        torch.manual_seed(5)
        np.random.default_rng()
        second = trainer()
        found.append(second.local_pass(second.initial(), 1))

    state = torch.get_rng_state()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], expected)
    torch.set_rng_state(state)
    again = trainer()
    again.local_pass(again.initial(), 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_rounds_and_banks_draw_other_batches() -> None:
    one = trainer()
    start = one.initial()
    assert (one.local_pass(start, 1) != one.local_pass(start, 2)).any()
    other = trainer(Seeds(b"c" * 32, b"x" * 32))
    assert (one.local_pass(start, 1) != other.local_pass(start, 1)).any()


def test_the_start_is_left_as_it_was() -> None:
    one = trainer()
    start = one.initial()
    before = start.copy()
    one.local_pass(start, 1)
    np.testing.assert_array_equal(start, before)


@pytest.mark.parametrize("half", [0, 1])
def test_a_network_never_sees_the_other_half(half: int) -> None:
    x, y, halves = rows()
    changed = x.copy()
    changed[halves == half] *= -3
    one, two = trainer(data=(x, y, halves)), trainer(data=(changed, y, halves))
    start = one.initial()
    a, b = one.local_pass(start, 1), two.local_pass(start, 1)
    same = [bool((a[i] == b[i]).all()) for i in range(4)]
    assert same == [one.shape.half(i) != half for i in range(4)]


def test_training_learns() -> None:
    x, y, _halves = rows()
    one = trainer(recipe=Recipe(hidden=(8, 8), local_steps=150, rounds=1))
    trained = one.local_pass(one.initial(), 1)
    model = one.shape.model()
    load(model, trained[0])
    with torch.no_grad():
        score = model(torch.tensor(x)).numpy()
    assert score[y == 1].mean() - score[y == 0].mean() > 0.5


def test_one_network_of_the_stack_trains_as_it_would_alone() -> None:
    # The same step written out for one network, without dropout, in torch's ordinary modules.
    recipe = Recipe(hidden=(8, 8), local_steps=3, rounds=1, dropout=0.0)
    x, y, halves = rows()
    one = trainer(recipe=recipe)
    start = one.initial()
    batches = one._batches(1)
    model = one.shape.model()
    load(model, start[3])
    matrices = [value for name, value in model.named_parameters() if name.endswith("weight")]
    biases = [value for name, value in model.named_parameters() if name.endswith("bias")]
    optimiser = torch.optim.AdamW(
        [{"params": matrices}, {"params": biases, "weight_decay": 0.0}], betas=(0.9, 0.99), weight_decay=0.1
    )
    for step in range(3):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + np.cos(np.pi * step / 3))
        chosen = batches[step, 3].numpy()
        assert (halves[chosen] == 1).all()
        optimiser.zero_grad()
        logits = model(torch.tensor(x[chosen]))
        torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.tensor(y[chosen], dtype=torch.float32)
        ).backward()
        optimiser.step()
    np.testing.assert_allclose(one.local_pass(start, 1)[3], flatten(model), atol=1e-6)


def test_batches_pass_over_all_rows_of_the_half() -> None:
    one = trainer(recipe=Recipe(hidden=(4,), local_steps=50, rounds=1))
    batches = one._batches(1)
    assert batches.shape == (50, 4, 32)
    for i in range(4):
        members = set(np.flatnonzero(rows()[2] == one.shape.half(i)))
        assert set(batches[:, i].flatten().tolist()) == members
        first = batches[:, i].flatten()[: len(members)]
        assert len(set(first.tolist())) == len(members)


def test_the_average_is_weighted_by_rows_and_exact_in_the_ring() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    weights = [rng.normal(size=(4, 6)).astype(np.float32) for _ in range(3)]
    counts = [np.array([100, 100, 50, 50]), np.array([10, 10, 20, 20]), np.array([1000, 1000, 7, 7])]
    elements = [
        ring.encode(update_vector(w, n), FRACTION_BITS, UPDATE_LIMIT)
        for w, n in zip(weights, counts, strict=True)
    ]
    total = ring.decode(elements[0] + elements[1] + elements[2], FRACTION_BITS)
    expected = np.average(np.stack(weights), axis=0, weights=np.stack(counts)[:, :, None].repeat(6, 2))
    np.testing.assert_allclose(weights_from(total, 4), expected, atol=1e-6)
    ring.check_headroom(100, UPDATE_LIMIT, FRACTION_BITS)


def test_halves_and_holdout_are_keyed_stable_and_independent() -> None:
    ids = [str(i) for i in range(20_000)]
    halves, held = half_of(ids, SALT), is_holdout(ids, SALT, 0.3)
    np.testing.assert_array_equal(half_of(ids[::-1], SALT)[::-1], halves)
    assert abs(halves.mean() - 0.5) < 0.02
    assert abs(held.mean() - 0.3) < 0.02
    assert abs(halves[held].mean() - 0.5) < 0.03
    assert abs((half_of(ids, b"another salt, 16") == halves).mean() - 0.5) < 0.02
    assert not is_holdout(ids, SALT, 0.0).any()
    # A larger hold-out contains a smaller one, so that a changed share moves few rows.
    assert is_holdout(ids, SALT, 0.4)[held].all()


def test_bad_salts_seeds_and_shares_are_refused() -> None:
    for call in (
        lambda: half_of(IDS, b"short"),
        lambda: is_holdout(IDS, SALT, 1.0),
        lambda: is_holdout(IDS, SALT, -0.1),
        lambda: Seeds(b"c", b"o" * 32),
        lambda: Seeds(b"c" * 32, b""),
    ):
        with pytest.raises(ConfigurationError):
            call()


def test_seeds_don_t_show_themselves() -> None:
    assert "c" * 8 not in repr(SEEDS)


def _data(change: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, halves = rows()
    match change:
        case "label":
            y[0] = 2
        case "half":
            halves[0] = 3
        case "nan":
            x[0, 0] = np.nan
        case "short":
            y = y[1:]
        case "few":
            return x[:40], y[:40], halves[:40]
        case "one outcome":
            y[halves == 1] = 0
        case "one half":
            halves[:] = 0
    return x, y, halves


@pytest.mark.parametrize("change", ["label", "half", "nan", "short", "few", "one outcome", "one half"])
def test_rows_that_can_t_be_trained_on_are_refused(change: str) -> None:
    with pytest.raises(DataError):
        trainer(data=_data(change))


@pytest.mark.parametrize("value", [np.nan, np.inf, WEIGHT_LIMIT * 2])
def test_bad_weights_are_refused(value: float) -> None:
    one = trainer()
    start = one.initial()
    start[1, 2] = value
    with pytest.raises(ProtocolError):
        one.local_pass(start, 1)
    with pytest.raises(ProtocolError):
        update_vector(start, one.rows)


def test_bad_rounds_shapes_and_totals_are_refused() -> None:
    one = trainer()
    start = one.initial()
    total = update_vector(start, one.rows)
    few = total.copy()
    few[0] = 3
    for call in (
        lambda: one.local_pass(start, 0),
        lambda: one.local_pass(start, 3),
        lambda: one.local_pass(start[:2], 1),
        lambda: one.local_pass(start[:, 1:], 1),
        lambda: update_vector(start, one.rows - 1_000_000),
        lambda: update_vector(start, one.rows[:3]),
        lambda: weights_from(total[1:], 4),
        lambda: weights_from(few, 4),
        lambda: weights_from(total * np.nan, 4),
        lambda: weights_from(total[:4], 4),
    ):
        with pytest.raises(ConcordatError):
            call()


def test_a_pass_that_diverges_is_refused() -> None:
    recipe = Recipe(hidden=(8, 8), local_steps=200, rounds=1, learning_rate=1.0, weight_decay=0.0)
    one = trainer(recipe=recipe)
    with pytest.raises(ProtocolError) as refused:
        one.local_pass(np.full((4, one.shape.parameters), 63.0, np.float32), 1)
    assert refused.value.code == "NETWORK_DIVERGED"
