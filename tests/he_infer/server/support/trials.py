"""Trials of keys that take long: one waits, as on a busy machine, and one never ends."""

import time
from multiprocessing.connection import Connection

from he_infer.server.workers import limits, pipe
from he_infer.server.workers.limits import WorkerConfig


def run_waiting_trial(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Take longer by the clock than a trial may take of the processor, then accept the keys."""
    limits.grant_cpu(config.limits)
    pipe.send(connection, {})
    pipe.receive(connection)
    time.sleep(2 * config.limits.cpu_seconds)
    pipe.send(connection, {})


def run_endless_trial(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Use the processor without end."""
    limits.grant_cpu(config.limits)
    pipe.send(connection, {})
    pipe.receive(connection)
    while True:
        pass
