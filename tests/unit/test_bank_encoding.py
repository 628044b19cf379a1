"""The bank columns' encoding: knots, centring, missing values, categories, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from bank_node.encoding import (
    CENTRING_BOUND,
    KNOT_BOUND,
    LEAST_PRESENT,
    TAIL,
    Columns,
    Encoding,
    centring_statistics,
    encoding_from,
    knot_statistics,
    knots_from,
    quantile_levels,
)
from protocol import ring
from protocol.errors import DataError, ProtocolError

COLUMNS = Columns(("amount", "ratio"), (("sector", ("A", "B")),))
BINS = 4


def table(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.Generator(np.random.PCG64(seed))
    return pd.DataFrame(
        {
            "amount": np.exp(rng.normal(10, 3, rows)) * rng.choice([-1, 1], rows),
            "ratio": np.where(rng.random(rows) < 0.2, np.nan, rng.random(rows)),
            "sector": rng.choice(["A", "B", "C"], rows),
        }
    )


def agreed(frames: list[pd.DataFrame], columns: Columns = COLUMNS, bins: int = BINS) -> Encoding:
    knots = knots_from(sum(knot_statistics(columns, frame, bins) for frame in frames), columns, bins)
    return encoding_from(knots, sum(centring_statistics(knots, frame) for frame in frames))


def test_knots_are_the_banks_average_quantiles_weighted_by_rows() -> None:
    small, large = table(100, 1), table(400, 2)
    knots = knots_from(
        knot_statistics(COLUMNS, small, BINS) + knot_statistics(COLUMNS, large, BINS), COLUMNS, BINS
    )
    levels = quantile_levels(BINS)
    expected = [
        (
            100 * np.quantile(np.arcsinh(small["amount"]), q)
            + 400 * np.quantile(np.arcsinh(large["amount"]), q)
        )
        / 500
        for q in levels
    ]
    np.testing.assert_allclose(knots.positions[0], expected, rtol=1e-12)
    assert knots.ranks[0] == tuple(levels)


def test_no_knot_is_one_enterprises_extreme_value() -> None:
    frame = table(1000)
    frame.loc[7, "amount"] = 1e17
    changed = frame.copy()
    changed.loc[7, "amount"] = 1e15
    np.testing.assert_array_equal(
        knot_statistics(COLUMNS, frame, BINS), knot_statistics(COLUMNS, changed, BINS)
    )
    assert 0 < TAIL < 0.5


def test_too_few_values_contribute_nothing_to_the_knots() -> None:
    frame = table(100)
    frame.loc[LEAST_PRESENT - 1 :, "ratio"] = np.nan
    row = knot_statistics(COLUMNS, frame, BINS).reshape(2, BINS + 2)[1]
    assert not row.any()


def test_training_rows_are_centred_over_all_banks() -> None:
    frames = [table(100, 1), table(400, 2), table(250, 3)]
    encoding = agreed(frames)
    encoded = np.concatenate([encoding.transform(frame) for frame in frames])
    assert encoded.shape == (750, encoding.width)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded.mean(axis=0), 0.0, atol=1e-5)
    assert np.abs(encoded).max() <= 1.0


def test_a_missing_number_stands_at_the_mean_and_is_flagged() -> None:
    encoding = agreed([table(100, 1), table(400, 2)])
    row = pd.DataFrame({"amount": [5.0], "ratio": [np.nan], "sector": ["A"]})
    encoded = dict(zip(encoding.names, encoding.transform(row)[0], strict=True))
    assert all(encoded[name] == 0.0 for name in encoding.names if name.startswith("ratio r"))
    assert encoded["ratio missing"] > 0.5 > 0.0 > encoded["sector = B"]


def test_an_undeclared_level_and_an_empty_one_are_other() -> None:
    encoding = agreed([table(100, 1), table(400, 2)])
    rows = pd.DataFrame({"amount": [5.0] * 2, "ratio": [0.5] * 2, "sector": ["ZZ", None]})
    at = encoding.names.index("sector other")
    encoded = encoding.transform(rows)
    assert (encoded[:, at] > 0.5).all()
    assert (encoded[:, at - 2 : at] < 0).all()


def test_ties_and_constants_make_fewer_knots() -> None:
    columns = Columns(("flag", "constant", "absent"))
    frame = pd.DataFrame({"flag": [0.0, 1.0] * 100, "constant": [3.0] * 200, "absent": [np.nan] * 200})
    encoding = agreed([frame, frame], columns)
    assert len(encoding.knots.positions[0]) == 3
    assert [len(p) for p in encoding.knots.positions[1:]] == [1, 0]
    assert np.isfinite(encoding.transform(frame)).all()


def test_values_beyond_the_outer_knots_are_held_to_them() -> None:
    encoding = agreed([table(400, 2)] * 3)
    rows = pd.DataFrame({"amount": [-1e17, 1e17], "ratio": [0.5] * 2, "sector": ["A"] * 2})
    knots = np.sinh(np.asarray(encoding.knots.positions[0])[[0, -1]])
    at_the_knots = rows.assign(amount=knots)
    np.testing.assert_allclose(encoding.transform(rows), encoding.transform(at_the_knots), atol=1e-5)


def test_statistics_fit_the_ring() -> None:
    frame = pd.DataFrame({"amount": [-1e18, 1e18] * 50, "ratio": [1e-9] * 100, "sector": ["A"] * 100})
    statistic = knot_statistics(COLUMNS, frame, BINS)
    elements = ring.encode(statistic, KNOT_BOUND.fraction_bits, KNOT_BOUND.limit)
    np.testing.assert_allclose(ring.decode(elements, KNOT_BOUND.fraction_bits), statistic, atol=2**-24)
    knots = knots_from(statistic, COLUMNS, BINS)
    statistic = centring_statistics(knots, frame)
    elements = ring.encode(statistic, CENTRING_BOUND.fraction_bits, CENTRING_BOUND.limit)
    np.testing.assert_allclose(ring.decode(elements, CENTRING_BOUND.fraction_bits), statistic, atol=2**-24)
    ring.check_headroom(100, KNOT_BOUND.limit, KNOT_BOUND.fraction_bits)


def test_an_encoding_survives_json_to_the_last_bit() -> None:
    encoding = agreed([table(100, 1), table(400, 2)])
    again = Encoding.from_dict(json.loads(json.dumps(encoding.to_dict())))
    assert again == encoding
    assert again.names == encoding.names
    frame = table(50, 9)
    np.testing.assert_array_equal(again.transform(frame), encoding.transform(frame))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 2}, "ENCODING_MALFORMED"),
        ({"means": [0.0]}, "ENCODING_WIDTH"),
        ({"positions": [[0.0, float("nan")], [0.0, 1.0]]}, "ENCODING_MALFORMED"),
        ({"positions": [[1.0, 0.0], [0.0, 1.0]], "ranks": [[0.0, 1.0], [0.0, 1.0]]}, "ENCODING_MALFORMED"),
        ({"positions": [[0.0, 1.0]]}, "ENCODING_MALFORMED"),
        ({"numbers": 5}, "ENCODING_MALFORMED"),
    ],
)
def test_a_malformed_encoding_is_refused(change: dict[str, object], code: str) -> None:
    document = agreed([table(100, 1), table(400, 2)]).to_dict() | change
    with pytest.raises(ProtocolError) as refused:
        Encoding.from_dict(document)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (table().drop(columns="ratio"), "DATA_MISSING_FIELD"),
        (table().drop(columns="sector"), "DATA_MISSING_FIELD"),
        (table().assign(amount="much"), "DATA_WRONG_TYPE"),
        (table().assign(amount=np.inf), "DATA_OUT_OF_RANGE"),
        (table().assign(amount=1e19), "DATA_OUT_OF_RANGE"),
        (table().iloc[:0], "ENCODING_ROWS"),
    ],
)
def test_a_table_that_breaks_the_contract_is_refused(frame: pd.DataFrame, code: str) -> None:
    knots = agreed([table()]).knots
    with pytest.raises(DataError) as refused:
        centring_statistics(knots, frame)
    assert refused.value.code == code
    assert "1e+19" not in refused.value.message
    assert "much" not in refused.value.message


@pytest.mark.parametrize("bins", [0, 1, 65])
def test_a_number_of_bins_out_of_range_is_refused(bins: int) -> None:
    with pytest.raises(ProtocolError):
        knot_statistics(COLUMNS, table(), bins)


@pytest.mark.parametrize("columns", [((), ()), (("a", "a"), ()), (("a",), (("a", ("x",)),))])
def test_columns_named_twice_are_refused(columns: tuple) -> None:
    with pytest.raises(DataError):
        Columns(*columns)


def test_levels_declared_twice_are_refused() -> None:
    with pytest.raises(DataError):
        Columns((), (("a", ("x", "x")),))


def test_impossible_totals_are_refused() -> None:
    total = knot_statistics(COLUMNS, table(), BINS)
    knots = knots_from(total, COLUMNS, BINS)
    decreasing = total.copy()
    decreasing[1] = 1e6
    for wrong in (total[:-1], -total, decreasing, total * np.nan):
        with pytest.raises(ProtocolError):
            knots_from(wrong, COLUMNS, BINS)
    centring = centring_statistics(knots, table())
    for wrong in (centring[1:], -centring, centring + np.inf):
        with pytest.raises(ProtocolError):
            encoding_from(knots, wrong)


def test_blocks_of_rows_don_t_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table(100)
    encoding = agreed([frame])
    whole = encoding.transform(frame)
    monkeypatch.setattr("bank_node.encoding._BLOCK_ROWS", 7)
    np.testing.assert_array_equal(encoding.transform(frame), whole)
    with pytest.raises(DataError, match="Row 50, field amount"):
        encoding.transform(frame.assign(amount=frame["amount"].where(frame.index != 50, 1e19)))
