"""Ingest: every rule of the data contract with a table that keeps it and one that breaks it."""

import datetime
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from node import ingest
from node.ingest import Mapping
from protocol.contract import Dataset, Field
from protocol.errors import ConfigurationError, DataError

FIELDS = (
    Field(name="amount", type="number", minimum=0, maximum=1000),
    Field(name="grade", type="category", levels=("A", "B", "中")),
    Field(name="listed", type="flag"),
    Field(name="since", type="date"),
    Field(name="needed", type="number", missing="refused"),
)
BANK = Dataset(role="bank", name="Loans", id_type="opaque", label="default", fields=FIELDS, min_rows=2)
HEADER = "id,default,amount,grade,listed,since,needed"
GOOD = ("e1,0,1.5,A,0,2024-01-31,1", "e2,1,,B,是,,2", "e3,0,1000,中,no,2024/02/29,3")


def write(folder, *lines, header=HEADER, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(("\n".join([header, *lines]) + "\n").encode(encoding))
    return path


def read(path, dataset=BANK, mapping=None, **options):
    return ingest.read(path, dataset, mapping or Mapping(path, "id", "default"), **options)


def refused(path, *arguments, **options):
    with pytest.raises(DataError) as caught:
        read(path, *arguments, **options)
    return caught.value


def test_clean_table_has_the_contracts_columns_and_types(tmp_path):
    path = write(tmp_path, *(f"{line},whatever" for line in reversed(GOOD)), header=HEADER + ",extra")
    table = read(path)
    assert table.frame.index.tolist() == ["e1", "e2", "e3"]
    assert table.frame.columns.tolist() == list(BANK.names)
    assert table.label is not None
    assert table.label.tolist() == [0, 1, 0]
    assert table.label.dtype == np.int8
    assert table.frame["amount"].dtype == np.float64
    assert np.array_equal(table.frame["amount"], [1.5, np.nan, 1000], equal_nan=True)
    assert table.frame["grade"].cat.categories.tolist() == ["A", "B", "中"]
    assert table.frame["grade"].tolist() == ["A", "B", "中"]
    assert table.frame["listed"].tolist() == [0, 1, 0]
    assert table.frame["since"].tolist()[2] == pd.Timestamp("2024-02-29")
    assert table.rows == 3
    assert table.source.unused == 1
    assert (table.source.rows_read, table.source.rows_clean, table.source.rows_rejected) == (3, 3, 0)
    assert table.source.missing["amount"] == 1
    assert table.rejects is None


def test_mapping_names_other_columns(tmp_path):
    path = write(tmp_path, *GOOD, header="客户,违约,金额,grade,listed,since,needed", encoding="gb18030")
    table = read(path, mapping=Mapping(path, "客户", "违约", {"amount": "金额"}))
    assert table.rows == 3
    assert table.source.encoding == "gb18030"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_encodings_are_found_and_said_and_give_the_same_table(tmp_path, encoding):
    table = read(write(tmp_path, *GOOD, encoding=encoding))
    assert table.source.encoding == encoding
    assert table.digest == read(write(tmp_path, *GOOD, name="other.csv")).digest


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_found(tmp_path, delimiter):
    lines = [line.replace(",", delimiter) for line in GOOD]
    table = read(write(tmp_path, *lines, header=HEADER.replace(",", delimiter)))
    assert table.rows == 3


def test_parquet_gives_the_same_table_as_csv(tmp_path):
    path = tmp_path / "table.parquet"
    columns = {
        "id": ["e3", "e1", "e2"],
        "default": pa.array([False, False, True]),
        "amount": pa.array([1000, 1.5, None], pa.float64()),
        "grade": pa.array(["中", "A", "B"]).dictionary_encode(),
        "listed": pa.array([0, 0, 1], pa.int32()),
        "since": pa.array([datetime.date(2024, 2, 29), datetime.date(2024, 1, 31), None]),
        "needed": pa.array([3, 1, 2], pa.decimal128(9, 2)),
    }
    pq.write_table(pa.table(columns), path)
    table = read(path)
    assert table.source.format == "parquet"
    assert table.digest == read(write(tmp_path, *GOOD)).digest


def test_parquet_cell_of_a_wrong_type_is_refused_with_its_row(tmp_path):
    path = tmp_path / "table.parquet"
    columns = {
        "id": ["e1", "e2"],
        "default": [0, 1],
        "amount": pa.array([1.0, float("inf")]),
        "grade": ["A", "B"],
        "listed": [0, 2],
        "since": pa.array([1.5, 2.5]),
        "needed": ["1", "2"],
    }
    pq.write_table(pa.table(columns), path)
    error = refused(path)
    assert error.code == "DATA_WRONG_TYPE"
    assert "field amount: not of the declared type (DATA_WRONG_TYPE), 1 row: row 2" in error.message
    assert "field listed: not of the declared type (DATA_WRONG_TYPE), 1 row: row 2" in error.message
    assert "field since: not of the declared type (DATA_WRONG_TYPE), 2 rows: rows 1, 2" in error.message


def test_whole_float_ids_meet_text_ids_and_broken_ones_are_refused(tmp_path):
    partner = Dataset(
        role="government", name="Tax", id_type="opaque", fields=(Field(name="a", type="number"),)
    )
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": pa.array([7.0, 8.0]), "a": [1, 2]}), path)
    assert read(path, partner, Mapping(path, "id")).frame.index.tolist() == ["7", "8"]
    pq.write_table(pa.table({"id": pa.array([7.5, 8.0]), "a": [1, 2]}), path)
    assert refused(path, partner, Mapping(path, "id")).code == "DATA_INVALID_ID"


ROW_MISTAKES = [
    ("DATA_WRONG_TYPE", "amount", "e4,0,1 000,A,0,,1"),
    ("DATA_WRONG_TYPE", "amount", "e4,0,1e999,A,0,,1"),
    ("DATA_WRONG_TYPE", "amount", "e4,0,inf,A,0,,1"),
    ("DATA_WRONG_TYPE", "amount", 'e4,0,"1,000",A,0,,1'),
    ("DATA_WRONG_TYPE", "listed", "e4,0,1,A,2,,1"),
    ("DATA_WRONG_TYPE", "since", "e4,0,1,A,0,2024-02-30,1"),
    ("DATA_WRONG_TYPE", "since", "e4,0,1,A,0,31.01.2024,1"),
    ("DATA_OUT_OF_RANGE", "amount", "e4,0,-0.01,A,0,,1"),
    ("DATA_OUT_OF_RANGE", "amount", "e4,0,1000.5,A,0,,1"),
    ("DATA_UNDECLARED_LEVEL", "grade", "e4,0,1,Z9,0,,1"),
    ("DATA_UNDECLARED_LEVEL", "grade", "e4,0,1,a,0,,1"),
    ("DATA_MISSING_VALUE", "needed", "e4,0,1,A,0,,"),
    ("DATA_MISSING_VALUE", "needed", "e4,0,1,A,0,,N/A"),
    ("DATA_MISSING_VALUE", "default", "e4,,1,A,0,,1"),
    ("DATA_MISSING_VALUE", "id", " ,0,1,A,0,,1"),
    ("DATA_LABEL", "default", "e4,2,1,A,0,,1"),
    ("DATA_LABEL", "default", "e4,0.5,1,A,0,,1"),
    ("DATA_LABEL", "default", "e4,yes,1,A,0,,1"),
    ("DATA_INVALID_ID", "id", "e\x074,0,1,A,0,,1"),
    ("DATA_INVALID_ID", "id", f"{'e' * 129},0,1,A,0,,1"),
]


@pytest.mark.parametrize(("code", "field", "line"), ROW_MISTAKES)
def test_a_wrong_row_is_refused_with_file_line_and_field(tmp_path, code, field, line):
    error = refused(write(tmp_path, *GOOD, line))
    assert error.code == code
    assert error.message.startswith('table.csv breaks the data contract\'s "Loans" (4 rows read, 1 bad):\n')
    assert f"field {field}: " in error.message
    assert error.message.endswith("1 row: line 5")
    assert error.hint


@pytest.mark.parametrize(("code", "field", "line"), ROW_MISTAKES)
def test_a_wrong_row_is_set_aside_and_the_rest_is_clean(tmp_path, code, field, line):
    table = read(write(tmp_path, *GOOD[:2], line, GOOD[2]), rejects="set-aside")
    assert table.digest == read(write(tmp_path, *GOOD)).digest
    assert (table.source.rows_read, table.source.rows_clean, table.source.rows_rejected) == (4, 3, 1)
    assert [(problem.code, problem.field, problem.count) for problem in table.source.problems] == [
        (code, field, 1)
    ]
    assert table.rejects is not None
    assert table.rejects["line"].tolist() == [4]
    assert code in table.rejects["problems"][0]
    assert field in table.rejects["problems"][0]


def test_duplicate_ids_are_all_rejected(tmp_path):
    path = write(tmp_path, *GOOD, " e2 ,0,5,A,1,,9", "e5,1,5,A,1,,9")
    error = refused(path)
    assert error.code == "DATA_DUPLICATE_ID"
    assert "2 rows: lines 3, 5" in error.message
    table = read(path, rejects="set-aside")
    assert table.frame.index.tolist() == ["e1", "e3", "e5"]
    assert table.rejects is not None
    assert table.rejects["line"].tolist() == [3, 5]


def test_missing_ids_are_not_duplicates(tmp_path):
    error = refused(write(tmp_path, *GOOD, ",0,1,A,0,,1", ",0,1,A,0,,1"))
    assert error.code == "DATA_MISSING_VALUE"


CODES = ("91110000600037341L", "91320583MA1ABCDE2E")


def test_credit_codes_are_checked_and_brought_into_one_form(tmp_path):
    tax = Dataset(role="government", name="Tax", id_type="uscc", fields=(Field(name="a", type="number"),))
    good = write(tmp_path, f"{CODES[0].lower()},1", f" {CODES[1][:9]} {CODES[1][9:]},2", header="id,a")
    table = read(good, tax, Mapping(good, "id"))
    assert table.frame.index.tolist() == sorted(CODES)
    bad = write(tmp_path, f"{CODES[0]},1", f"{CODES[1][:-1]}0,2", "123,3", header="id,a")
    error = refused(bad, tax, Mapping(bad, "id"))
    assert error.code == "DATA_INVALID_ID"
    assert "2 rows: lines 3, 4" in error.message
    same = write(tmp_path, f"{CODES[0]},1", f"{CODES[0].lower()},2", header="id,a")
    assert refused(same, tax, Mapping(same, "id")).code == "DATA_DUPLICATE_ID"


def test_lines_are_counted_as_a_person_sees_them(tmp_path):
    lines = ('"e1",0,"1",A,0,,1', "", 'e2,1,2,"B\n",0,,1', "e3,1,x,A,0,,1", "e4,1", "e5,0,1,A,0,,1,9")
    error = refused(write(tmp_path, *lines))
    assert "field amount: not of the declared type (DATA_WRONG_TYPE), 1 row: line 6" in error.message
    assert "too few or too many cells (DATA_BROKEN_ROW), 2 rows: lines 7, 8" in error.message
    assert error.code == "DATA_REFUSED"


def test_broken_rows_reconcile(tmp_path):
    table = read(write(tmp_path, *GOOD, "e4,1", "e5,0,x,A,0,,1"), rejects="set-aside")
    assert (table.source.rows_read, table.source.rows_clean, table.source.rows_rejected) == (5, 3, 2)
    assert table.rejects is not None
    assert table.rejects["line"].tolist() == [5, 6]
    only_broken = read(write(tmp_path, *GOOD, "e4,1"), rejects="set-aside")
    assert only_broken.rejects is not None
    assert only_broken.rejects["line"].tolist() == [5]


def test_one_screen_for_many_mistakes(tmp_path):
    lines = [f"s{i},{i % 3},x{i},Q,7,never," for i in range(500)]
    error = refused(write(tmp_path, *lines))
    assert len(str(error).splitlines()) < 24
    assert (
        "500 rows: lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, …"
        in error.message
    )
    for code in ("DATA_LABEL", "DATA_WRONG_TYPE", "DATA_UNDECLARED_LEVEL", "DATA_MISSING_VALUE"):
        assert code in error.message


def test_wide_table_of_mistakes_still_fits_a_screen(tmp_path):
    fields = tuple(Field(name=f"f{i}", type="number") for i in range(60))
    wide = Dataset(role="government", name="Wide", id_type="opaque", fields=fields)
    path = write(tmp_path, "a" + ",x" * 60, header="id," + ",".join(wide.names))
    assert "and 40 more kinds of mistakes" in refused(path, wide, Mapping(path, "id")).message
    path = write(tmp_path, "a", header="id")
    assert "and 40 more" in refused(path, wide, Mapping(path, "id")).message


def test_missing_column_is_named_with_the_nearest(tmp_path):
    path = write(tmp_path, *GOOD, header="id,default,Amount,grade,listed,since,nedeed")
    error = refused(path)
    assert error.code == "DATA_MISSING_COLUMN"
    assert "field amount: the column 'amount' is missing" in error.message
    assert "field needed: the column 'needed' is missing" in error.message
    assert "Did you mean Amount?" in error.hint
    assert "Did you mean nedeed?" in error.hint
    error = refused(write(tmp_path, *GOOD), BANK, Mapping(tmp_path / "t", "ID", "defualt"))
    assert "field id: the column 'ID' is missing" in error.message
    assert "Did you mean default?" in error.hint


def test_column_that_stands_there_twice_is_refused(tmp_path):
    path = write(tmp_path, *(line + ",1" for line in GOOD), header=HEADER + ",amount")
    error = refused(path)
    assert error.code == "DATA_AMBIGUOUS_COLUMN"
    twice_unused = write(tmp_path, *(line + ",1,2" for line in GOOD), header=HEADER + ",note,note")
    assert read(twice_unused).rows == 3


def test_mapping_mistakes_are_configuration_errors(tmp_path):
    path = write(tmp_path, *GOOD)
    with pytest.raises(ConfigurationError) as caught:
        read(path, mapping=Mapping(path, "id", "default", {"amuont": "amount"}))
    assert caught.value.code == "MAPPING_UNKNOWN_FIELD"
    assert caught.value.hint == "Did you mean amount?"
    with pytest.raises(ConfigurationError) as caught:
        read(path, mapping=Mapping(path, "id"))
    assert caught.value.code == "MAPPING_NO_LABEL"


def test_too_few_rows(tmp_path):
    many = BANK.model_copy(update={"min_rows": 4})
    assert "3 clean rows, and the contract wants 4" in refused(write(tmp_path, *GOOD), many).message
    assert read(write(tmp_path, *GOOD, "e4,1,1,A,0,,1"), many).rows == 4
    aside = refused(write(tmp_path, *GOOD, "e4,1,x,A,0,,1"), many, rejects="set-aside")
    assert aside.code == "DATA_REFUSED"
    assert "DATA_TOO_FEW_ROWS" in aside.message


def test_header_without_rows_is_too_few(tmp_path):
    assert refused(write(tmp_path)).code == "DATA_TOO_FEW_ROWS"
    (tmp_path / "bare.csv").write_text(HEADER)
    assert refused(tmp_path / "bare.csv").code == "DATA_TOO_FEW_ROWS"


def test_one_class_only(tmp_path):
    error = refused(write(tmp_path, GOOD[0], GOOD[2]))
    assert error.code == "DATA_ONE_CLASS"
    assert "field default" in error.message
    aside = refused(write(tmp_path, GOOD[0], GOOD[2], "e9,1,x,A,0,,1"), rejects="set-aside")
    assert "DATA_ONE_CLASS" in aside.message


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "DATA_FILE_EMPTY"),
        (b" \n\n", "DATA_FILE_EMPTY"),
        (b"PK\x03\x04rest", "DATA_FILE_BINARY"),
        (b"id,default\n\0\0\0", "DATA_FILE_BINARY"),
        ("id,a\n1,2\n".encode("utf-16"), "DATA_FILE_BINARY"),
        (b"PAR1 but not parquet", "DATA_FILE_UNREADABLE"),
        (HEADER.encode() + b"\ne1,0,1,\xff\xff,0,,1\n", "DATA_ENCODING"),
        (HEADER.encode() + b'\ne1,0,"1,A,0,,1\ne2,1,1,A,0,,1\n', "DATA_FILE_UNREADABLE"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, code):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    error = refused(path)
    assert error.code == code
    assert error.message.startswith("table.csv: ")
    assert error.hint


def test_an_unclosed_quotation_mark_swallows_no_rows(tmp_path):
    lines = [f'{line},"fine"' for line in GOOD]
    path = write(tmp_path, *lines[:2], f'{GOOD[2]},"open', "e4,0,1,A,0,,1,note", header=HEADER + ",note")
    error = refused(path, rejects="set-aside")
    assert error.code == "DATA_FILE_UNREADABLE"
    assert "line 4" in error.message
    inch = write(tmp_path, *(f'{line},5" pipe' for line in GOOD), header=HEADER + ",note")
    assert read(inch).rows == 3


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    assert refused(tmp_path / "nothing.csv").code == "DATA_FILE_UNREADABLE"
    assert refused(tmp_path).code == "DATA_FILE_UNREADABLE"


def test_wrong_encoding_names_the_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes((HEADER + "\n" + GOOD[0] + "\n").encode() + b"e2,1,1,\xff\xff,0,,1\n")
    assert "near line 3" in refused(path).message


def test_age_is_bounded_where_the_contract_says_so(tmp_path):
    path = write(tmp_path, *GOOD)
    fresh = BANK.model_copy(update={"max_age_days": 30})
    today = datetime.date(2026, 3, 31)

    def dated(day):
        return Mapping(path, "id", "default", as_of=day)

    assert read(path, fresh, dated(datetime.date(2026, 3, 1)), today=today).rows == 3
    stale = refused(path, fresh, dated(datetime.date(2026, 2, 28)), today=today)
    assert stale.code == "DATA_STALE"
    assert "31 days ago; the contract allows 30" in stale.message
    assert refused(path, fresh, dated(datetime.date(2026, 4, 1)), today=today).code == "DATA_STALE"
    assert refused(path, fresh, today=today).code == "DATA_AGE_UNKNOWN"
    assert read(path, BANK, dated(datetime.date(1999, 1, 1)), today=today).rows == 3


def test_a_wholly_empty_field_is_visible(tmp_path):
    table = read(write(tmp_path, "e1,0,,A,0,,1", "e2,1,,B,0,,1"))
    assert table.source.empty_fields == ("amount", "since")
    assert table.frame["amount"].isna().all()


def test_a_declared_level_wins_over_a_spelling_of_missing(tmp_path):
    country = Dataset(
        role="government",
        name="Trade",
        id_type="opaque",
        fields=(Field(name="c", type="category", levels=("NA", "CN")), Field(name="n", type="number")),
    )
    path = write(tmp_path, "1,NA,NA", "2,CN,1", "3,null,2", header="id,c,n")
    table = read(path, country, Mapping(path, "id"))
    assert table.frame["c"].isna().tolist() == [False, False, True]
    assert table.frame["n"].isna().tolist() == [True, False, False]


def test_a_field_may_be_called_id(tmp_path):
    odd = Dataset(
        role="government",
        name="Odd",
        id_type="opaque",
        fields=(Field(name="id", type="number", missing="refused"),),
    )
    path = write(tmp_path, "a,1", ",2", header="key,id")
    assert refused(path, odd, Mapping(path, "key")).code == "DATA_MISSING_VALUE"
    assert read(path, odd, Mapping(path, "key"), rejects="set-aside").frame["id"].tolist() == [1]


def test_rejects_are_written_for_the_owner_only(tmp_path):
    table = read(write(tmp_path, *GOOD, "e4,0,x,A,0,,1"), rejects="set-aside")
    out = tmp_path / "rejects.csv"
    out.touch(0o644)
    ingest.write_rejects(table, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    kept = pd.read_csv(out, dtype="str")
    assert kept[["line", "id", "amount"]].to_numpy().tolist() == [["5", "e4", "x"]]
    with pytest.raises(ConfigurationError, match="without setting rejects aside"):
        ingest.write_rejects(read(write(tmp_path, *GOOD)), out)


def test_digest_changes_with_content_only(tmp_path):
    digest = read(write(tmp_path, *GOOD)).digest
    assert read(write(tmp_path, *reversed(GOOD))).digest == digest
    for line in ("e1,1,1.5,A,0,2024-01-31,1", "e1,0,1.6,A,0,2024-01-31,1", "e1,0,1.5,B,0,2024-01-31,1"):
        assert read(write(tmp_path, line, *GOOD[1:])).digest != digest
