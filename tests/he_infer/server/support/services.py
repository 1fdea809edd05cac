"""A private PostgreSQL and S3 server for the tests, on a Unix socket and on loopback, removed after the tests."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

_START_SECONDS = 30.0
# What obstore reads from the environment; the values mean nothing to moto.
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


def postgres_programs() -> Path | None:
    """The newest PostgreSQL of Debian's packages, or whatever is on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return Path(program).parent if program else None


class Postgres:
    """A PostgreSQL that listens on a socket in a folder of its own and nowhere else; `database` makes places in it.

    It refuses to run as root, so root starts it as the user of Debian's package.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: list[str] = []
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        made = ["initdb", "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "-N", "--no-instructions"]
        subprocess.run([*self._as_user, str(programs / made[0]), *made[1:]], check=True, capture_output=True, cwd="/")

    def database(self) -> str:
        """The URL of a new, empty schema: a database of its own in all but the time that one takes."""
        self._count += 1
        name = f"test{self._count}"
        with psycopg.connect(host=str(self.folder), user="postgres", autocommit=True) as sql:
            sql.execute(f"CREATE SCHEMA {name}".encode())
        return f"postgresql://postgres@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def start(self) -> None:
        """Run it, and wait until it answers."""
        command = [
            *self._as_user,
            str(self._programs / "postgres"),
            "-D",
            f"{self.folder}/data",
            "-k",
            str(self.folder),
        ]
        for setting in ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=200"):
            command += ["-c", setting]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(host=str(self.folder), user="postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it at once, as if its machine had gone, connections and all."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait(_START_SECONDS)


@contextmanager
def postgres(programs: Path) -> Iterator[Postgres]:
    """A running PostgreSQL, gone with all that it holds when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="he-infer-pg-"))
    try:
        running = Postgres(programs, folder)
        try:
            running.start()
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def moto_is_installed() -> bool:
    """Moto, and what its server needs besides."""
    return all(importlib.util.find_spec(name) for name in ("moto", "boto3", "flask", "flask_cors"))


class S3:
    """A running S3 server; `bucket` makes empty buckets in it."""

    def __init__(self, url: str) -> None:
        self.environment = {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": url}
        self._url = url
        self._count = 0

    def bucket(self) -> str:
        """The URL of a place in a new, empty bucket."""
        self._count += 1
        name = f"bucket{self._count}"
        scope = "AWS4-HMAC-SHA256 Credential=testing/20200101/us-east-1/s3/aws4_request"
        request = urllib.request.Request(f"{self._url}/{name}", method="PUT", headers={"Authorization": scope})
        urllib.request.urlopen(request, timeout=10).close()
        return f"s3://{name}/he-infer"


@contextmanager
def s3() -> Iterator[S3]:
    """Moto's server in a process of its own, on a free port of loopback."""
    program = (
        "import sys, time\n"
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "server.start()\n"
        "print(server.get_host_and_port()[1], flush=True)\n"
        "sys.stdin.read()\n"  # until the tests close the pipe, also by their own death
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = next(line for line in iter(process.stdout.readline, b"") if line.strip().isdigit())
        yield S3(f"http://127.0.0.1:{int(port)}")
    finally:
        with suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait(_START_SECONDS)
