"""Builds the server's parts from its settings, and stops them again. Independent of HTTP."""

import math
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import structlog

from he_infer.ckks.engines.choice import EngineChoice, choose_engine
from he_infer.ckks.engines.native.code_cache import find_code_folder
from he_infer.errors import NotThisFormat, UsageError
from he_infer.files import PRIVATE, write_bytes
from he_infer.server import tokens
from he_infer.server.authentication import authenticate, authenticate_from_memory, check_again
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.evidence.recording import Recorder
from he_infer.server.evidence.signing import Signer
from he_infer.server.evidence.telemetry import Exchanges, Metrics
from he_infer.server.inference import InferenceService
from he_infer.server.key_sets import KeySets
from he_infer.server.metadata import Caller, Metadata, Quotas
from he_infer.server.offer import Offer
from he_infer.server.settings import ServerSettings
from he_infer.server.slow_steps import say_if_slow
from he_infer.server.storage.blobs import Blobs
from he_infer.server.storage.objects import ObjectStore
from he_infer.server.storage.scrub import ORPHAN_AGE, remove_orphans
from he_infer.server.storage.spool import Spool
from he_infer.server.tokens import Scope
from he_infer.server.workers.clean_environment import CODE_VARIABLE
from he_infer.server.workers.limits import WorkerConfig, WorkerLimits
from he_infer.server.workers.pool import WorkerPool, run_trial
from he_infer.wire.bodies import ModelInfo
from he_infer.wire.refusals import Code, Refused

FIRST_CLIENT = "default"
AUDIT_FILE = "audit.jsonl"
DATABASE_FILE = "metadata.sqlite3"
SIGNING_KEY_FILE = "signing.key"
_HOUSEKEEPING_SECONDS = 60.0
_ORPHAN_SECONDS = 3600.0
_TRIAL_PATIENCE = 6
"""Longest trial of keys by the clock, in its longest processor time: a busy machine refuses no honest keys."""


def prepare_data_dir(folder: Path) -> None:
    """Make the folder of the server's data, readable by its owner alone.

    Raises:
        UsageError: it exists and others may read it.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        raise UsageError(f"{folder} is open to other users; expected mode 0700. Run: chmod 700 {folder}")


def open_metadata(settings_url: str | None, data_dir: Path) -> Metadata:
    """Open the database of the settings: by URL, or SQLite in the data folder."""
    return Metadata(settings_url) if settings_url else Metadata.sqlite(data_dir / DATABASE_FILE)


class Service:
    """The running server behind its routes.

    Args:
        settings: checked settings.

    Raises:
        UsageError, FormatError, OSError, Refused: the data folder, the stores or a bundle are not usable.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.draining = False
        self._log = structlog.get_logger("he_infer.server")
        self._stop = threading.Event()
        self._started = (time.time(), time.monotonic())
        # Parts that were started are stopped again where a later step fails, or a signal comes between two steps.
        with ExitStack() as begun:
            self._begin(begun)
            self._begun = begun.pop_all()

    def _begin(self, begun: ExitStack) -> None:
        settings = self.settings
        prepare_data_dir(settings.data_dir)
        with say_if_slow("the database, which another process holds, migrates or has not started"):
            self.metadata = open_metadata(settings.database_url, settings.data_dir)
        begun.callback(self.metadata.close)
        self.blobs = Blobs(settings.blob_url or settings.data_dir / "blobs")
        self.audit = AuditLog(settings.data_dir / AUDIT_FILE)
        with say_if_slow("the audit log, which another process holds"):
            torn = self.audit.repair()
        if torn:
            self._log.warning("audit", note="a line that was cut short is set aside", bytes=torn)
        self.signer = Signer.load_or_create(settings.signing_key or settings.data_dir / SIGNING_KEY_FILE)
        self.recorder = Recorder(settings.record_dir) if settings.record_dir else None
        self._default_quotas = Quotas(
            storage_quota=settings.storage_quota,
            daily_queries=settings.daily_queries,
            total_queries=settings.total_queries,
            requests_per_minute=settings.requests_per_minute,
            registrations_per_hour=settings.registrations_per_hour,
        )
        self._complete = lru_cache(1024)(self._fill)  # many clients have the same bounds
        with say_if_slow("the database, which another process holds"):
            self._first_token()
        self.spool = Spool(settings.data_dir / "spool")
        self.objects = ObjectStore(self.metadata, self.blobs, self.audit, self.spool, settings.max_object)
        self.engine = self._choose_engine()
        self.pool = WorkerPool(
            self._worker_config(settings.cpu_seconds),
            workers=settings.workers,
            queue=settings.queue,
            wall_seconds=settings.wall_seconds,
            queue_seconds=settings.queue_seconds,
        )
        # One process: registrations wait for one another, and other requests wait for none of them.
        self.trials = WorkerPool(
            self._worker_config(math.ceil(settings.registration_seconds)),
            workers=1,
            queue=settings.queue,
            wall_seconds=_TRIAL_PATIENCE * settings.registration_seconds,
            entry=run_trial,
            throw_away=True,
        )
        for pool in (self.pool, self.trials):
            begun.callback(pool.drain, 0.0)
        with say_if_slow("the first worker, which reads the bundles, plans what is not planned and encodes weights"):
            hello = self.pool.start()
        self.trials.start()
        self.seal = str(hello["engine"])
        models = [ModelInfo.model_validate(model) for model in hello["models"]]
        self._say_limits(models, [str(line) for line in hello["unconfined"]])
        self.metrics = Metrics(self.pool, settings.data_dir, self.seal)
        self.exchanges = Exchanges(self.metrics)
        self.offer = Offer(
            models,
            {str(plan): (int(keys), int(request)) for plan, (keys, request) in hello["bodies"].items()},
            max_keys=settings.max_keys,
            max_request=settings.max_request,
        )
        self.key_sets = KeySets(
            metadata=self.metadata,
            blobs=self.blobs,
            trials=self.trials,
            audit=self.audit,
            offer=self.offer,
            seal=self.seal,
            max_bytes=settings.max_keys,
            window=settings.clock_window,
        )
        self.inference = InferenceService(
            metadata=self.metadata,
            pool=self.pool,
            signer=self.signer,
            audit=self.audit,
            offer=self.offer,
            key_sets=self.key_sets,
            seal=self.seal,
            max_bytes=settings.max_request,
            window=settings.clock_window,
            hidden_daily_queries=settings.hidden_daily_queries,
        )
        self._housekeeping = threading.Thread(target=self._keep_house, name="he-infer-housekeeping", daemon=True)
        self._housekeeping.start()

    def _choose_engine(self) -> EngineChoice:
        folder = (self.settings.code_dir or find_code_folder(self.settings.data_dir)).resolve()
        with say_if_slow("the native engine's self-test"):
            choice = choose_engine(self.settings.engine, folder, lambda line: self._log.info("engine", note=line))
        self._log.info("engine", engine=choice.name)
        # The fork server reads it before any worker's configuration reaches it.
        os.environ.pop(CODE_VARIABLE, None)
        if choice.code is not None:
            os.environ[CODE_VARIABLE] = str(choice.code)
        return choice

    def _worker_config(self, cpu_seconds: int) -> WorkerConfig:
        settings = self.settings
        return WorkerConfig(
            bundles=tuple(path.resolve() for path in settings.bundles),
            batches=settings.batches,
            precision=settings.precision,
            key_cache=settings.key_cache,
            engine=self.engine,
            limits=WorkerLimits(
                address_space=settings.worker_memory,
                cpu_seconds=cpu_seconds,
                # SEAL loads through a file in memory, so the largest thing it may be given must fit into one.
                file_bytes=max(settings.max_keys, settings.max_request),
            ),
        )

    def _say_limits(self, models: Sequence[ModelInfo], unconfined: Sequence[str]) -> None:
        """Log at the start which limits hold by default, and which process restrictions the system lacks."""
        for line in unconfined:
            self._log.warning("unconfined", note=f"workers run without a lock that this system does not have: {line}")
        hidden = [model.id for model in models if model.policy == "hidden"]
        if hidden:
            images = self.settings.hidden_daily_queries
            self._log.info(
                "hidden_limit",
                models=hidden,
                images_a_day=images,
                note=f"a client without a daily limit of its own may classify {images} images a day with each of these "
                "models; the setting is hidden_daily_queries",
            )

    def authenticate(self, token: str | None, scope: Scope) -> Caller:
        """See `he_infer.server.authentication.authenticate`; the caller's bounds are its own, or else the settings'.

        Raises:
            Refused: `unauthorised`, `forbidden`, `rate_limit`, `storage`.
        """
        caller = self._with_defaults(authenticate(self.metadata, token, scope))
        self.metadata.rates.admit_request(caller)
        return caller

    def authenticate_from_memory(self, token: str | None, scope: Scope) -> Caller | None:
        """Do what `authenticate` does without waiting for anything; None where it has to wait.

        Raises:
            Refused: `unauthorised`, `forbidden`.
        """
        caller = authenticate_from_memory(self.metadata, token, scope)
        if caller is None:
            return None
        caller = self._with_defaults(caller)
        return caller if caller.quotas.requests_per_minute is None else None

    def check_again(self, caller: Caller, *, ask: bool) -> None:
        """See `he_infer.server.authentication.check_again`."""
        check_again(self.metadata, caller, ask=ask)

    def _with_defaults(self, caller: Caller) -> Caller:
        return replace(caller, quotas=self._complete(caller.quotas))

    def _fill(self, own: Quotas) -> Quotas:
        given = {name: value for name, value in asdict(own).items() if value is not None}
        return replace(self._default_quotas, **given)

    def check_ready(self) -> None:
        """Check that a request could be answered now.

        Raises:
            Refused: `draining`, `storage`, or `busy` while no worker is ready.
        """
        if self.draining:
            raise Refused(Code.DRAINING, "The server is shutting down; try again later.", retry_after=5.0)
        self.metadata.ping()
        self.blobs.ping()
        if not os.access(self.settings.data_dir, os.W_OK | os.X_OK):
            raise Refused(Code.STORAGE, "The data folder cannot be written.", retry_after=5.0)
        if not self.pool.ready:
            raise Refused(Code.BUSY, "No worker process is ready yet.", retry_after=1.0)

    def stop(self) -> None:
        """Finish what was accepted, end the workers, close the stores; a second call changes nothing."""
        if self.draining:
            return
        self.draining = True
        self._stop.set()
        with self._begun:
            self.pool.drain(self.settings.drain_seconds)
            self._housekeeping.join(timeout=10.0)
            try:
                self.metadata.queries.settle()
            except Refused as refused:  # counts stay higher by what was counted ahead if the machine restarts
                self._log.warning("settle", code=refused.code.value, message=refused.message)

    def _first_token(self) -> None:
        """Take the first client's token from the token file, or make it there. Known tokens are left as they are."""
        path = self.settings.token_file
        if path is None:
            return
        if path.exists():
            token = read_token(path)
            if self.metadata.tokens.find(token.token_id) is not None:
                return
        else:
            token = tokens.new_token()
            write_secret(path, token.text + "\n")
        try:
            self.metadata.tokens.add(FIRST_CLIENT, token, frozenset({Scope.CLASSIFY, Scope.STORE}))
        except Refused as refused:
            if refused.code is Code.EXISTS and self.metadata.tokens.find(token.token_id) is not None:
                return  # another server on this database took it at the same moment
            raise
        self.audit.by_operator("token.add", token=token.token_id, name=FIRST_CLIENT)

    def _keep_house(self) -> None:
        next_orphans = 0.0
        while True:
            try:
                if (now := self._cautious_time()) is not None:
                    self.metadata.queries.forget_nonces(now)
                if time.monotonic() >= next_orphans:  # it lists the whole store, which costs requests at S3
                    self._remove_orphans()
                    next_orphans = time.monotonic() + _ORPHAN_SECONDS
            except Refused as refused:  # a store that is away now may be back at the next turn
                self._log.warning("housekeeping", code=refused.code.value, message=refused.message)
            if self._stop.wait(_HOUSEKEEPING_SECONDS):
                return

    def _cautious_time(self) -> float | None:
        """The earlier of the wall clock and of what it was at the start plus the time since; None soon after the start.

        A wall clock that is ahead and is set back again must not make the server forget nonces whose envelopes are then
        fresh once more. Where it was ahead at the start already, an envelope that was accepted before is stale by any
        clock after twice the window.
        """
        wall, steady = self._started
        elapsed = time.monotonic() - steady
        return None if elapsed < 2 * self.settings.clock_window else min(time.time(), wall + elapsed)

    def _remove_orphans(self) -> None:
        removed = remove_orphans(self.metadata, self.blobs)
        bound = time.time() - ORPHAN_AGE.total_seconds()
        for file in (self.settings.data_dir / "spool").iterdir():
            if file.stat().st_mtime < bound:
                file.unlink(missing_ok=True)
        if removed:
            self._log.info("orphans", removed=removed)


def read_token(path: Path) -> tokens.NewToken:
    """Read the token in a file.

    Raises:
        NotThisFormat: the file holds no token.
        OSError: it cannot be read.
    """
    # Editors and shells of some systems put a byte order mark before a text, which is no part of it.
    text = path.read_bytes().decode("utf-8-sig", errors="replace").strip()
    token_id = tokens.token_id(text)
    if token_id is None:
        raise NotThisFormat(
            f"{path} does not hold a token: expected one line of UTF-8 text that begins with hei_. Remove the file to "
            "have a token made."
        )
    return tokens.NewToken(token_id, text, tokens.digest(text))


def write_secret(path: Path, text: str) -> None:
    """Create a file that its owner alone may read.

    Raises:
        OSError: it exists, or cannot be written.
    """
    write_bytes(path, text.encode(), mode=PRIVATE, replace=False)
