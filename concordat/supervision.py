"""Keeping processes alive with supervisord: its configuration is rendered from what the parties describe."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from node.processes import Process
from protocol.errors import ConfigurationError, Unavailable


@dataclass(frozen=True)
class Supervisor:
    """A supervisord and the directory in which it keeps its files."""

    directory: Path

    @property
    def _socket(self) -> Path:
        return self.directory / "supervisor.sock"

    def render(self, groups: Mapping[str, Sequence[Process]]) -> Path:
        """Write the configuration; one group per party."""
        logs = self.directory / "logs"
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = [
            "[supervisord]",
            f"logfile={self.directory / 'supervisord.log'}",
            f"pidfile={self.directory / 'supervisord.pid'}",
            f"directory={self.directory}",
            "minfds=1024",
            "umask=077",
            "",
            "[unix_http_server]",
            f"file={self._socket}",
            "chmod=0700",
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "",
        ]
        for party, processes in groups.items():
            names = [f"{party}.{process.name}" for process in processes]
            lines += [f"[group:{party}]", f"programs={','.join(names)}", ""]
            for process in processes:
                log = logs / f"{party}.{process.name}.log"
                environment = ",".join(f'{k}="{_escaped(v)}"' for k, v in process.environment.items())
                lines += [
                    f"[program:{party}.{process.name}]",
                    f"command={' '.join(_quoted(part) for part in process.command)}",
                    f"priority={process.priority}",
                    "autostart=true",
                    # A mistake in a configuration (2) or a table (3) is for a person to mend; everything else is
                    # started again, such as a SuperNode that came back too early.
                    "autorestart=unexpected",
                    "exitcodes=2,3",
                    "startsecs=1",
                    "startretries=100000",
                    "stopasgroup=true",
                    "killasgroup=true",
                    "stopwaitsecs=3",
                    "redirect_stderr=true",
                    f"stdout_logfile={_escaped(str(log))}",
                    "stdout_logfile_maxbytes=20MB",
                    "stdout_logfile_backups=2",
                    *([f"environment={environment}"] if environment else []),
                    "",
                ]
        path = self.directory / "supervisord.conf"
        path.write_text("\n".join(lines))
        return path

    def start(self, groups: Mapping[str, Sequence[Process]]) -> None:
        """Start all processes in the background.

        Raises:
            ConfigurationError: something runs there already.
        """
        if self.alive():
            raise ConfigurationError(
                "ALREADY_UP", f"a consortium runs in {self.directory} already", "`concordat down` stops it."
            )
        path = self.render(groups)
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(path)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self.alive():
            if time.monotonic() > deadline:
                raise Unavailable(
                    "SUPERVISOR_DOWN", f"supervisord did not start; see {self.directory}/supervisord.log"
                )
            time.sleep(0.05)

    def run(self, groups: Mapping[str, Sequence[Process]]) -> NoReturn:
        """Become the supervisord that runs all processes in the foreground until told to stop.

        This process is replaced, so that signals (of a container, of systemd) reach supervisord itself.
        """
        path = self.render(groups)
        command = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-n", "-c", str(path)]
        os.execv(sys.executable, command)  # noqa: S606 - no shell is meant

    def add(self, groups: Mapping[str, Sequence[Process]], known: Mapping[str, Sequence[Process]]) -> None:
        """Start more groups beside the known ones."""
        self.render({**known, **groups})
        self._call("reloadConfig")
        for name in groups:
            self._call("addProcessGroup", name)

    def alive(self) -> bool:
        """Return whether supervisord answers."""
        if not self._socket.exists():
            return False
        try:
            self._call("getState")
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def processes(self) -> list[dict[str, Any]]:
        """Return what supervisord knows of its processes."""
        found: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return found

    def kill(self, party: str, process: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process (failure tests); supervisord starts it again."""
        self._call("signalProcess", f"{party}:{party}.{process}", str(int(number)))

    def stop(self, party: str, process: str) -> None:
        """Stop one process."""
        self._call("stopProcess", f"{party}:{party}.{process}")

    def start_one(self, party: str, process: str) -> None:
        """Start one process."""
        self._call("startProcess", f"{party}:{party}.{process}")

    def shutdown(self, last: str = "") -> None:
        """Stop everything and wait for it, groups at once: supervisord would stop one after another.

        Args:
            last: the group that the others need to end well.
        """
        if not self.alive():
            return
        pid = int((self.directory / "supervisord.pid").read_text())
        for group in {process["group"] for process in self.processes()} - {last}:
            self._call("stopProcessGroup", group, False)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(p["statename"] == "STOPPING" for p in self.processes()):
            time.sleep(0.05)
        self._call("shutdown")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
        raise Unavailable("SUPERVISOR_STUCK", "the processes did not stop in time")

    def _call(self, method: str, *arguments: str | bool) -> Any:
        transport = _UnixTransport(self._socket)
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket that is closed after use."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        if self._connection and self._connection[1]:
            return self._connection[1]
        connection = _UnixConnection(self._path)
        self._connection = host, connection
        return connection


def _quoted(part: str) -> str:
    return f'"{_escaped(part)}"' if " " in part else _escaped(part)


def _escaped(text: str) -> str:
    """Escape what supervisord's configuration would expand."""
    return text.replace("%", "%%")
