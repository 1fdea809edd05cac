"""A linear head under Concrete ML, run by an interpreter that has it: `PYTHON -m peers.concrete_peer DATA.npz`.

Concrete ML pins its own torch, so it cannot live beside this project. `he-experiments price --concrete-python PYTHON`
starts this file there; it imports nothing of the project. DATA.npz holds `train` (n, width), `labels` (n,), `test`
(m, width), `bits` (number of bits that weights and features are quantised to). One JSON object goes to standard output.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Fit, compile, make keys, and classify every test row through client and server objects."""
    import numpy as np
    from concrete.ml.deployment import FHEModelClient, FHEModelDev, FHEModelServer
    from concrete.ml.sklearn import LogisticRegression

    with np.load(path) as arrays:
        train, labels, test, bits = (arrays[name] for name in ("train", "labels", "test", "bits"))
    model = LogisticRegression(n_bits=int(bits), max_iter=2000)
    model.fit(train, labels)
    began = time.perf_counter()
    model.compile(train)
    compiled = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        FHEModelDev(str(folder), model).save()
        client = FHEModelClient(str(folder), key_dir=str(Path(name) / "keys"))
        server = FHEModelServer(str(folder))
        server.load()
        began = time.perf_counter()
        client.generate_private_and_evaluation_keys()
        keys = client.get_serialized_evaluation_keys()
        keyed = time.perf_counter() - began
        answers: list[Any] = []
        wall: list[float] = []
        up = down = 0
        cpu = time.process_time()
        for row in test:
            began = time.perf_counter()
            sent = client.quantize_encrypt_serialize(row[None])
            answer = server.run(sent, keys)
            answers.append(client.deserialize_decrypt_dequantize(answer)[0].tolist())
            wall.append(1e3 * (time.perf_counter() - began))
            up, down = len(sent), len(answer)
        spent = 1e3 * (time.process_time() - cpu) / len(test)
    clear = model.predict_proba(test).tolist()
    found = {
        "answers": answers,
        "clear": clear,
        "wall_ms": statistics.median(wall),
        "cpu_ms": spent,
        "bytes_up": up,
        "bytes_down": down,
        "key_bytes": len(keys),
        "compile_seconds": compiled,
        "key_seconds": keyed,
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
