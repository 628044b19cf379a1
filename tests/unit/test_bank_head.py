"""A bank's own head: the same from the same seed, calibrated on what its trees never saw, silent on gaps."""

import json

import numpy as np
import pandas as pd
import pytest

from bank_node import head
from bank_node.encoding import Columns
from bank_node.head import FOLDS, Head, averaged, folds_of
from protocol.errors import ConcordatError, ConfigurationError, DataError

COLUMNS = Columns(("size",), (("kind", ("a", "b")),))
ROWS = 1600
IDS = [f"enterprise-{i}" for i in range(ROWS)]
FOLDED = folds_of(IDS, b"sixteen bytes ok")


def rows(missing: float = 0.2, n: int = ROWS) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(0))
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "kind": pd.Categorical(rng.choice(["a", "b"], n), categories=["a", "b"]),
        }
    )
    bins = rng.integers(0, 16, size=(n, 2)).astype(np.int8)
    h = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(0.5 - h - (bins[:, 0] - 7.5) / 4))).astype(np.int8)
    bins[rng.random(n) < missing, 0] = -1
    return frame, y, h, bins


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "TREES", 40)


def grown(seed: int = 7, y: np.ndarray | None = None) -> Head:
    frame, own, h, bins = rows()
    made = head.fit(COLUMNS, frame, own if y is None else y, h, bins, FOLDED, seed)
    assert made is not None
    return made


def test_the_same_seed_gives_the_same_head_and_another_seed_another() -> None:
    assert grown() == grown()
    assert grown(8).forests != grown().forests


def test_what_was_written_reads_back_to_the_same_scores() -> None:
    frame, _, h, bins = rows()
    made = grown()
    again = Head.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    np.testing.assert_array_equal(again.log_odds(frame, h, bins), made.log_odds(frame, h, bins))


def test_it_learns_from_the_bins() -> None:
    frame, _, h, bins = rows()
    low, high = bins.copy(), bins.copy()
    low[:, 0], high[:, 0] = 1, 14
    made = grown()
    assert made.log_odds(frame, h, high).mean() - made.log_odds(frame, h, low).mean() > 1.0


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_forest_never_sees_its_own_fold(fold: int) -> None:
    y = rows()[1].copy()
    y[fold == FOLDED] = 1 - y[fold == FOLDED]
    changed, before = grown(y=y), grown()
    same = [a == b for a, b in zip(changed.forests, before.forests, strict=True)]
    assert same == [other == fold for other in range(FOLDS)]
    assert (changed.slope, changed.intercept) != (before.slope, before.intercept)


def test_it_is_calibrated_on_rows_that_its_trees_never_saw() -> None:
    # Few trees stop short of what the rows say; the line through out-of-fold scores makes up for it.
    frame, y, h, bins = rows()
    made = grown()
    assert made.slope != 1.0
    found = made.log_odds(frame, h, bins)
    assert abs((1 / (1 + np.exp(-found))).mean() - y.mean()) < 0.02


def test_a_gap_that_it_never_saw_is_not_answered() -> None:
    frame, _, h, bins = rows()
    made = grown()
    assert made.gaps == (True, False)
    gone = bins.copy()
    gone[:10, 1] = -1
    found = made.log_odds(frame, h, gone)
    assert np.isnan(found[:10]).all()
    assert np.isfinite(found[10:]).all()


def test_s_stands_alone_where_the_head_is_silent() -> None:
    s, own = np.array([1.0, 2.0]), np.array([3.0, np.nan])
    assert averaged(s, own).tolist() == [2.0, 2.0]


def test_too_few_rows_grow_no_head() -> None:
    frame, y, h, bins = rows()
    short = slice(0, 150)
    assert head.fit(COLUMNS, frame[short], y[short], h[short], bins[short], FOLDED[short], 1) is None
    assert head.fit(COLUMNS, frame, np.zeros_like(y), h, bins, FOLDED, 1) is None


def test_no_rows_are_answered_by_nothing() -> None:
    frame, _, h, bins = rows()
    assert len(grown().log_odds(frame[:0], h[:0], bins[:0])) == 0


def test_levels_that_the_contract_doesn_t_have_count_as_missing() -> None:
    frame, _, h, bins = rows()
    strange, empty = frame.copy(), frame.copy()
    strange["kind"], empty["kind"] = "c", None
    made = grown()
    np.testing.assert_array_equal(made.log_odds(strange, h, bins), made.log_odds(empty, h, bins))


def test_what_doesn_t_fit_is_refused() -> None:
    frame, y, h, bins = rows()
    made = grown()
    for call in (
        lambda: head.fit(COLUMNS, frame, y[1:], h, bins, FOLDED, 1),
        lambda: head.fit(COLUMNS, frame, y, h[1:], bins, FOLDED, 1),
        lambda: head.fit(COLUMNS, frame, y, h, bins[1:], FOLDED, 1),
        lambda: head.fit(COLUMNS, frame, y, h, bins, FOLDED[1:], 1),
        lambda: made.log_odds(frame, h, bins[:, :1]),
        lambda: made.log_odds(frame, h[1:], bins),
    ):
        with pytest.raises(DataError) as refused:
            call()
        assert refused.value.code == "HEAD_ROWS"


@pytest.mark.parametrize("change", [{"version": 2}, {"slope": None}, {"numbers": 3}])
def test_a_malformed_file_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Head.from_dict({**grown().to_dict(), **change})
    assert refused.value.code == "HEAD_MALFORMED"


def test_folds_are_keyed_and_even() -> None:
    assert np.bincount(FOLDED, minlength=FOLDS).min() > ROWS / FOLDS * 0.8
    assert (folds_of(IDS, b"another salt, 16") != FOLDED).any()
    np.testing.assert_array_equal(folds_of(IDS[::-1], b"sixteen bytes ok")[::-1], FOLDED)
    with pytest.raises(ConcordatError):
        folds_of(IDS, b"short")
