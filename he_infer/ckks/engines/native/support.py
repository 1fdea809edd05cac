"""Test of whether this machine can run the native engine. Imports neither numba nor LLVM where they are absent."""

import importlib.util
import platform
import sys

from he_infer.installation import install_command

_X86 = ("x86_64", "amd64")
_ARM = ("aarch64", "arm64")


def find_obstacle() -> str | None:
    """Return the reason why the native engine cannot run here, for a log line; None if it can."""
    missing = [name for name in ("numba", "llvmlite", "zstandard") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: {install_command('server', 'fast')}"
    if sys.byteorder != "little" or sys.maxsize < 1 << 62:
        return "it needs a 64-bit little-endian machine"
    machine = platform.machine().lower()
    if machine in _ARM:  # fused multiply-adds are part of the architecture
        return None
    if machine not in _X86:
        return f"no fused multiply-add is known for the architecture {machine}"
    import llvmlite.binding

    if not llvmlite.binding.get_host_cpu_features().get("fma"):
        return "the processor has no fused multiply-add (FMA3)"
    return None
