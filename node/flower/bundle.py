"""The Flower app bundle, and the hash of the code that a job names.

Flower ships a bundle of code with every run and would execute whatever it ships. Here the bundle is a thin shim whose
bytes follow from the installed release; a node runs that one and refuses every other before anything of it is
unpacked (``node.flower.executor``). All that the shim does is call the installed package.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from protocol.canonical import lp
from protocol.errors import ConfigurationError

PACKAGES = ("protocol", "node", "bank_node", "data_partner_node", "coordinator")

_PROJECT = """\
[project]
name = "concordat"
version = "1.0.0"
description = "Calls the installed release of Concordat"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "concordat"

[tool.flwr.app.components]
serverapp = "concordat_app.server:app"
clientapp = "concordat_app.client:app"

[tool.flwr.app.config]
job = ""
"""
_FILES = {
    "pyproject.toml": _PROJECT,
    "concordat_app/__init__.py": '"""Calls the installed release."""\n',
    "concordat_app/client.py": "from node.flower import shim\n\napp = shim.app\n",
    "concordat_app/server.py": "from coordinator import server_app\n\napp = server_app.app\n",
}


@cache
def bundle() -> bytes:
    """Return the release's bundle; the same release gives the same bytes."""
    from flwr.cli.build import build_fab_from_files

    made = build_fab_from_files({path: text.encode() for path, text in _FILES.items()})
    return bytes(made[0])


BUNDLE_HASH = "7edc433497ad4092ed770c6be4912fd46f9d6904b9ad154d9f524134c5b3ea80"
"""SHA-256 of the release's bundle: written down, so that a node need not build one; a test builds and compares."""


@cache
def code_hash() -> str:
    """Return the hash of the release: every source file of the parties' packages, and the bundle's description.

    Two institutions that run the same release get the same hash; one changed line changes it.
    """
    digest = hashlib.sha256(lp("concordat/v1", "code"))
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        if spec.origin is None:
            # A directory of that name in the working directory, which Python takes for a package without code.
            raise ConfigurationError(
                "PACKAGE_SHADOWED",
                f"a directory named {name} hides the installed package",
                "Start the process from another directory, or with python -P.",
            )
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).digest()
            digest.update(lp(name, path.relative_to(root).as_posix(), content))
    for path_name, text in sorted(_FILES.items()):
        digest.update(lp("bundle", path_name, text))
    return digest.hexdigest()
