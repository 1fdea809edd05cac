"""Machine code of the kernels in a private folder, compiled once.

numba's cache is a pickle with machine code in it: a user who can write it can run code in this process, and a truncated
file can end the process inside LLVM. So the folder must belong to this user alone, and a file is loaded only if its
SHA-256 is the one in the manifest. Otherwise the code is compiled again.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from he_infer.errors import UsageError

if TYPE_CHECKING:
    from he_infer.ckks.engines.native.kernels.entry_points import Kernels

_MANIFEST = "manifest.json"
_LOCK, _BUILDING = ".lock", ".building"
"""Suffixes of a version's lock and of its unfinished compilation. A version's own lock: installations of one user share
the folder, and none waits while another one compiles its version."""
_SOURCES = Path(__file__).parent / "kernels"
_KEPT = 8
"""Number of versions kept in a folder: several installations of one user share it."""
_numba_settings = threading.Lock()

Progress = Callable[[str], None]


def default_folder() -> Path:
    """Return the folder for machine code of a user's own processes."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "he-infer" / "native"


def find_code_folder(data_dir: Path) -> Path:
    """Return the folder for a server's machine code: the user's, or `native` in its data folder.

    A user's servers and tests share one compilation. A service account often has no home of its own to write to.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home())
        usable = home.is_dir() and home.stat().st_uid == os.geteuid() and os.access(home, os.W_OK)
    except (OSError, RuntimeError):
        usable = False
    return default_folder() if usable else data_dir / "native"


def leave_scipy_out() -> None:
    """Keep numba from loading scipy, if it is installed: a third of the load, for linear algebra that no kernel uses.

    For a process that needs scipy for nothing else either.
    """
    sys.modules.setdefault("scipy", cast("ModuleType", None))  # an import of it then fails, which numba allows for


def load_kernels(folder: Path | None = None, on_progress: Progress | None = None) -> "Kernels":
    """Load the compiled kernels from the folder, or compile them into it once, which takes some 30 s of processor time.

    Args:
        folder: folder of machine code, created with mode 0700 if it is missing; by default `default_folder()`.
        on_progress: called with one line before a compilation starts.

    Raises:
        UsageError: others can write to the folder, or it is not a folder.
        OSError: it cannot be read or written.
    """
    return _load((folder or default_folder()).absolute(), on_progress)


_loaded: dict[Path, "Kernels"] = {}
_loading = threading.Lock()


def _load(folder: Path, on_progress: Progress | None) -> "Kernels":
    with _loading:
        if folder not in _loaded:
            check_private(folder)
            with _locked(folder / f"{fingerprint()}{_LOCK}", on_progress):
                _loaded[folder] = _open(folder, on_progress)
        return _loaded[folder]


def _open(folder: Path, on_progress: Progress | None) -> "Kernels":
    place = folder / fingerprint()
    if place.exists() and not is_whole(place):
        _remove(place)
    _forget_others(folder, place)
    if place.exists():
        os.utime(place)
        return _compile(place)
    if on_progress is not None:
        on_progress("compiling the native engine, once for this version and processor: some 20 to 60 seconds")
    building = folder / f"{place.name}{_BUILDING}"
    if building.exists():  # a compilation that was interrupted
        _remove(building)
    building.mkdir(mode=0o700)
    kernels = _compile(building)
    _write_manifest(building)
    building.rename(place)
    return kernels


def check_private(folder: Path) -> None:
    """Make the folder with mode 0700, or check that the user owns it and others have no access.

    Raises:
        UsageError: it is a symbolic link, has another owner, or is open to others.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{folder} is a symbolic link or not a folder; expected a real folder. Name another folder.")
    if found.st_uid != os.geteuid():
        raise UsageError(f"{folder} belongs to another user; machine code is loaded only from your own folder.")
    if found.st_mode & 0o077:
        raise UsageError(f"{folder} is open to other users; expected mode 0700. Run: chmod 700 {folder}")


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Hash everything that machine code depends on: these sources, Python, numba, LLVM and the processor."""
    import llvmlite.binding

    digest = hashlib.sha256()
    for source in sorted(_SOURCES.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    made_by = (
        platform.python_version(),
        *(version(name) for name in ("numba", "llvmlite", "numpy")),
        llvmlite.binding.get_host_cpu_name(),
        llvmlite.binding.get_host_cpu_features().flatten(),
        *(os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")),
        str(_SOURCES),  # numba names its files after the sources' path
    )
    digest.update(json.dumps(made_by).encode())
    return digest.hexdigest()[:32]


def is_whole(place: Path) -> bool:
    """Tell whether every file has its digest in the manifest, and no other file is present."""
    try:
        wanted = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        return bool(wanted == _digests(place)) and bool(wanted)
    except (OSError, ValueError, RecursionError):
        return False


def _digests(place: Path) -> dict[str, str]:
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = str(path.relative_to(place))
        if path.is_symlink() or not path.is_file() or path.stat().st_uid != os.geteuid():
            found[name] = ""
        elif name != _MANIFEST:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _write_manifest(place: Path) -> None:
    (place / _MANIFEST).write_text(json.dumps(_digests(place), sort_keys=True), encoding="utf-8")


def _compile(place: Path) -> "Kernels":
    import numba

    from he_infer.ckks.engines.native.kernels.entry_points import compile_kernels

    with _numba_settings:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        settings.CACHE_DIR = str(place)
        try:
            return compile_kernels(cache=True)
        finally:
            settings.CACHE_DIR = before


def _forget_others(folder: Path, place: Path) -> None:
    """Remove all but the latest few versions, and interrupted compilations; not those that a process works on."""
    others = [path for path in folder.iterdir() if path.suffix != _LOCK and path.stem != place.name]
    versions = sorted((path for path in others if path.suffix != _BUILDING), key=lambda path: -path.lstat().st_mtime)
    for path in {*others} - {*versions[: _KEPT - 1]}:
        with _try_lock(folder / f"{path.stem}{_LOCK}") as free:
            if free:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _locked(path: Path, on_progress: Progress | None) -> Iterator[None]:
    """Let one process at a time compile a version: the others wait, and then load its result."""
    with _try_lock(path) as free:
        if free:
            yield
            return
    if on_progress is not None:
        on_progress("another process is compiling the native engine; waiting for its result")
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock during the context if no other process does; tell whether it is held."""
    descriptor = _open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
