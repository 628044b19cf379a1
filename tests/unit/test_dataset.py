"""The data directory: its manifest, the inferred contract, and each party's own file."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from concordat import dataset
from concordat.inference import slug
from node import ingest
from protocol.errors import ConfigurationError, DataError

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "tests" / "unit" / "manifests"
SCHEMA = ROOT / "docs" / "schemas" / "dataset.schema.json"

HEAD = """
version = 1
name = "Loans"
id_type = "opaque"
min_rows = 2
"""
BANK = """
[[parties]]
name = "bank-1"
role = "bank"
file = "loans.csv"
id = "Client"
label = "Outcome"
positive = ["bad"]
negative = ["good"]
"""
SHOP = """
[[parties]]
name = "shop"
role = "e-commerce"
file = "shops.csv"
id = "id"
columns = ["sales"]
"""
LOANS = """Client,Outcome,Amount (CNY),Town,Secured,Opened,Lender
1,bad,10.5,x,yes,2024-01-01,a
2,good,,y,no,1970-01-02,b
3,good,7,x,,2024-03-01,c
4,bad,8,,yes,,a
"""
SHOPS = "id,sales,secret\n1,5,x\n2,6,y\n9,7,z\n"


def folder(tmp_path, manifest=HEAD + BANK + SHOP, loans=LOANS, shops=SHOPS):
    (tmp_path / "dataset.toml").write_text(manifest, encoding="utf-8")
    (tmp_path / "loans.csv").write_text(loans, encoding="utf-8")
    (tmp_path / "shops.csv").write_text(shops, encoding="utf-8")
    return tmp_path


def refused(action, kind=ConfigurationError):
    with pytest.raises(kind) as caught:
        action()
    return caught.value


def test_contract_is_inferred_and_said(tmp_path):
    data = dataset.load(folder(tmp_path))
    contract = data.contract()
    bank = contract.dataset_for("bank")
    assert {field.name: field.type for field in bank.fields} == {
        "amount_cny": "number",
        "town": "category",
        "secured": "flag",
        "opened": "number",
        "lender": "category",
    }
    assert bank.label == "outcome"
    assert bank.field("town").levels == ("x", "y")
    assert bank.field("opened").unit == "days since 1970-01-01"
    assert bank.field("amount_cny").minimum is None
    assert bank.field("amount_cny").description_en == "Column Amount (CNY)"
    assert contract.dataset_for("e-commerce").names == ("sales",)
    assert "bank: town: category (inferred, 2 levels, 25.0% empty)" in data.notes
    assert "bank: opened: number (inferred, days since 1970-01-01, 25.0% empty)" in data.notes


def test_each_party_gets_its_own_columns_only_and_they_pass_ingest(tmp_path):
    data = dataset.load(folder(tmp_path))
    contract = data.contract()
    mapping = data.materialise("bank-1", tmp_path / "out" / "bank-1")
    table = ingest.read(mapping.path, contract.dataset_for("bank"), mapping)
    assert table.frame.index.tolist() == ["1", "2", "3", "4"]
    assert table.label is not None
    assert table.label.tolist() == [1, 0, 0, 1]
    assert table.frame["opened"].tolist()[:2] == [19723, 1]
    assert table.frame["secured"].tolist()[:2] == [1, 0]
    assert table.digest == data.table("bank-1").digest
    shop = data.materialise(data.party("shop"), tmp_path / "out" / "shop")
    assert pq.read_schema(shop.path).names == ["enterprise_id", "sales"]
    assert shop.label is None
    assert [path.name for path in (tmp_path / "out" / "shop").iterdir()] == ["shop.parquet"]
    assert ingest.read(shop.path, contract.dataset_for("e-commerce"), shop).rows == 3


def test_an_unlisted_outcome_is_refused_with_the_original_line(tmp_path):
    for outcome in ("unsure", "1", "0"):
        data = dataset.load(folder(tmp_path, loans=LOANS + f"5,{outcome},1,x,no,,a\n"))
        error = refused(lambda data=data: data.materialise("bank-1", tmp_path / "out"), DataError)
        assert error.code == "DATA_LABEL"
        assert error.message.startswith("loans.csv ")
        assert error.message.endswith("line 6")


def test_without_negative_values_all_others_are_no_default(tmp_path):
    manifest = (HEAD + BANK).replace('negative = ["good"]\n', "")
    data = dataset.load(folder(tmp_path, manifest, LOANS + "5,unsure,1,x,no,,a\n"))
    assert data.table("bank-1").label.tolist() == [1, 0, 0, 1, 0]
    data = dataset.load(folder(tmp_path, manifest, LOANS + "5,,1,x,no,,a\n"))
    assert refused(lambda: data.table("bank-1"), DataError).code == "DATA_MISSING_VALUE"


def test_a_declared_number_with_a_wrong_cell_names_the_original_line(tmp_path):
    rule = "[fields.bank.Opened]\ntype = 'number'\n"
    data = dataset.load(folder(tmp_path, HEAD + BANK + rule, LOANS + "5,good,1,x,no,soon,a\n"))
    error = refused(lambda: data.table("bank-1"), DataError)
    assert error.code == "DATA_WRONG_TYPE"
    assert "field opened: not of the declared type (DATA_WRONG_TYPE), 1 row: line 6" in error.message


def three_banks(rows):
    banks = [
        BANK.replace("bank-1", f"bank-{part}") + f"rows = {rows.format(part=part)}\n" for part in (1, 2, 3)
    ]
    return HEAD + "".join(banks)


MANY = "Client,Outcome,Lender\n" + "".join(
    f"{i},{'bad' if i % 4 else 'good'},{'abc'[i % 3]}\n" for i in range(300)
)


@pytest.mark.parametrize("by", ["hash", "position"])
def test_rows_are_shared_out_without_loss_or_overlap(tmp_path, by):
    data = dataset.load(
        folder(tmp_path, three_banks(f'{{{{ part = {{part}}, of = 3, by = "{by}" }}}}'), MANY)
    )
    parts = [set(data.table(party).frame.index) for party in data.parties]
    assert set.union(*parts) == {str(i) for i in range(300)}
    assert sum(len(part) for part in parts) == 300
    assert min(len(part) for part in parts) > 60


def test_split_by_hash_keeps_to_the_id_and_another_salt_gives_another(tmp_path):
    manifest = three_banks("{{ part = {part}, of = 3 }}")
    first = dataset.load(folder(tmp_path, manifest, MANY)).table("bank-2").frame.index
    head, *lines = MANY.splitlines()
    turned = "\n".join([head, *reversed(lines)]) + "\n"
    assert dataset.load(folder(tmp_path, manifest, turned)).table("bank-2").frame.index.equals(first)
    salted = dataset.load(tmp_path, salt="seed-2").table("bank-2").frame.index
    assert not salted.equals(first)


def test_rows_by_value_make_banks_of_a_different_mix(tmp_path):
    manifest = HEAD + BANK + "rows = { column = 'Lender', values = ['a', 'c'] }\n"
    assert set(dataset.load(folder(tmp_path, manifest, MANY)).table("bank-1").frame["lender"]) == {"a", "c"}


def test_most_frequent_levels_prefix_and_quotient(tmp_path):
    rules = """
[fields.bank.Lender]
most_frequent = 2
[fields.bank.Town]
prefix = 1
name = "area"
[fields.bank.per_unit]
of = "Amount (CNY)"
over = "Units"
"""
    loans = "Client,Outcome,Amount (CNY),Units,Town,Lender\n1,bad,10,4,xa,a\n2,good,,1,xb,a\n"
    loans += "3,bad,1,0,,b\n4,good,6,3,y,c\n"
    data = dataset.load(folder(tmp_path, HEAD + BANK + rules, loans + "5,good,6,3,y,b\n"))
    table = data.table("bank-1")
    assert table.frame["lender"].tolist() == ["a", "a", "b", "other", "b"]
    assert table.frame["area"].tolist()[:2] == ["x", "x"]
    assert pd.isna(table.frame["area"].iloc[2])
    assert np.array_equal(table.frame["per_unit"], [2.5, np.nan, np.nan, 2, 2], equal_nan=True)
    assert "bank: per_unit: number (derived: Amount (CNY) / Units)" in data.notes


def test_a_declared_level_list_refuses_others(tmp_path):
    rule = "[fields.bank.Town]\nlevels = ['x']\n"
    error = refused(lambda: dataset.load(folder(tmp_path, HEAD + BANK + rule)).table("bank-1"), DataError)
    assert error.code == "DATA_UNDECLARED_LEVEL"


def test_codes_that_turn_into_text_late_are_seen_as_levels(tmp_path):
    loans = (
        "Client,Outcome,Code\n"
        + "".join(f"{i},{'bad' if i % 2 else 'good'},{i % 3}\n" for i in range(9))
        + "9,bad,x\n"
    )
    data = dataset.load(folder(tmp_path, HEAD + BANK, loans))
    assert data.contract().dataset_for("bank").field("code").levels == ("0", "1", "2", "x")


@pytest.mark.parametrize(
    ("change", "place", "hint"),
    [
        (("[[parties]]\nname", "[[partys]]\nname"), "partys: unknown key", "Did you mean parties?"),
        (("label =", "lable ="), "parties.0.lable: unknown key", "Did you mean label?"),
        (('role = "bank"', 'role = "banker"'), "parties.0.role", ""),
        (('id_type = "opaque"', 'id_type = "taxid"'), "id_type", ""),
        (('label = "Outcome"\n', ""), "a bank names its label", ""),
        (('role = "bank"', 'role = "government"'), "a partner has none", ""),
        (('name = "shop"', 'name = "bank-1"'), "two parties have the same name", ""),
        (("version = 1", "version = 2"), "version", ""),
    ],
)
def test_a_typo_in_the_manifest_is_told_with_file_key_and_nearest(tmp_path, change, place, hint):
    manifest = HEAD + BANK + SHOP
    if place.startswith("partys"):
        manifest = manifest.replace("[[parties]]", "[[partys]]")
    error = refused(lambda: dataset.load(folder(tmp_path, manifest.replace(*change))))
    assert error.code == "DATASET_INVALID"
    assert error.message.startswith("dataset.toml is not valid:")
    assert place in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{ part = 4, of = 3 }", "part is above of"),
        ("{ part = 0, of = 3 }", "greater than"),
        ("{ colum = 'x' }", "rows"),
    ],
)
def test_a_wrong_split_is_refused(tmp_path, rows, message):
    error = refused(lambda: dataset.load(folder(tmp_path, HEAD + BANK + f"rows = {rows}\n")))
    assert message in error.message


def test_a_manifest_without_a_bank_is_refused(tmp_path):
    assert "there is no bank" in refused(lambda: dataset.load(folder(tmp_path, HEAD + SHOP))).message


def test_broken_toml_names_the_line(tmp_path):
    error = refused(lambda: dataset.load(folder(tmp_path, HEAD + "oops\n")))
    assert error.code == "DATASET_INVALID"
    assert "line 6" in error.message


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    assert refused(lambda: dataset.load(tmp_path)).code == "DATASET_UNREADABLE"


@pytest.mark.parametrize(
    ("change", "where", "hint"),
    [
        (
            ('id = "Client"', 'id = "Clint"'),
            "id: loans.csv doesn't have the column 'Clint'",
            "Did you mean Client?",
        ),
        (('label = "Outcome"', 'label = "outcom"'), "label", "Did you mean Outcome?"),
        (('columns = ["sales"]', 'columns = ["sale"]'), "parties.1 (shop), columns", "Did you mean sales?"),
        (('columns = ["sales"]', 'drop = ["secrets"]'), "parties.1 (shop), drop", "Did you mean secret?"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_the_nearest(tmp_path, change, where, hint):
    data = dataset.load(folder(tmp_path, (HEAD + BANK + SHOP).replace(*change)))
    error = refused(data.contract)
    assert error.code == "DATASET_UNKNOWN_COLUMN"
    assert where in error.message
    assert error.message.startswith("dataset.toml, parties.")
    assert error.hint == hint


def test_rules_for_a_column_that_is_not_there_are_refused(tmp_path):
    data = dataset.load(folder(tmp_path, HEAD + BANK + "[fields.bank.Twon]\nprefix = 1\n"))
    error = refused(data.contract)
    assert "fields.bank.Twon" in error.message
    assert error.hint == "Did you mean Town?"


def test_a_missing_table_file_is_refused(tmp_path):
    data = dataset.load(folder(tmp_path, HEAD + BANK.replace("loans.csv", "laons.csv")))
    assert refused(data.contract, DataError).code == "DATA_FILE_UNREADABLE"


def test_banks_with_different_columns_are_refused(tmp_path):
    second = BANK.replace("bank-1", "bank-2") + 'drop = ["Town"]\n'
    error = refused(dataset.load(folder(tmp_path, HEAD + BANK + second)).contract)
    assert error.code == "DATASET_COLUMNS_DIFFER"
    assert "'Town'" in error.message


def test_text_with_too_many_levels_is_not_guessed(tmp_path):
    loans = "Client,Outcome,Name\n" + "".join(f"{i},{'bad' if i % 2 else 'good'},n{i}\n" for i in range(100))
    error = refused(dataset.load(folder(tmp_path, HEAD + BANK, loans)).contract)
    assert error.code == "DATASET_TOO_MANY_LEVELS"
    assert "'Name'" in error.message
    assert "n1" not in str(error)


def test_an_empty_column_is_not_guessed(tmp_path):
    error = refused(
        dataset.load(folder(tmp_path, HEAD + BANK, "Client,Outcome,a,b\n1,bad,,1\n2,good,,2\n")).contract
    )
    assert error.code == "DATASET_EMPTY_COLUMN"


def test_two_columns_of_one_name_are_refused(tmp_path):
    error = refused(
        dataset.load(
            folder(tmp_path, HEAD + BANK, "Client,Outcome,A b,a_b\n1,bad,1,1\n2,good,2,2\n")
        ).contract
    )
    assert error.code == "DATASET_NAME_TWICE"


def test_an_unknown_party_is_refused(tmp_path):
    assert refused(lambda: dataset.load(folder(tmp_path)).party("bank1")).hint == "Did you mean bank-1?"


@pytest.mark.parametrize(
    ("column", "name"),
    [("Loan Amount", "loan_amount"), ("2024", "c_2024"), ("x0", "x0"), ("金额", "u91d1_989d")],
)
def test_contract_names_from_column_names(column, name):
    assert slug(column) == name


def test_given_contract_is_used_and_checked(tmp_path):
    data = dataset.load(folder(tmp_path))
    contract = data.contract()
    (tmp_path / "contract.json").write_text(contract.model_dump_json(), encoding="utf-8")
    given = dataset.load(folder(tmp_path, HEAD + 'contract = "contract.json"\n' + BANK + SHOP))
    assert given.contract().digest == contract.digest
    assert given.table("bank-1").digest == data.table("bank-1").digest
    other = HEAD.replace("opaque", "uscc") + 'contract = "contract.json"\n' + BANK + SHOP
    assert refused(dataset.load(folder(tmp_path, other)).contract).code == "DATASET_ID_TYPE"
    (tmp_path / "contract.json").write_text("{}")
    assert refused(
        dataset.load(folder(tmp_path, HEAD + 'contract = "contract.json"\n' + BANK)).contract
    ).code == ("CONTRACT_INVALID")


def test_published_schema_is_current_and_knows_the_fixtures():
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == json.loads(json.dumps(dataset.schema())), "regenerate docs/schemas"
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(published)
    for path in sorted(MANIFESTS.glob("*.toml")):
        manifest = tomllib.loads(path.read_text(encoding="utf-8"))
        validator.validate(manifest)
        assert not validator.is_valid(manifest | {"typo": 1})


def test_the_guide_shows_the_fixtures():
    guide = (ROOT / "docs" / "demo-data.md").read_text(encoding="utf-8")
    for path in sorted(MANIFESTS.glob("*.toml")):
        assert path.read_text(encoding="utf-8").strip() in guide, (
            f"docs/demo-data.md doesn't show {path.name}"
        )


def real(tmp_path, manifest):
    source = os.environ.get("CONCORDAT_DATA") or None
    if not source:
        pytest.skip("CONCORDAT_DATA is not set: the real data sets are not here")
    shutil.copy(MANIFESTS / manifest, tmp_path / "dataset.toml")
    data = dataset.load(tmp_path)
    for file in {party.file for party in data.parties}:
        (tmp_path / file).symlink_to(Path(source) / file)
    return data


@pytest.mark.data
def test_default_credit_becomes_three_banks_and_two_partners(tmp_path):
    data = real(tmp_path, "default-credit.toml")
    tables = {party.name: data.table(party) for party in data.parties}
    banks = [tables[f"bank-{i}"] for i in (1, 2, 3)]
    assert sum(bank.rows for bank in banks) == 30_000
    assert sum(int(bank.label.sum()) for bank in banks) == 6_636
    assert not set(banks[0].frame.index) & set(banks[1].frame.index)
    assert tables["shop"].frame.columns.tolist() == ["x0", "x1", "x2", "x3", "x4"]
    assert tables["bureau"].frame.columns.tolist() == ["x5", "x6", "x7", "x8", "x9"]
    assert set(banks[0].frame.index) <= set(tables["shop"].frame.index)
    for party in data.parties:
        mapping = data.materialise(party, tmp_path / "out" / party.name)
        again = ingest.read(mapping.path, data.contract().dataset_for(party.role), mapping)
        assert again.digest == tables[party.name].digest


@pytest.mark.data
def test_sba_becomes_three_banks_and_a_registry_without_leaks(tmp_path):
    data = real(tmp_path, "sba.toml")
    tables = {party.name: data.table(party) for party in data.parties}
    banks = [tables[f"bank-{i}"] for i in (1, 2, 3)]
    assert sum(bank.rows for bank in banks) == 30_000
    assert sum(int(bank.label.sum()) for bank in banks) == 15_000
    names = {name for table in tables.values() for name in table.frame.columns}
    leaks = {
        "term",
        "disbursement_date",
        "chg_off_date",
        "chg_off_prin_gr",
        "balance_gross",
        "mis_status",
        "name",
    }
    assert not names & leaks
    assert len(data.contract().dataset_for("bank").field("bank").levels) == 41
    ratio = banks[0].frame["guaranteed_ratio"]
    assert ratio.between(0, 1).all()
    assert tables["registry"].rows == 30_000


def test_dataset_needs_no_party_code():
    code = (
        "import sys, concordat.dataset;"
        "print([m for m in ('flwr', 'torch', 'nats', 'coordinator', 'bank_node', 'ledger') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parquet_dates_become_days(tmp_path):
    folder(tmp_path, HEAD + BANK.replace("loans.csv", "loans.parquet"))
    columns = {
        "Client": pa.array([1.0, 2.0, 3.0]),
        "Outcome": ["bad", "good", "good"],
        "Opened": pa.array(pd.to_datetime(["1970-01-02", None, "2024-01-01"])),
    }
    pq.write_table(pa.table(columns), tmp_path / "loans.parquet")
    table = dataset.load(tmp_path).table("bank-1")
    assert np.array_equal(table.frame["opened"], [1, np.nan, 19723], equal_nan=True)
