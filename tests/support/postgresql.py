"""A PostgreSQL server of our own, for tests and for scripts/benchmarks/survival.py."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def programs():
    """Where PostgreSQL's programs are; None where it is not installed."""
    if shutil.which("initdb"):
        return Path(shutil.which("initdb")).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Server:
    """A server in a temporary folder; it refuses to run as root, so it runs as `postgres` there.

    With a password it asks for it, otherwise it trusts everybody on this machine.
    """

    def __init__(self, password=None):
        self._programs, as_user = programs(), {}
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._folder = folder = Path(tempfile.mkdtemp(prefix="nasbench-pg-"))
        secret = folder / "password"
        secret.write_text(password or "-")
        if as_user:
            for path in (folder, secret):
                os.chown(path, as_user["user"], as_user["group"])
        self.url = f"postgresql://nasbench@127.0.0.1:{port}/postgres"
        self._quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder, **as_user}
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        self._options = ["-w", "-l", folder / "log", "-o", options]
        method = "trust" if password is None else "scram-sha-256"
        self._run("initdb", "-U", "nasbench", "-A", method, "-N", f"--pwfile={secret}")
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        self._run("pg_ctl", *self._options, "start")

    def stop(self):
        """Stop it as a crash would."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def cut_connections(self):
        """End every other connection, with whatever statement it is at."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")

    def close(self):
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program, *arguments):
        subprocess.run([self._programs / program, "-D", self._folder / "data", *arguments], check=True, **self._quietly)
