"""A Ray cluster of several nodes on this machine, started by the commands of docs/ray.md, whose parts can be killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


class RayCluster:
    """A head and the nodes that join it. Its own token, folder and port keep it apart from others.

    Attributes:
        address: The address of the head.
        environment: The variables with which a search joins the cluster.
    """

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(dir="/tmp"))  # short, because the paths of sockets are limited
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.environment = {
            "RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        (self.folder / "token").write_text("0" * 64)
        self.sessions, self.starting = [], []

    def start_head(self, cpus=0):
        """Start the head and return its session."""
        return self._start(
            "--head", "--port", self.address.split(":")[1], "--num-cpus", str(cpus), "--include-dashboard", "false"
        )

    def start_node(self, *, wait=True):
        """Start a node with 2 CPUs, which joins the cluster, and return its session."""
        return self._start("--address", self.address, "--num-cpus", "2", wait=wait)

    def _start(self, *words, wait=True):
        # A node is missed within a second. By default it is 15 seconds.
        health = {"initial_delay_ms": "0", "period_ms": "200", "timeout_ms": "1000", "failure_threshold": "3"}
        variables = {f"RAY_health_check_{name}": value for name, value in health.items()}
        environment = {**os.environ, **self.environment, **variables}
        del environment["RAY_ADDRESS"]
        command = [*RAY, "start", *words]
        with (self.folder / "log").open("ab") as log:
            started = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.sessions.append(started.pid)
        if wait:
            assert started.wait(60) == 0, (self.folder / "log").read_text()
        else:
            self.starting.append(started)
        return started.pid

    def actors(self):
        """Return the session of each worker of a search, on all nodes."""
        return [session for session in self.sessions for _, name in members(session) if "ray::_Actor" in name]

    def stop(self, session):
        """Stop every process of the head or of a node, as if the machine hung."""
        for number, _ in members(session):
            os.kill(number, signal.SIGSTOP)

    def kill(self, session):
        """Kill every process of the head or of a node at once."""
        while found := members(session):
            for number, _ in found:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.02)
        self.sessions.remove(session)

    def close(self):
        """Kill all processes of the cluster."""
        for session in list(self.sessions):
            self.kill(session)
        for started in self.starting:
            started.wait()
        shutil.rmtree(self.folder)


def members(session):
    """Return the process id and the command line of every process of a session that has not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            _, _, after = (folder / "stat").read_text().rpartition(")")
            state, _, _, its_session = after.split()[:4]
            if int(its_session) == session and state != "Z":
                found.append((int(folder.name), (folder / "cmdline").read_text(errors="replace")))
        except (OSError, ValueError):  # it ended, or is no process
            continue
    return found
