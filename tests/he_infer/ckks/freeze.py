"""Writes tests/vectors/ckks-v3.json: `python -m tests.he_infer.ckks.freeze`.

Run it only when a format changes on purpose. If only the planner's choice changes, write `made` alone: `python -m
tests.he_infer.ckks.freeze made`.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np

from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.layouts.ring import galois_element
from he_infer.ckks.packing import pack
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.search import make_plan
from he_infer.ckks.seal_format import SEAL_VERSION
from he_infer.client.keys.secret_key import SecretKey
from tests.he_infer.ckks.kit import features, make_head

FILE = Path(__file__).parents[2] / "vectors" / "ckks-v3.json"
SMALL = Parameters(4096, (36, 30, 36))
SCALE = 2.0**24
STEP = 3


def text(data: bytes) -> str:
    return base64.b85encode(data).decode("ascii")


def made() -> list[str]:
    """Plan three cases."""
    linear, deep = make_head((20, 3)), make_head((20, 6, 3))
    return [plan.to_json() for plan in (make_plan(linear), make_plan(deep), make_plan(deep, batch=3, policy="open"))]


def main() -> None:
    plan = make_plan(make_head((20, 3)))
    secret = SecretKey.generate(plan.parameters)
    x = features(1, 20)
    small = SecretKey.generate(SMALL)
    slots = np.random.default_rng(3).normal(size=SMALL.slots)
    keys = small.keys_for([galois_element(STEP, SMALL.ring_size)], relinearise=True, public=False)
    request = secret.encrypt(pack(plan, x), plan.input_scale)
    parts = secret.evaluation_keys(plan)
    evaluator = Evaluator(plan, make_head((20, 3)))
    frozen = {
        "seal": list(SEAL_VERSION),
        "plans": made(),
        "made": made(),
        "linear": {
            "secret": text(secret.to_bytes()),
            "public": text(parts["public"]),
            "request": [text(part) for part in request],
            "answer": [text(part) for part in evaluator.evaluate(request, evaluator.load_keys(parts))],
        },
        "keys": {
            "secret": text(small.to_bytes()),
            "galois": text(keys["galois"]),
            "relin": text(keys["relin"]),
            "ciphertext": text(small.encrypt([slots], SCALE)[0]),
        },
    }
    write(frozen)


def write(frozen: dict[str, object]) -> None:
    FILE.write_text(json.dumps(frozen, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    if sys.argv[1:] == ["made"]:
        write({**json.loads(FILE.read_text(encoding="ascii")), "made": made()})
    else:
        main()
