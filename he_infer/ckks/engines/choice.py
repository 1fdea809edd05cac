"""Choice of the engine, made once for a server, so that all its workers use the same one."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING

from he_infer.ckks.parameters import Parameters
from he_infer.errors import UsageError
from he_infer.machine import interrupts_held

if TYPE_CHECKING:
    from he_infer.ckks.engines.native.engine import NativeEngine
    from he_infer.ckks.engines.seal import SealEngine

_SECONDS = 600.0
"""Seconds allowed for a first compilation on a slow and busy machine."""
_JOIN_SECONDS = 5.0


class EngineWish(StrEnum):
    """Engine that an operator asks for."""

    AUTO = "auto"
    """The native engine where it passes its self-test, else SEAL."""
    NATIVE = "native"
    SEAL = "seal"


@dataclass(frozen=True)
class EngineChoice:
    """The engine of all workers of a server.

    `code`: folder of the native engine's machine code; None for SEAL. Plans with primes of more than 50 bits are
    computed by SEAL in any case.
    """

    code: Path | None = None

    @property
    def name(self) -> str:
        """`native` or `seal`."""
        return "seal" if self.code is None else "native"

    def make(self, parameters: Parameters) -> "NativeEngine | SealEngine":
        """The engine for these parameters."""
        if self.code is not None:
            from he_infer.ckks.engines.native.code_cache import load_kernels
            from he_infer.ckks.engines.native.engine import NativeEngine
            from he_infer.ckks.engines.native.kernels.ring import MAX_PRIME_BITS

            if max(parameters.modulus_bits) <= MAX_PRIME_BITS:
                return NativeEngine(parameters, load_kernels(self.code))
        from he_infer.ckks.engines.seal import SealEngine

        return SealEngine(parameters)


def choose_engine(wish: EngineWish, code: Path, on_line: Callable[[str], None]) -> EngineChoice:
    """Choose the engine; the native engine's self-test runs in a process of its own.

    Args:
        wish: what the operator asks for.
        code: folder for machine code, compiled there where it is missing: some 30 s of processor time, once.
        on_line: called with each line of progress.

    Raises:
        UsageError: the native engine is asked for and cannot be used; the message says why.
    """
    if wish is EngineWish.SEAL:
        return EngineChoice()
    obstacle = _find_obstacle(code, on_line)
    if obstacle is None:
        return EngineChoice(code)
    if wish is EngineWish.NATIVE:
        raise UsageError(f"The native engine cannot be used: {obstacle}. Use --engine auto or seal.")
    on_line(f"the native engine, which is faster than SEAL, cannot be used: {obstacle}")
    return EngineChoice()


def _find_obstacle(code: Path, on_line: Callable[[str], None]) -> str | None:
    command = [sys.executable, "-m", "he_infer.ckks.engines.native", str(code)]
    with interrupts_held():
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    reader = Thread(target=_relay, args=(process.stderr, on_line), daemon=True)
    reader.start()
    with process:
        try:
            process.wait(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"its self-test took longer than {_SECONDS:.0f} s"
        except BaseException:  # a signal that ends the server's start ends the self-test with it
            process.kill()
            process.wait()
            raise
        finally:
            reader.join(timeout=_JOIN_SECONDS)
        answer = process.stdout.read() if process.stdout is not None else ""
    try:
        found = json.loads(answer)["obstacle"]
    except (ValueError, KeyError, TypeError):
        return f"its self-test ended without a result (exit status {process.returncode})"
    return None if found is None else str(found)


def _relay(lines: IO[str] | None, on_line: Callable[[str], None]) -> None:
    for line in lines or ():
        on_line(line.rstrip())
