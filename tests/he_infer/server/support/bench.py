"""A worker pool without HTTP, and a client's keys for it."""

from multiprocessing import forkserver
from pathlib import Path

import numpy as np

from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.bundle import HeadBundle
from he_infer.server.workers.limits import WorkerConfig, WorkerLimits
from he_infer.server.workers.pool import PRELOAD, WorkerPool
from tests.he_infer.server.support.kit import is_right


def leave_another_fork_server(*, also_own: bool = False) -> None:
    """End a fork server that an earlier test of this process began with other modules, or in another environment.

    A worker forked from one that has loaded the image cipher refuses to begin. A server's own process never has one.
    """
    running = forkserver._forkserver
    if running._forkserver_pid is not None and (also_own or running._preload_modules != PRELOAD):
        running._stop()


class Bench:
    """A pool of one worker, and a client's keys for its first plan."""

    def __init__(self, bundle: Path, *, key_cache: int = 256 << 20, queue: int = 8, wall_seconds: float = 20.0) -> None:
        config = WorkerConfig((bundle,), key_cache=key_cache, limits=WorkerLimits())
        self.pool = WorkerPool(config, workers=1, queue=queue, wall_seconds=wall_seconds)
        leave_another_fork_server()
        self.hello = self.pool.start()
        self.plan = Plan.from_json(self.hello["models"][0]["plans"][0]["plan"])
        self.secret = SecretKey.generate(self.plan.parameters)
        self.keys = self.secret.evaluation_keys(self.plan)
        self.names = sorted(self.keys)
        self.supplied = 0
        self.features = np.random.default_rng(4).uniform(-1, 1, (1, self.plan.width))
        self.parts = self.secret.encrypt(pack(self.plan, self.features), self.plan.input_scale)
        self.expected = HeadBundle.load(bundle).head.evaluate(self.features)

    def supply(self) -> list[bytes]:
        self.supplied += 1
        return [self.keys[name] for name in self.names]

    def evaluate(self, key_id: str = "k", parts: list[bytes] | None = None, tenant: str = "tenant") -> np.ndarray:
        task = {"do": "evaluate", "plan": self.plan.digest, "key_id": key_id, "names": self.names}
        _, out = self.pool.run(tenant, task, self.parts if parts is None else parts, self.supply)
        return unpack(self.plan, self.secret.open_answer(self.plan, out), 1)

    def right(self, key_id: str = "k", tenant: str = "tenant") -> bool:
        return is_right(self.plan, self.evaluate(key_id, tenant=tenant), self.expected)
