"""Shared fixtures: one running consortium of four banks, at an address that a namespace of its own can reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import Outside
from running_lab import RunningLab


def pytest_configure(config: pytest.Config) -> None:
    """Let one warning pass that a dependency of Flower raises on import."""
    config.addinivalue_line("filterwarnings", "ignore:.*will be removed in Click 9:DeprecationWarning")


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside | None]:
    """A namespace, or None where this user may not make one."""
    number = os.getpid()
    name, near, far = f"outside-{number}", f"cc{number}a"[:15], f"cc{number}b"[:15]
    third, fourth = number // 64 % 256, number % 64 * 4
    host, guest = f"10.213.{third}.{fourth + 1}", f"10.213.{third}.{fourth + 2}"
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name],
        ["ip", "addr", "add", f"{host}/30", "dev", near],
        ["ip", "link", "set", near, "up"],
        ["ip", "-n", name, "addr", "add", f"{guest}/30", "dev", far],
        ["ip", "-n", name, "link", "set", far, "up"],
        ["ip", "-n", name, "link", "set", "lo", "up"],
    ]
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield None
        return
    try:
        for step in steps:
            subprocess.run(step, check=True, capture_output=True)
        yield Outside(name, host)
    except subprocess.CalledProcessError:
        yield None
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(scope="session")
def lab(outside: Outside | None) -> Iterator[RunningLab]:
    """Four banks and their coordinator, up and enrolled; tests leave it as they found it."""
    # A Unix socket's path must stay short, which pytest's own temporary directories don't promise.
    home = Path(tempfile.mkdtemp(prefix="cc-"))
    running = RunningLab.create(home, host="127.0.0.1" if outside is None else outside.host)
    try:
        running.lab.up(patience=240)
        yield running
    finally:
        running.lab.down()
        if os.environ.get("CONCORDAT_KEEP") is None:
            shutil.rmtree(home, ignore_errors=True)
