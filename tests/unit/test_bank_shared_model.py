"""Stage S: begins as H to the bit, trains beside H+ on the same rows, lives with partners that are missing."""

from pathlib import Path

import numpy as np
import shared_world as sw

from bank_node.risk_model import RiskModel


def test_three_banks_train_h_then_s_and_h_plus_and_agree_on_one_model(tmp_path: Path) -> None:
    job = sw.world(tmp_path)
    job.session()
    job.train()
    ends = job.finish()
    models = {end["statement"]["body"]["model"] for end in ends.values()}
    assert len(models) == 1
    figures = ends["bank-1"]["figures"]
    assert all(end["figures"] == figures for end in ends.values())
    print({name: one["auc"] for name, one in figures["models"].items()}, figures["comparison"], figures["coverage"])
    kept = RiskModel.read(tmp_path / "bank-1" / job.job)
    assert kept.name in models
