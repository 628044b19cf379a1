"""Ingest of arbitrary tables: readers agree with plain Python, rows reconcile, no cell is told."""

import csv
import datetime
import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import stdnum.cn.uscc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node import cells, ingest
from node.ingest import Mapping
from protocol import uscc
from protocol.contract import Dataset, Field
from protocol.errors import DataError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_every_finite_float_is_read_back_from_its_text(values):
    column = cells.number(pa.array([repr(value) for value in values]))
    assert not column.wrong.any()
    assert column.values.tolist() == values


@given(st.lists(st.one_of(TEXT, st.text("0123456789+-.eE ", max_size=10)), min_size=1))
def test_numbers_are_what_python_reads_and_nothing_else(texts):
    column = cells.number(pa.array(texts, pa.string()))
    for text, value, missing, wrong in zip(texts, column.values, column.missing, column.wrong, strict=True):
        assert not (missing and wrong)
        if not missing and not wrong:
            assert value == float(text)
            assert math.isfinite(value)
        else:
            assert math.isnan(value)
            assert text.strip().lower() in cells.MISSING or not _plain_number(text.strip())


def _plain_number(text):
    if not set(text) <= set("0123456789+-.eE"):
        return False
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@given(
    st.lists(
        st.one_of(st.dates(min_value=datetime.date(1000, 1, 1)).map(str), st.text("0123456789-", max_size=10))
    )
)
def test_days_are_real_days(texts):
    column = cells.day(pa.array(texts, pa.string()))
    for text, value, missing, wrong in zip(texts, column.values, column.missing, column.wrong, strict=True):
        if not missing and not wrong:
            digits = text.replace("-", "")
            assert str(value)[:10] == str(datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:])))
        else:
            assert missing or not _is_day(text)


def _is_day(text):
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@given(
    st.lists(
        st.tuples(
            st.text(uscc.ALPHABET, min_size=9, max_size=9), st.text("0123456789", min_size=6, max_size=6)
        )
    )
)
def test_credit_codes_agree_with_an_independent_implementation(parts):
    bodies = [f"91{division}{organisation}" for organisation, division in parts]
    codes = [body + stdnum.cn.uscc.calc_check_digit(body) for body in bodies]
    for code, good in zip(codes, ~cells.enterprise(pa.array(codes, pa.string()), "uscc").wrong, strict=True):
        assert good
        assert uscc.validate(code) == code
    broken = [code[:4] + code[5] + code[4] + code[6:] for code in codes]
    found = ~cells.enterprise(pa.array(broken, pa.string()), "uscc").wrong
    assert found.tolist() == [stdnum.cn.uscc.is_valid(code) for code in broken]


CONTRACT = Dataset(
    role="bank",
    name="Loans",
    id_type="opaque",
    label="y",
    fields=(
        Field(name="a", type="number", minimum=-5, maximum=5),
        Field(name="c", type="category", levels=("p", "q")),
        Field(name="f", type="flag", missing="refused"),
    ),
)
CELL = st.one_of(st.sampled_from(["", "0", "1", "p", "q", "3.5", "9", "NA", "yes"]), TEXT)
ROW = st.tuples(st.one_of(st.integers(0, 30).map(str), TEXT), CELL, CELL, CELL, CELL)
GOOD = [("good-0", "0", "1", "p", "0"), ("good-1", "1", "", "q", "1")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(ROW, max_size=25), order=st.randoms(use_true_random=False))
def test_read_is_clean_plus_rejected_with_the_line_of_every_reject(tmp_path, rows, order):
    rows = [*rows, *GOOD]
    order.shuffle(rows)
    path = Path(tmp_path) / "t.csv"
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["id", "y", "a", "c", "f"])
    starts = []
    for row in rows:
        starts.append(text.getvalue().replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1)
        writer.writerow(row)
    path.write_bytes(text.getvalue().encode())
    table = ingest.read(path, CONTRACT, Mapping(path, "id", "y"), rejects="set-aside")
    report = table.source
    assert report.rows_read == len(rows) == report.rows_clean + report.rows_rejected
    assert table.rejects is not None
    assert len(table.rejects) == report.rows_rejected
    assert set(table.rejects["line"]) <= set(starts)
    assert len(set(table.rejects["line"])) == report.rows_rejected
    clean_lines = [line for line in starts if line not in set(table.rejects["line"])]
    clean_ids = sorted(
        cells.enterprise(
            pa.array([rows[starts.index(line)][0] for line in clean_lines]), "opaque"
        ).values.to_pylist()
    )
    assert table.frame.index.tolist() == clean_ids
    assert table.frame["a"].dropna().between(-5, 5).all()
    assert table.frame["f"].notna().all()
    assert set(np.unique(table.label)) == {0, 1}


SECRET = "Zhang-Wei-secret"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(column=st.integers(0, 4), twice=st.booleans())
def test_no_message_holds_a_cell(tmp_path, column, twice):
    row = ["good-2", "1", "1", "p", "1"]
    row[column] = SECRET
    path = Path(tmp_path) / "t.csv"
    lines = [
        ",".join(cells_of) for cells_of in [("id", "y", "a", "c", "f"), *GOOD, row, *([row] if twice else [])]
    ]
    path.write_text("\n".join(lines) + f"\n{SECRET},1\n")
    with pytest.raises(DataError) as caught:
        ingest.read(path, CONTRACT, Mapping(path, "id", "y"))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
