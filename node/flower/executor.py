"""The node's SuperExec: forks each ClientApp from a process that has imported everything already.

Flower's own executor starts a new interpreter per message. This one keeps a small pre-imported process and forks from
it, which saves two CPU-seconds a message and keeps task tokens off the command line. Before a bundle is unpacked its
hash is compared with that of the installed release, so that code which this institution hasn't installed never runs.

It replaces one function of Flower (``get_executor``) and wraps another (``install_from_fab``); both are internal, which
is one of the reasons why Flower is pinned. It is itself forked from the SuperNode's process, before that has opened a
key (``node.flower.supernode``).
"""

from __future__ import annotations

import gc
import hashlib
import hmac
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from node.config import NodeConfig
from node.flower.bundle import BUNDLE_HASH
from node.flower.shim import SOCKET_VARIABLE, call


class BundleRefused(RuntimeError):
    """A run ships code that this institution has not installed."""


def guarded(install: Any, allowed: str, socket: Path) -> Any:
    """Wrap Flower's installation of a bundle so that it takes one bundle only."""

    def install_allowed(content: bytes, *args: Any, **kwargs: Any) -> Any:
        found = hashlib.sha256(content).hexdigest()
        if not hmac.compare_digest(found, allowed):
            report = {"code": "BUNDLE_REFUSED", "message": f"a run ships the bundle {found[:16]}…"}
            try:
                call(socket, b"R" + json.dumps(report).encode())
            except (OSError, EOFError):
                print("BUNDLE_REFUSED", file=sys.stderr)  # noqa: T201 - the daemon is down; the log must have it
            raise BundleRefused("BUNDLE_REFUSED")
        return install(content, *args, **kwargs)

    return install_allowed


def _serve(requests: IO[str], module: Any) -> None:
    """Fork a ClientApp per request until the pipe closes; runs in the pre-imported process."""
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in requests:
        task = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        root = task["root"]
        certificates = Path(root).read_bytes() if root else None
        # Ends the process by itself.
        module.run_clientapp(task["address"], task["token"], task["insecure"], certificates, None, False)
        os._exit(0)


def _arguments(config: NodeConfig) -> list[str]:
    return [
        "flower-superexec",
        "--insecure",  # loopback within the node; the task is taken under the secret below
        "--runtime-api-address",
        config.flower.runtime,
        "--superexec-auth-secret-file",
        str(config.path("secret/superexec")),
    ]


def fork(config: NodeConfig) -> int:
    """Start the node's SuperExec as a child that ends with this process; returns its number.

    The caller holds no key yet and runs one thread.
    """
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _die_with(parent)
            _run(config)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def _run(config: NodeConfig) -> None:
    socket = config.socket()
    os.environ[SOCKET_VARIABLE] = str(socket)
    os.environ.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", str(config.flower.poll_seconds))
    # Everything is imported before the fork, so that both processes and every ClientApp share it.
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.superexec import run_superexec as superexec
    from flwr.supercore.superexec.executor import LaunchResult
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from flwr.supernode.runtime import run_clientapp as clientapp

    import node.flower.shim  # noqa: F401 - imported so that a fork finds it in memory

    wrapped = guarded(vars(clientapp)["install_from_fab"], BUNDLE_HASH, socket)
    setattr(clientapp, "install_from_fab", wrapped)  # noqa: B010
    reading, writing = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        os.close(writing)
        _die_with(parent)
        with os.fdopen(reading) as requests:
            _serve(requests, clientapp)
        os._exit(0)
    os.close(reading)

    class ForkingExecutor(SubprocessExecutor):
        def launch(self, spec: Any) -> Any:
            task = {
                "address": spec.runtime_api_address,
                "token": spec.token,
                "insecure": spec.insecure,
                "root": spec.root_certificates_path,
            }
            os.write(writing, (json.dumps(task) + "\n").encode())
            return LaunchResult.accepted()

    setattr(superexec, "get_executor", lambda *_, **__: ForkingExecutor())  # noqa: B010
    sys.argv = _arguments(config)
    flower_superexec()


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that happens (Linux)."""
    import ctypes

    set_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
