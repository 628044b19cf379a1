"""The committed artifacts are what the sources compile to, byte for byte."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "ledger" / "contracts"
ARTIFACTS = ROOT / "ledger" / "artifacts"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of freshly compiled artifacts."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js here: the compiler is a developer's tool")
    if not (CONTRACTS / "node_modules" / "solc").is_dir():
        pytest.skip("the compiler's npm packages are absent: npm ci --ignore-scripts in ledger/contracts")
    out = tmp_path_factory.mktemp("artifacts")
    subprocess.run([node, "build.mjs", "--out", str(out)], cwd=CONTRACTS, check=True, timeout=280)
    return out


def test_artifacts_are_reproducible(rebuilt: Path) -> None:
    names = {path.name for path in ARTIFACTS.glob("*.json")}
    assert {path.name for path in rebuilt.iterdir()} == names
    for name in names:
        assert (rebuilt / name).read_bytes() == (ARTIFACTS / name).read_bytes(), name


def test_versions_are_pinned() -> None:
    package = json.loads((CONTRACTS / "package.json").read_text())
    lock = json.loads((CONTRACTS / "package-lock.json").read_text())["packages"]
    assert package["devDependencies"] == {"@openzeppelin/contracts": "5.7.0", "solc": "0.8.37"}
    for name, version in package["devDependencies"].items():
        assert lock[f"node_modules/{name}"]["version"] == version
        assert lock[f"node_modules/{name}"]["integrity"].startswith("sha512-")
    for path in ARTIFACTS.glob("*.json"):
        assert json.loads(path.read_text())["compiler"].startswith("0.8.37+")
