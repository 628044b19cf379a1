"""The synthetic economy: reproducible, valid, coherent, and shaped as a consortium's data are."""

import hashlib
import warnings

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import stdnum.cn.uscc
from sklearn.metrics import roc_auc_score

from concordat import dataset
from concordat.economy import data_contract, party_tables, write_economy
from concordat.economy.fields import LABEL
from concordat.economy.population import BLOCK, CLIENTS, REGIONS, STRANGERS, credit_codes, enterprises, stream
from protocol.errors import ConfigurationError

COUNT = 24_000


def whole(**arguments):
    parts = {}
    for party, table in party_tables(**arguments):
        parts.setdefault(party, []).append(table)
    return {party: pa.concat_tables(tables).to_pandas().set_index("uscc") for party, tables in parts.items()}


@pytest.fixture(scope="module")
def tables():
    return whole(count=COUNT, banks=3, seed=7)


@pytest.fixture(scope="module")
def banks(tables):
    return [tables[f"bank-{i}"] for i in (1, 2, 3)]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, kind):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_economy(tmp_path / name, count=900, seed=seed, kind=kind)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    parties = ("bank-1", "bank-2", "bank-3", "e-commerce", "government")
    assert set(digests(tmp_path / "a")) == {
        "contract.json",
        "dataset.toml",
        *(f"{party}.{kind}" for party in parties),
    }
    other = digests(tmp_path / "c")
    same = {name for name, digest in digests(tmp_path / "a").items() if other[name] == digest}
    assert same == {"contract.json"}


def test_every_party_keeps_the_contract_and_csv_and_parquet_agree(tmp_path):
    found = {}
    for kind in ("csv", "parquet"):
        written = write_economy(tmp_path / kind, count=2_000, kind=kind)
        data = dataset.load(tmp_path / kind)
        assert data.contract().digest == data_contract().digest
        tables = {party.name: data.table(party) for party in data.parties}
        assert {name: table.rows for name, table in tables.items()} == written.rows
        assert all(not table.source.empty_fields for table in tables.values())
        found[kind] = {name: table.digest for name, table in tables.items()}
    assert found["csv"] == found["parquet"]


def test_codes_are_valid_unique_and_from_several_regions(tables, banks):
    codes = set().union(*(set(table.index) for table in tables.values()))
    assert all(stdnum.cn.uscc.is_valid(code) for code in list(codes)[:3000])
    assert len({code[2:4] for code in codes}) == len(REGIONS)
    assert all(table.index.is_unique for table in tables.values())
    clients = pd.concat([bank["region"] for bank in banks])
    assert all(code[2:8] in REGIONS[region] for code, region in clients.head(500).items())


def test_serial_numbers_never_share_a_code():
    rng = stream(7, 99)
    serial = np.concatenate([np.arange(50_000), np.arange(31**6 // 2, 31**6 // 2 + 50_000)])
    same_region = np.zeros(len(serial), dtype=np.int64)
    assert len(np.unique([code[8:] for code in credit_codes(7, serial, same_region, rng)])) == len(serial)


def test_banks_share_out_the_clients_and_some_have_two_banks(banks):
    seen = pd.concat([pd.Series(1, index=bank.index) for bank in banks]).groupby(level=0).sum()
    assert len(seen) == COUNT
    assert 0.05 <= (seen == 2).mean() <= 0.08
    assert seen.max() == 2
    assert min(len(bank) for bank in banks) > COUNT / 5


def test_defaults_are_as_rare_as_they_are_in_life(banks):
    for bank in banks:
        assert 0.07 <= bank[LABEL].mean() <= 0.15


def test_partners_know_most_clients_and_others(tables, banks):
    clients = set().union(*(set(bank.index) for bank in banks))
    for bank in banks:
        assert bank.index.isin(tables["e-commerce"].index).mean() == pytest.approx(0.90, abs=0.012)
        assert bank.index.isin(tables["government"].index).mean() == pytest.approx(0.97, abs=0.008)
    for partner in ("e-commerce", "government"):
        strangers = (~tables[partner].index.isin(clients)).sum()
        assert strangers > COUNT / 6


def test_banks_differ_in_mix(banks):
    def distance(column, a, b):
        left, right = a[column].value_counts(normalize=True), b[column].value_counts(normalize=True)
        return left.sub(right, fill_value=0).abs().sum() / 2

    assert distance("region", banks[0], banks[1]) > 0.2
    assert distance("industry", banks[0], banks[2]) > 0.2
    assert (banks[2]["industry"] == "manufacturing").mean() > 0.35


def test_a_shared_client_looks_different_at_each_bank(banks):
    shared = banks[0].index.intersection(banks[1].index)
    assert len(shared) > 100
    here, there = banks[0].loc[shared], banks[1].loc[shared]
    assert here["industry"].equals(there["industry"])
    assert (here["average_balance"] != there["average_balance"]).mean() > 0.99
    assert here["cash_flow_coverage"].corr(there["cash_flow_coverage"], method="spearman") > 0.2
    assert (here[LABEL] == there[LABEL]).mean() > 0.9


def test_tables_have_holes_and_skew_where_real_ones_have(tables, banks):
    assert 0.03 < banks[0]["debt_ratio"].isna().mean() < 0.3
    assert 0.5 < tables["government"]["trade_volume_12m"].isna().mean() < 0.95
    assert banks[0]["average_balance"].skew() > 3
    assert (banks[0]["same_ip_logins"] == 0).mean() > 0.5


def test_row_order_tells_nothing(tables):
    shop, state = tables["e-commerce"], tables["government"]
    both = shop.index.intersection(state.index)[:2000]
    assert (
        abs(np.corrcoef(shop.index.get_indexer(both)[:1000], state.index.get_indexer(both)[:1000])[0, 1])
        < 0.2
    )


def test_the_first_enterprises_of_a_large_economy_are_those_of_a_small_one():
    small, large = whole(count=500, banks=3, seed=3), whole(count=1500, banks=3, seed=3)
    for party in ("bank-1", "bank-2", "bank-3"):
        assert set(small[party].index) < set(large[party].index)
        pd.testing.assert_frame_equal(small[party], large[party].loc[small[party].index])


def test_blocks_bound_the_memory():
    sizes = [len(table) for _, table in party_tables(count=3 * BLOCK, banks=3, seed=1)]
    assert max(sizes) <= BLOCK
    assert sum(sizes) > 5 * BLOCK


def test_strangers_belong_to_no_bank():
    assert (enterprises(7, STRANGERS, 0, 3).bank == -1).all()
    assert (enterprises(7, CLIENTS, 0, 3).bank >= 0).all()


def test_partners_add_what_no_bank_sees(tables, banks):
    rows = pd.concat(banks)
    rows = rows[~rows.index.duplicated()]
    joined = rows.join(tables["e-commerce"]).join(tables["government"])
    for name in joined.select_dtypes(exclude="number"):
        joined[name] = joined[name].astype("category")
    odd = np.array([int(hashlib.sha256(code.encode()).hexdigest()[:2], 16) % 10 < 7 for code in joined.index])

    def reach(columns):
        model = lightgbm.LGBMClassifier(
            n_estimators=120, learning_rate=0.05, num_leaves=10, min_child_samples=60, n_jobs=1, verbose=-1
        ).fit(joined.loc[odd, columns], joined.loc[odd, LABEL])
        return roc_auc_score(joined.loc[~odd, LABEL], model.predict_proba(joined.loc[~odd, columns])[:, 1])

    own = [name for name in rows.columns if name != LABEL]
    everything = [name for name in joined.columns if name != LABEL]
    alone, together = reach(own), reach(everything)
    assert 0.69 < alone < 0.76
    assert 0.03 < together - alone < 0.08


@pytest.fixture
def command():
    with warnings.catch_warnings():
        # The pinned typer imports a name that the newest click calls deprecated.
        warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)
        import typer
        from typer.testing import CliRunner

        from concordat.cli.sample import sample
    app = typer.Typer()
    app.command()(sample)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_writes_a_data_directory_and_speaks_to_stderr(tmp_path, command):
    done = command(
        "--out", tmp_path / "d", "--enterprises", 600, "--banks", 4, "--seed", 1, "--format", "parquet"
    )
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "bank-4: " in done.stderr
    assert "No row describes a real enterprise." in done.stderr
    assert [party.name for party in dataset.load(tmp_path / "d").parties] == [
        "bank-1", "bank-2", "bank-3", "bank-4", "e-commerce", "government",
    ]  # fmt: skip


def test_command_overwrites_only_when_told(tmp_path, command):
    assert command("--out", tmp_path, "--enterprises", 600).exit_code == 0
    again = command("--out", tmp_path, "--enterprises", 600)
    assert isinstance(again.exception, ConfigurationError)
    assert again.exception.code == "SAMPLE_EXISTS"
    assert command("--out", tmp_path, "--enterprises", 600, "--replace").exit_code == 0


def test_bad_numbers_and_places_are_refused(tmp_path, command):
    assert command("--out", tmp_path, "--enterprises", 1).exit_code == 2
    assert command("--out", tmp_path, "--format", "xlsx").exit_code == 2
    for wrong in ({"count": 10}, {"banks": 0}, {"seed": -1}):
        with pytest.raises(ConfigurationError, match="must lie between"):
            write_economy(tmp_path / "x", **wrong)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError) as caught:
        write_economy(tmp_path / "file" / "below", count=600)
    assert caught.value.code == "SAMPLE_UNWRITABLE"
