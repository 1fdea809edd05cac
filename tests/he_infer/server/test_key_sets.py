"""The service of key sets in this process, without HTTP."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from he_infer.ckks.engines.choice import EngineWish
from he_infer.server import service as service_module
from he_infer.server import tokens, turns
from he_infer.server.message import Request
from he_infer.server.service import Service
from he_infer.server.settings import ServerSettings
from he_infer.server.tokens import Scope
from he_infer.wire import envelope as wire
from he_infer.wire.refusals import Code, Refused
from tests.he_infer.server.support.bench import leave_another_fork_server
from tests.he_infer.server.support.trials import run_endless_trial, run_waiting_trial


class _Unending:
    """A turn whose event loop has closed."""

    def end(self) -> None:
        raise RuntimeError("Event loop is closed")


@contextmanager
def registering(bundle: Path, data_dir: Path, seconds: float) -> Iterator[tuple[Service, Callable[[], None]]]:
    """A service, and a function that registers keys which are none."""
    leave_another_fork_server()
    service = Service(
        ServerSettings(
            bundles=(bundle,), data_dir=data_dir, engine=EngineWish.SEAL, workers=1, registration_seconds=seconds
        )
    )
    try:
        plan = service.offer.models.models[0].plans[0].digest
        key_set = secrets.token_hex(16)
        token = tokens.new_token()
        service.metadata.tokens.add("clinic", token, frozenset({Scope.CLASSIFY}))
        caller = service.authenticate(token.text, Scope.CLASSIFY)

        def register() -> None:
            stamp = {"nonce": secrets.token_hex(16), "time": int(time.time() * 1000)}
            header = {"plan": plan, "key_set": key_set, **stamp}
            body = wire.Envelope(wire.Kind.KEYS, header, (("galois", b"no key"),)).encode()
            service.key_sets.register(Request(caller, "request"), plan, key_set, body)

        yield service, register
    finally:
        service.stop()


def test_a_request_whose_turn_cannot_be_ended_keeps_no_process(bundle: Path, tmp_path: Path) -> None:
    with registering(bundle, tmp_path / "data", 30) as (service, register):
        before = turns._turn.set(_Unending())
        with pytest.raises(RuntimeError):
            register()
        turns._turn.reset(before)
        assert service.trials.running == service.trials.waiting == 0
        with pytest.raises(Refused) as refused:  # by the process that tries keys, which is free
            register()
        assert refused.value.code is Code.BAD_KEYS


def test_a_trial_that_waits_for_the_processor_refuses_no_keys(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "run_trial", run_waiting_trial)
    with registering(bundle, tmp_path / "data", 1) as (service, register):
        register()
        assert service.trials.overdue == 0


def test_a_trial_that_uses_up_its_processor_time_ends(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "run_trial", run_endless_trial)
    with registering(bundle, tmp_path / "data", 1) as (service, register):
        with pytest.raises(Refused) as refused:
            register()
        assert refused.value.code is Code.BAD_KEYS
        assert service.trials.overdue == 1
