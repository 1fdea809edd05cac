"""Records: one line of JSON for each run of an experiment, so that every published figure can be traced and rerun.

A file of records is JSON Lines in UTF-8. Each line is one object with exactly these members:

    version     1
    kind        what was measured: "accuracy", "price", "leak", ...
    command     the command line that gives these figures again
    seed        the integer that all randomness of the run comes from (except keys, which are always fresh)
    parameters  what was asked for; two runs with the same kind, seed and parameters are the same run
    versions    packages and their versions, and the source's commit where there is one
    machine     processor, cores, memory, system
    figures     what was found; null stands for a number that does not exist (an AUC of one class, say)

Members of the last four are objects of JSON values; there is no NaN and no infinity.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.errors import RecordError
from he_infer.machine import usable_cores

VERSION = 1
MEMBERS = ("version", "kind", "command", "seed", "parameters", "versions", "machine", "figures")
SUFFIX = ".jsonl"

_PACKAGES = ("he-infer", "numpy", "torch", "scikit-learn", "scipy", "tenseal", "pydicom")


@dataclass(frozen=True)
class Record:
    """A run of an experiment and its figures."""

    kind: str
    command: str
    seed: int
    parameters: Mapping[str, Any]
    figures: Mapping[str, Any]
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    version: int = VERSION

    @classmethod
    def of(
        cls, kind: str, *, command: str, seed: int, parameters: Mapping[str, Any], figures: Mapping[str, Any]
    ) -> "Record":
        """A record of a run on this machine with the versions installed now. NaN and infinity become null."""
        return cls(kind, command, seed, _to_json(parameters), _to_json(figures), find_versions(), describe_machine())

    @property
    def key(self) -> str:
        """Identifier of the run, not of its outcome: equal for equal kind, seed and parameters."""
        return compute_run_key(self.kind, self.seed, self.parameters)

    def to_line(self) -> str:
        """Encode as a line of JSON, without its end.

        Raises:
            RecordError: a member holds what JSON has no form for.
        """
        try:
            values = asdict(self)
            return json.dumps({name: values[name] for name in MEMBERS}, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RecordError(f"The record of '{self.command}' cannot be written as JSON: {error}.") from error

    @classmethod
    def from_line(cls, line: str) -> "Record":
        """Read one line.

        Raises:
            RecordError: not JSON, a member missing, unknown or of another type, or another version.
        """
        try:
            values = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"not JSON ({error})") from error
        if not isinstance(values, dict) or "version" not in values:
            raise RecordError("not a record: an object with a member 'version' was expected")
        if values["version"] != VERSION:
            raise RecordError(f"a record of version {values['version']!r}; this release reads version {VERSION}")
        if set(values) != set(MEMBERS):
            wrong = ", ".join(sorted(set(values) ^ set(MEMBERS)))
            raise RecordError(f"members missing or unknown: {wrong}; expected {', '.join(MEMBERS)}")
        typed = (("kind", str), ("command", str), ("seed", int), *((name, dict) for name in MEMBERS[4:]))
        for name, wanted in typed:
            if not isinstance(values[name], wanted) or isinstance(values[name], bool):
                raise RecordError(f"'{name}' is no {wanted.__name__}")
        return cls(**values)


def compute_run_key(kind: str, seed: int, parameters: Mapping[str, Any]) -> str:
    """The key of a run that may not have happened yet: SHA-256 of its canonical JSON, in hex."""
    text = json.dumps([kind, seed, _to_json(parameters)], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def append_record(path: Path, record: Record) -> None:
    """Add one record to a file, which is made where there is none.

    The line goes out in one write under an exclusive lock and is synced, so that several processes may append to one
    file. A line that a crash cut off is removed first: it is no record.

    Raises:
        RecordError: the record cannot be written as JSON.
        OSError: the folder is missing or not writable, or the disk is full.
    """
    line = record.to_line().encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = os.lseek(descriptor, _whole(descriptor), os.SEEK_SET)
        os.ftruncate(descriptor, end)
        written = os.write(descriptor, line)
        if written != len(line):
            os.ftruncate(descriptor, end)
            raise OSError(28, "No space left on device", str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_records(path: Path) -> list[Record]:
    """All records of a file, in order. A last line without its end is left out: a crash cut it off.

    Raises:
        RecordError: no such file, or a line that is no record; the message names the line.
    """
    return list(_read(path))


def _read(path: Path) -> Iterator[Record]:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise RecordError(f"There is no file of records {path}. Run the experiment that writes it first.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read as records (JSON Lines in UTF-8).") from error
    # Not `splitlines`, which also ends a line at characters that JSON leaves as they are, such as U+2028.
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        if not line.strip():
            continue
        try:
            yield Record.from_line(line)
        except RecordError as error:
            raise RecordError(f"{path}, line {number}: {error}. Remove the line, or run the experiment anew.") from None


def keep_latest(records: list[Record]) -> dict[str, Record]:
    """The last record of each run, by its key."""
    return {record.key: record for record in records}


def _whole(descriptor: int) -> int:
    """Number of bytes of a file that are whole lines."""
    size = os.fstat(descriptor).st_size
    at = size
    while at > 0:
        start = max(0, at - (1 << 16))
        found = os.pread(descriptor, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _to_json(value: Any) -> Any:
    """Numbers, text, lists and objects of JSON: numpy's scalars and arrays become Python's, NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(name): _to_json(member) for name, member in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_to_json(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


@cache
def find_versions() -> dict[str, str]:
    """Python, the packages that decide figures, and the source's commit (with `+` where files are changed)."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = _commit()
    if commit:
        found["commit"] = commit
    return found


@cache
def describe_machine() -> dict[str, Any]:
    """Describe this machine, without host name and user name."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603 - fixed words

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
