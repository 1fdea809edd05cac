"""Machine code of the transform for other processors has vectors and fused multiply-adds, and no library calls."""

import re
from typing import Any

import pytest

from he_infer.ckks.engines.native.kernels.compiling import OPTIONS
from he_infer.ckks.engines.native.support import find_obstacle

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason="no native engine on this machine")


@pytest.fixture(scope="module")
def module() -> str:
    """The LLVM code of a forward transform, before it is compiled for a processor."""
    import numba
    from numba import types

    from he_infer.ckks.engines.native.kernels import transforms

    doubles, number, real = types.float64[::1], types.int64, types.float64
    given = (doubles, number, doubles, doubles, number, number, doubles, doubles, doubles, real, real)
    njit: Any = numba.njit
    function: Any = transforms.forward
    compiled = njit(types.void(*given), **OPTIONS)(function.py_func)
    (text,) = compiled.inspect_llvm().values()
    return str(text)


def assemble(text: str, triple: str, cpu: str) -> str:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    text = re.sub(r'target triple = ".*?"', f'target triple = "{triple}"', text)
    text = re.sub(r'target datalayout = ".*?"', f'target datalayout = "{machine.target_data}"', text)
    # LLVM has already inserted an instruction of this processor for numba's reference counts, and its features.
    text = re.sub(r"= (tail )?call i8 @llvm\.x86\.atomic\.sub\.cc[^\n]*", "= add i8 0, 1", text)
    text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", text)
    return str(machine.emit_assembly(llvm.parse_assembly(text)))


def count(pattern: str, assembly: str) -> int:
    return len(re.findall(pattern, assembly))


def test_avx2_code_has_fused_multiply_adds_and_no_calls(module: str) -> None:
    assembly = assemble(module, "x86_64-unknown-linux-gnu", "haswell")
    assert count(r"vfn?m(add|sub)\w+pd\s.*%ymm", assembly) > 50
    assert count(r"vroundpd\s.*%ymm", assembly) > 20
    assert count(r"%zmm", assembly) == 0
    assert count(r"callq?\s+\*?(fma|rint|nearbyint)", assembly) == 0


def test_arm_code_has_fused_multiply_adds_and_no_calls(module: str) -> None:
    assembly = assemble(module, "aarch64-unknown-linux-gnu", "neoverse-n1")
    assert count(r"fml[as]\s+v\d+\.2d", assembly) > 50
    assert count(r"frint[nx]\s+v\d+\.2d", assembly) > 20
    assert count(r"\bbl\s+(fma|rint|nearbyint)\b", assembly) == 0


def test_code_without_fused_multiply_adds_would_call_a_library(module: str) -> None:
    """`support` refuses such processors, because each multiply-add would be a call."""
    assembly = assemble(module, "x86_64-unknown-linux-gnu", "x86-64")
    assert count(r"vfn?m(add|sub)\w+pd", assembly) == 0
    assert count(r"\bfma\b", assembly) > 0
