"""NVFlare: private set intersection, then XGBoost over vertically split columns, in its simulator.

Run by ``benchmarks.peers`` in an environment of its own: ``python nvflare_vertical.py FOLDER OUT WORKSPACE``. Two jobs,
as its own example does it: DH-PSI writes the common identifiers at each site, then histogram-based trees with the
column split; gradients cross in the clear, since the encrypting plugin needs a build that no package brings. The AUC is
that of the last round on the hold-out, as XGBoost prints it.
"""
# mypy: ignore-errors

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from nvflare.app_common.psi.dh_psi.dh_psi_controller import DhPSIController
from nvflare.app_common.psi.file_psi_writer import FilePSIWriter
from nvflare.app_common.psi.psi_executor import PSIExecutor
from nvflare.app_opt.psi.dh_psi.dh_psi_task_handler import DhPSITaskHandler
from nvflare.app_opt.xgboost.histogram_based_v2.fed_controller import XGBFedController
from nvflare.app_opt.xgboost.histogram_based_v2.fed_executor import FedXGBHistogramExecutor
from nvflare.job_config.api import FedJob
from nvflare_parts import FILES, Ids, Loader

ROUNDS = 60
PARAMETERS = {
    "max_depth": 5,
    "eta": 0.1,
    "objective": "binary:logistic",
    "eval_metric": "auc",
    "tree_method": "hist",
    "nthread": 1,
}


def align(folder, workspace):
    job = FedJob(name="psi", min_clients=len(FILES))
    job.to_server(DhPSIController())
    job.to_clients(PSIExecutor(psi_algo_id="dh_psi"), id="psi_executor", tasks=["PSI"])
    job.to_clients(Ids(psi_writer_id="psi_writer", folder=str(folder)), id="local_psi")
    job.to_clients(DhPSITaskHandler(local_psi_id="local_psi"), id="dh_psi")
    job.to_clients(FilePSIWriter(output_path="psi/intersection.txt"), id="psi_writer")
    job.simulator_run(str(workspace), n_clients=len(FILES))
    found = {site: next(workspace.glob(f"{site}/**/intersection.txt")) for site in FILES}
    return {site: str(path) for site, path in found.items()}


def train(folder, workspace, joined):
    job = FedJob(name="xgboost", min_clients=len(FILES))
    controller = XGBFedController(
        num_rounds=ROUNDS,
        data_split_mode=1,
        secure_training=False,
        xgb_options={"early_stopping_rounds": 0, "use_gpus": False},
        xgb_params=PARAMETERS,
        client_ranks={site: rank for rank, site in enumerate(FILES)},
    )
    job.to_server(controller, id="xgb_controller")
    executor = FedXGBHistogramExecutor(data_loader_id="dataloader", in_process=True)
    job.to_clients(executor, id="xgb_hist_executor", tasks=["config", "start"])
    job.to_clients(Loader(folder=str(folder), joined=joined), id="dataloader")
    job.simulator_run(str(workspace), n_clients=len(FILES))


def main():
    if sys.argv[1] == "train":
        train(sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
        return
    folder, out, workspace = (Path(one).absolute() for one in sys.argv[1:4])
    began = time.monotonic()
    joined = align(folder, workspace / "psi")
    aligned = time.monotonic() - began
    # XGBoost prints below Python, from a process of the simulator's: only a pipe around it all sees that.
    command = [sys.executable, __file__, "train", folder, workspace / "xgboost", json.dumps(joined)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    areas = re.findall(r"eval-auc:([0-9.]+)", ended.stdout)
    if not areas:
        raise SystemExit(f"{ended.stdout[-5000:]}\nerror: XGBoost printed no AUC")
    found = {
        "seconds": time.monotonic() - began,
        "alignment_seconds": aligned,
        "auc": float(areas[-1]),
        "rounds": len(set(re.findall(r"\[([0-9]+)\]\s+eval-auc", ended.stdout))),
    }
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
