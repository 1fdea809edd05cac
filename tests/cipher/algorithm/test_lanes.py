"""Processors whose vector units multiply 64 bits, and those whose do not, make the same key stream."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
from llvmlite import binding
host = binding.get_host_cpu_features
def without_whole_products():
    features = host()
    features["avx512dq"] = False
    return features
binding.get_host_cpu_features = without_whole_products

import numpy as np
from cipher.algorithm.engine import by_name, lanes
from cipher.algorithm.keystream import read_stream
from cipher.algorithm.network import create_network
made = []
for name in ("numba", "numpy"):
    streams = []
    for layers, nodes in ((4, 4), (5, 5), (4, 6)):
        network = create_network(bytes(range(32)), layers, nodes, by_name(name))
        streams.append(read_stream(network, 5003, by_name(name)))
    made.append(streams)
print(lanes.WHOLE_PRODUCTS, all(np.array_equal(one, other) for one, other in zip(*made, strict=True)))
"""


def test_stream_is_the_same_without_64_bit_vector_products(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False True\n"), done.stderr
