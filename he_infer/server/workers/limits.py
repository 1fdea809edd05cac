"""Settings of a worker process, and limits on its use of the machine.

The worker bounds itself before it reads a byte from outside.
"""

import resource
from dataclasses import dataclass, field
from pathlib import Path

from he_infer.ckks.engines.choice import EngineChoice


@dataclass(frozen=True)
class WorkerLimits:
    """Bounds on one worker process; beyond them it dies alone, and the server starts another."""

    address_space: int = 4 << 30
    """Bytes of address space (RLIMIT_AS)."""
    cpu_seconds: int = 60
    """Seconds of processor time a task (RLIMIT_CPU, moved on before each task)."""
    file_bytes: int = 256 << 20
    """Bytes of any file it writes (RLIMIT_FSIZE): SEAL saves through files in memory."""
    open_files: int = 64
    """Open descriptors (RLIMIT_NOFILE)."""


@dataclass(frozen=True)
class WorkerConfig:
    """Settings that a worker starts with."""

    bundles: tuple[Path, ...]
    batches: tuple[int, ...] | None = None
    precision: float | None = None
    key_cache: int = 256 << 20
    """Bytes of memory for evaluation keys."""
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    engine: EngineChoice = field(default_factory=EngineChoice)
    """The same for all workers of a server; SEAL by default."""


def apply(limits: WorkerLimits) -> None:
    """Limit this process for the rest of its life, and forbid core dumps, which would hold evaluation keys."""
    _bound(resource.RLIMIT_AS, limits.address_space)
    _bound(resource.RLIMIT_FSIZE, limits.file_bytes)
    _bound(resource.RLIMIT_NOFILE, limits.open_files)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def grant_cpu(limits: WorkerLimits) -> None:
    """Allow this process `cpu_seconds` more from now on; the kernel ends it with SIGXCPU after that."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(usage.ru_utime + usage.ru_stime) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = spent + limits.cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _bound(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
