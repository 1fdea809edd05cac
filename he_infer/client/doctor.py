"""Checks of a client's machine, files and server. Each failed check says what to do."""

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from he_infer.client.connection.connection import trust
from he_infer.errors import HeInferError
from he_infer.installation import install_command

if TYPE_CHECKING:
    from he_infer.client.connection.session import Session
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.model import ClientModel

PACKAGES = (
    "numpy",
    "cryptography",
    "tenseal",
    "zstandard",
    "safetensors",
    "onnx",
    "onnxruntime",
    "httpx2",
    "jinja2",
    "pillow",
    "platformdirs",
    "pooch",
    "pydicom",
)
CODECS = ("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle")
EXPIRY_DAYS = 30
"""Warn if the server's certificate ends within so many days."""
LEAST_DISK = 200 << 20
"""Warn if the temporary folder has fewer free bytes than this."""
WORST_CLOCK = 300.0
"""Largest accepted difference between the two clocks, seconds: certificates and tokens depend on the time."""


@dataclass(frozen=True)
class Check:
    """Outcome of one check."""

    name: str
    state: Literal["ok", "warning", "failed"]
    text: str
    """Finding of the check, and what to do if it failed."""


def check_machine() -> Iterator[Check]:
    """Check Python, packages, codecs, files in memory, and disk space."""
    release = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    yield Check("Python", "ok" if fine else "failed", release if fine else f"{release}; install Python 3.11 or newer.")
    for name in PACKAGES:
        yield _check_package(name, "failed", install_command("client"))
    for name in CODECS:
        yield _check_package(name, "warning", f"compressed DICOM is refused; {install_command('client')}")
    if hasattr(os, "memfd_create"):
        yield Check("files in memory", "ok", "the secret key never touches a disk")
    else:
        yield Check(
            "files in memory", "warning", "this system has none: make a RAM disk and name it in HE_INFER_MEMORY_FOLDER."
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    state: Literal["ok", "warning"] = "ok" if free >= LEAST_DISK else "warning"
    yield Check("temporary folder", state, f"{free / 1e9:.1f} GB free in {tempfile.gettempdir()}")


def check_secret_file(path: Path, what: str) -> Check:
    """Check that a file with a secret exists and only its owner can read it."""
    if not path.is_file():
        return Check(what, "failed", f"there is no file {path}.")
    if path.stat().st_mode & 0o077:
        return Check(what, "failed", f"{path} is open to other users; run: chmod 600 {path}")
    return Check(what, "ok", str(path))


def check_publisher(keys: "KeyFile", model: "ClientModel") -> Check:
    """Check that the model is of the publisher that the key file pins."""
    try:
        keys.check_publisher(model.path, model.publisher)
    except HeInferError as error:
        return Check("model's publisher", "failed", str(error))
    return Check("model's publisher", "ok", "the one that the key file pins")


def check_server(session: "Session", keys: "KeyFile | None", model: "ClientModel | None") -> Iterator[Check]:
    """Check reachability, TLS, clock, signing key, token, model and key set, up to the first blocking failure."""
    try:
        began = time.time()
        server_key, stated = session.server_key, session.server_time
        drift = abs(stated - (began + time.time()) / 2)
    except HeInferError as error:
        yield Check("server", "failed", str(error))
        return
    yield Check("server", "ok", f"{session.url} answers, over {session.url.partition(':')[0]}")
    near = drift <= WORST_CLOCK
    yield Check(
        "clock",
        "ok" if near else "warning",
        f"{drift:.0f} s from the server's"
        + ("" if near else "; set one of the two clocks: certificates depend on it."),
    )
    if keys is not None:
        same = keys.server_key == server_key
        yield Check(
            "server's signing key",
            "ok" if same else "failed",
            server_key if same else f"stated: {server_key}, pinned: {keys.server_key}; ask the server's operator.",
        )
    try:
        offers = session.models()
        yield Check("token", "ok", f"accepted; {len(offers)} model{'s are' if len(offers) != 1 else ' is'} served")
        if model is None:
            return
        served = model.expect(offers)
        yield Check("model", "ok", f"{served.id}: the server offers exactly the plans of {model.path}")
        if keys is None:
            return
        registered = {entry.plan for entry in session.key_sets() if entry.key_set == keys.key_set and entry.usable}
    except HeInferError as error:
        yield Check("token, model and keys", "failed", str(error))
        return
    lacking = [plan.batch for plan in keys.plans if plan.needs_keys and plan.digest not in registered]
    text = f"key set {keys.key_set} is registered for all plans of the key file"
    if lacking:
        sizes = ", ".join(map(str, lacking))
        text = f"not registered for {sizes} images a request; run: he-infer keys register KEYFILE --bundle PART"
    yield Check("registered keys", "failed" if lacking else "ok", text)


def check_certificate(url: str, ca_file: Path | None, client_cert: Path | None) -> Check | None:
    """Check how long a server's certificate is valid; None if it speaks no TLS, or none that this machine accepts."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    try:
        context = trust(ca_file, client_cert)
        with (
            socket.create_connection((parts.hostname, parts.port or 443), timeout=10.0) as bare,
            context.wrap_socket(bare, server_hostname=parts.hostname) as secured,
        ):
            ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {})["notAfter"]))
    except (OSError, KeyError, ValueError):  # the other checks say why the server cannot be reached
        return None
    days = int((ends - time.time()) // 86400)
    text = f"valid until {time.strftime('%Y-%m-%d', time.gmtime(ends))}, {days} days from now"
    if days >= EXPIRY_DAYS:
        return Check("server's certificate", "ok", text)
    return Check("server's certificate", "warning", f"{text}; tell the server's operator to renew it.")


def _check_package(name: str, state: Literal["warning", "failed"], advice: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, state, f"not installed: {advice}")
