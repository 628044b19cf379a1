"""The data contract: what it accepts, what it refuses, and its digest."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import stdnum.cn.uscc
from pydantic import ValidationError

from protocol import canonical, contract, uscc
from protocol.contract import DataContract, Dataset, Field
from protocol.errors import ConfigurationError, DataError

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "data-contract.schema.json"


def bank(**changes):
    given = {
        "role": "bank",
        "name": "Loans",
        "id_type": "uscc",
        "label": "default",
        "fields": [{"name": "balance", "type": "number", "minimum": 0, "dimension": "account"}],
    }
    return given | changes


def document(**changes):
    given = {
        "consortium": "Test",
        "name": "Default within a year",
        "datasets": [
            bank(),
            {
                "role": "government",
                "name": "Tax",
                "id_type": "uscc",
                "fields": [{"name": "grade", "type": "category", "levels": ["A", "B"], "dimension": "tax"}],
            },
        ],
    }
    return given | changes


def test_contract_is_read_and_asked():
    agreed = contract.parse(json.dumps(document()))
    assert agreed.dataset_for("bank").names == ("balance",)
    assert agreed.dataset_for("bank").field("balance").minimum == 0
    assert agreed.dataset_for("government").label is None
    assert agreed.by_dimension() == {"account": (("bank", "balance"),), "tax": (("government", "grade"),)}


def test_contract_has_no_dataset_for_an_unknown_role():
    agreed = DataContract.model_validate(document())
    with pytest.raises(ConfigurationError, match="no dataset for the role 'e-commerce'") as caught:
        agreed.dataset_for("e-commerce")
    assert caught.value.code == "CONTRACT_NO_ROLE"
    assert "government" in caught.value.hint


def test_unknown_field_is_answered_with_the_nearest():
    with pytest.raises(ConfigurationError) as caught:
        DataContract.model_validate(document()).dataset_for("bank").field("balence")
    assert caught.value.code == "CONTRACT_UNKNOWN_FIELD"
    assert caught.value.hint == "Did you mean balance?"


def test_digest_is_that_of_the_canonical_document_and_changes_with_it():
    agreed = DataContract.model_validate(document())
    assert agreed.digest == canonical.digest("data-contract", agreed.document())
    assert contract.parse(agreed.model_dump_json()).digest == agreed.digest
    assert contract.parse(canonical.encode(agreed.document())).digest == agreed.digest
    spelled_out = DataContract.model_validate(document(version=1))
    assert spelled_out.digest == agreed.digest
    assert DataContract.model_validate(document(version=2)).digest != agreed.digest


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"type": "category"}, "declares levels"),
        ({"type": "number", "levels": ["a"]}, "declares levels"),
        ({"type": "category", "levels": ["a", "a"]}, "declared twice"),
        ({"type": "category", "levels": ["a "]}, "begins or ends"),
        ({"type": "flag", "minimum": 0}, "only a number"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "above the maximum"),
        ({"type": "number", "minimum": float("nan")}, "finite"),
        ({"type": "number", "name": "Balance"}, "pattern"),
        ({"type": "number", "colour": "red"}, "not permitted"),
        ({"type": "decimal"}, "number"),
    ],
)
def test_incoherent_field_is_refused(field, message):
    with pytest.raises(ValidationError, match=message):
        Field.model_validate({"name": "x"} | field)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "names its label"),
        ({"role": "government"}, "a partner's has none"),
        ({"label": "balance"}, "declared twice"),
        ({"fields": [{"name": "a", "type": "flag"}] * 2}, "declared twice"),
        ({"fields": []}, "at least 1"),
        ({"min_rows": 0}, "greater than or equal"),
    ],
)
def test_incoherent_dataset_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Dataset.model_validate(bank(**changes))


def test_two_datasets_of_one_role_are_refused():
    with pytest.raises(ValidationError, match="two datasets"):
        DataContract.model_validate(document(datasets=[bank(), bank()]))


def test_every_mistake_is_told_at_once_with_the_nearest_key_and_no_value():
    wrong = document(nmae="secret-value", datasets=[bank(lable="secret-value")])
    del wrong["name"]
    with pytest.raises(ConfigurationError) as caught:
        contract.parse(json.dumps(wrong), "contract.json")
    assert caught.value.code == "CONTRACT_INVALID"
    assert caught.value.message.startswith("contract.json is not valid:")
    assert "nmae: unknown key" in caught.value.message
    assert "datasets.0.lable: unknown key" in caught.value.message
    assert "name: field required" in caught.value.message
    assert "Did you mean label?" in caught.value.hint
    assert "secret-value" not in str(caught.value)


def test_text_that_is_not_json_is_refused():
    with pytest.raises(ConfigurationError, match="not valid"):
        contract.parse("{")


def test_published_schema_is_current_and_agrees_with_the_model():
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == json.loads(json.dumps(contract.schema())), "regenerate docs/schemas"
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(published)
    assert validator.is_valid(json.loads(DataContract.model_validate(document()).model_dump_json()))
    assert not validator.is_valid(document(extra=1))
    assert not validator.is_valid(document(datasets=[bank(role="insurer")]))


def test_contract_is_free_of_input_and_output():
    code = (
        "import sys, protocol.contract, protocol.uscc;"
        "print([m for m in ('pandas', 'pyarrow', 'flwr', 'torch', 'sqlalchemy', 'nats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


VALID = "91110000600037341L"  # from the documentation of python-stdnum


@pytest.mark.parametrize(
    "spelling", [VALID, "9111 0000 6000 3734 1L", "91110000600037341l", "９１110000-60003734-1L"]
)
def test_spellings_of_a_credit_code_have_one_form(spelling):
    assert uscc.validate(spelling) == VALID


@pytest.mark.parametrize(
    "code",
    [
        "91110000600037341M",  # check character
        "91110000600037314L",  # two characters swapped
        "9111000060003734",  # too short
        "91110000600037341LL",  # too long
        "9111000060003734IL",  # a letter outside the alphabet
        "911100O0600037341L",  # the letter O in the division
        "",
    ],
)
def test_wrong_credit_codes_are_refused_without_being_told(code):
    with pytest.raises(DataError) as caught:
        uscc.validate(code)
    assert caught.value.code == "DATA_INVALID_ID"
    assert not code or code not in str(caught.value)
    assert not stdnum.cn.uscc.is_valid(code)


def test_agricultural_collectives_have_valid_codes():
    # Authority N (agriculture) stands in the published code list; python-stdnum knows digits only.
    values = [uscc.ALPHABET.index(c) for c in "N2320583MA1ABCDE2"]
    check = uscc.ALPHABET[int(uscc.check_values(np.array([values]))[0])]
    assert uscc.validate("N2320583MA1ABCDE2" + check)
