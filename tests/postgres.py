"""A PostgreSQL server for a test, in a temporary folder and on a Unix socket only."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = "postgres"  # made by Debian's package; the server refuses to run as root


def _program(name: str) -> str | None:
    found = shutil.which(name)
    homes = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))  # not on Debian's PATH
    return found or (str(homes[-1]) if homes else None)


def need_server() -> None:
    """Skip, and say so, where there is no server; where NO_SKIPS is set, fail."""
    if _program("initdb") is None or _program("pg_ctl") is None:
        give_up = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        give_up("needs PostgreSQL's initdb and pg_ctl: apt-get install -y postgresql")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run a server, and give the URL of its database."""
    # A short path, as a socket's is; and not in TMPDIR, where the server's own user may not come.
    folder = Path(tempfile.mkdtemp(prefix="autotune-pg-", dir="/tmp"))
    as_root = os.getuid() == 0
    if as_root:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    data = str(folder / "data")

    def run(program: str, *arguments: str) -> None:
        prefix = ["runuser", "-u", USER, "--"] if as_root else []
        command = [*prefix, str(_program(program)), *arguments]
        # A server keeps the output open for as long as it runs: it must not be a pipe.
        with (folder / "log").open("ab") as log:
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True)

    try:
        run("initdb", "-D", data, "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "-D", data, "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg2://{USER}@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
