"""Keys that crash a worker: the request is not tried again, and the key set is refused from then on."""

import os
import signal
import threading
import time

import pytest

from he_infer.errors import RequestRefused, ServerBusy, ServerError
from he_infer.wire.refusals import Code
from tests.attacks.kit import FEATURES, Scene
from tests.he_infer.server.support.kit import client_of


def test_a_key_set_that_crashed_a_worker_is_refused_afterwards(scene: Scene) -> None:
    with client_of(scene.server, scene.hostile, patience=0) as hostile:
        hostile.scores(FEATURES)
        stop = threading.Event()

        def crash() -> None:
            while not stop.is_set():
                for pid in scene.worker_pids():
                    os.kill(pid, signal.SIGSEGV)
                time.sleep(0.002)

        crashing = threading.Thread(target=crash)
        crashing.start()
        codes = set()
        try:
            for _ in range(20):
                try:
                    hostile.scores(FEATURES)
                except RequestRefused as refused:
                    codes.add(refused.code)
                except (ServerBusy, ServerError):
                    continue
                if Code.BAD_KEYS.value in codes:
                    break
        finally:
            stop.set()
            crashing.join()
        assert Code.BAD_KEYS.value in codes
        with pytest.raises(RequestRefused, match="ended a process"):
            hostile.scores(FEATURES)
        hostile.session.forget_keys(hostile.plan.digest, hostile.key_set)
        hostile.session.register(hostile.plan, hostile.key_set, hostile.keys)
        assert hostile.scores(FEATURES).shape == (1, 3)
    scene.still_serves()
    scene.no_defect()
