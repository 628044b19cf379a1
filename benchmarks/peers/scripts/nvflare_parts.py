"""What NVFlare's vertical XGBoost needs of a site: its identifiers, and its own columns in the order of the join."""
# mypy: ignore-errors

import csv
from pathlib import Path

import numpy as np
import xgboost
from nvflare.app_common.psi.psi_spec import PSI
from nvflare.app_opt.xgboost.data_loader import XGBDataLoader

FILES = {"site-1": "bank.csv", "site-2": "partner.csv"}
LABEL_OWNER = "site-1"


def read(folder, site):
    with (Path(folder) / FILES[site]).open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}


class Ids(PSI):
    def __init__(self, psi_writer_id, folder):
        super().__init__(psi_writer_id)
        self.folder = folder

    def load_items(self):
        return list(read(self.folder, self.fl_ctx.get_identity_name()))


class Loader(XGBDataLoader):
    def __init__(self, folder, joined):
        self.folder, self.joined = folder, joined

    def load_data(self):
        site = self.client_id
        rows, joined = read(self.folder, site), sorted(Path(self.joined[site]).read_text().split())
        columns = [name for name in next(iter(rows.values())) if name.startswith("x")]
        values = np.array([[float(rows[one][name]) for name in columns] for one in joined], dtype=np.float32)
        # Which rows are held out follows from the id, so that both sites know.
        test = np.array([rows[one]["test"] == "1" for one in joined])
        label = None
        if site == LABEL_OWNER:
            label = np.array([float(rows[one]["y"]) for one in joined], dtype=np.float32)

        def matrix(chosen):
            own = None if label is None else label[chosen]
            return xgboost.DMatrix(values[chosen], label=own, data_split_mode=self.data_split_mode)

        return matrix(~test), matrix(test)
