"""Writes tests/vectors/ckks-v2.json: `python -m tests.ckks.freeze`. Only where a format changes on purpose."""

import base64
import json
from pathlib import Path

import numpy as np

from he_infer.ckks.engine import galois_element
from he_infer.ckks.packing import pack
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planner import make_plan
from he_infer.ckks.seal import SEAL_VERSION
from he_infer.client.secret_key import SecretKey
from tests.ckks.kit import features, make_head

FILE = Path(__file__).parents[1] / "vectors" / "ckks-v2.json"
SMALL = Parameters(4096, (36, 30, 36))
SCALE = 2.0**24
STEP = 3


def text(data: bytes) -> str:
    return base64.b85encode(data).decode("ascii")


def main() -> None:
    linear, deep = make_head((20, 3)), make_head((20, 6, 3))
    plan = make_plan(linear)
    secret = SecretKey.generate(plan.parameters)
    x = features(1, 20)
    small = SecretKey.generate(SMALL)
    slots = np.random.default_rng(3).normal(size=SMALL.slots)
    keys = small.keys_for([galois_element(STEP, SMALL.ring_size)], relinearise=True, public=False)
    frozen = {
        "seal": list(SEAL_VERSION),
        "plans": [plan.to_json(), make_plan(deep).to_json(), make_plan(deep, batch=3, policy="open").to_json()],
        "linear": {
            "secret": text(secret.to_bytes()),
            "public": text(secret.evaluation_keys(plan)["public"]),
            "request": [text(part) for part in secret.encrypt(pack(plan, x), plan.input_scale)],
        },
        "keys": {
            "secret": text(small.to_bytes()),
            "galois": text(keys["galois"]),
            "relin": text(keys["relin"]),
            "ciphertext": text(small.encrypt([slots], SCALE)[0]),
        },
    }
    FILE.write_text(json.dumps(frozen, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
