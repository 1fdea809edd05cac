"""The server's settings: one checked, frozen value from a TOML file, the environment and the command line.

Environment variables are named HE_INFER_SERVER_<FIELD>, as in HE_INFER_SERVER_PORT=8443. No setting holds a secret.
"""

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from he_infer.ckks.engines.choice import EngineWish
from he_infer.errors import UsageError
from he_infer.machine import usable_cores

ENVIRONMENT_PREFIX = "HE_INFER_SERVER_"
_MIB = 1 << 20


def _default_workers() -> int:
    return min(4, usable_cores())


class ServerSettings(BaseSettings):
    """Everything an operator may set. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", allow_inf_nan=False)

    bundles: tuple[Path, ...] = Field(
        min_length=1, description="Bundle files (.hebundle) to serve; only their heads are read."
    )
    data_dir: Path = Field(
        Path("he-infer-server"), description="Database, blobs, audit log and signing key; made with mode 0700."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port; 0 takes a free one.")
    reuse_port: bool = Field(
        False, description="Let another server process listen on the same port: for restarts without a gap."
    )
    port_file: Path | None = Field(
        None, description="Write the port here once the server accepts connections; the file goes when the server ends."
    )
    token_file: Path | None = Field(None, description="A first token is taken from here, or made and written here.")
    insecure_http: bool = Field(
        False,
        description="Speak plain HTTP on an address beyond loopback, where a proxy before the server terminates TLS.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of proxies before the server, whose X-Forwarded-For is believed: each must "
        "set that header itself.",
    )
    tls_cert: Path | None = Field(None, description="PEM certificate chain; with tls_key, the server speaks HTTPS.")
    tls_key: Path | None = Field(None, description="PEM private key of the certificate.")
    database_url: str | None = Field(None, description="SQLAlchemy URL; by default SQLite in data_dir.")
    blob_url: str | None = Field(
        None, description="Object store URL such as s3://bucket/prefix; by default a folder in data_dir."
    )
    signing_key: Path | None = Field(
        None,
        description="Ed25519 key of the receipts, 32 raw bytes; by default signing.key in data_dir. Servers behind one "
        "address share it.",
    )

    storage_quota: int | None = Field(None, ge=0, description="Storage quota in bytes of a client without its own.")
    daily_queries: int | None = Field(None, ge=0, description="Images a day for a client without its own limit.")
    total_queries: int | None = Field(
        None, ge=0, description="Images with any one model, ever, for a client without its own limit."
    )
    hidden_daily_queries: int = Field(
        2000,
        ge=0,
        description="Images a day with each model of policy 'hidden', for a client without its own daily limit.",
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Requests a minute for a client without its own limit."
    )
    registrations_per_hour: int = Field(
        60,
        ge=1,
        description="Registrations of evaluation keys an hour for a client without its own limit; each is tried in a "
        "process of its own.",
    )
    malformed_per_minute: int = Field(
        600,
        ge=1,
        description="Malformed messages a minute of each client that are answered at once; more are answered at this "
        "rate.",
    )

    batches: tuple[int, ...] | None = Field(
        None, min_length=1, description="Images a request, one plan each; for whole bundles alone, 1 by default."
    )
    precision: float | None = Field(
        None, gt=0, lt=1, description="Largest error of a score of plans of whole bundles; 0.001 by default."
    )

    engine: EngineWish = Field(
        EngineWish.AUTO, description="auto: the native engine where it passes its self-test, else SEAL; or one of them."
    )
    code_dir: Path | None = Field(
        None,
        description="Machine code of the native engine, mode 0700; by default in the user's cache folder.",
    )
    workers: int = Field(default_factory=_default_workers, ge=1, le=256, description="Worker processes.")
    queue: int = Field(64, ge=1, le=100_000, description="Requests that may wait for a worker; more are answered 429.")
    queue_seconds: float = Field(
        1.0, gt=0, description="Requests that would wait longer, by the measured time of one, are answered 429."
    )
    wall_seconds: float = Field(30.0, gt=0, description="Longest evaluation before its worker is killed.")
    cpu_seconds: int = Field(60, ge=1, description="Processor time of one evaluation.")
    registration_seconds: float = Field(
        15.0,
        gt=0,
        description="Processor time of a trial of registered evaluation keys; by the clock it may take six times that.",
    )
    worker_memory: int = Field(4096 * _MIB, ge=512 * _MIB, description="Address space of a worker.")
    key_cache: int = Field(256 * _MIB, ge=0, description="Memory for evaluation keys in each worker.")
    drain_seconds: float = Field(30.0, ge=0, description="How long accepted requests may take once the server stops.")

    max_keys: int = Field(512 * _MIB, ge=_MIB, description="Largest key registration.")
    max_request: int = Field(64 * _MIB, ge=1024, description="Largest classification request.")
    max_object: int = Field(4096 * _MIB, ge=1024, description="Largest sealed object.")
    bodies_in_memory: int = Field(1024 * _MIB, ge=_MIB, description="All request bodies held at one time.")
    body_seconds: float = Field(
        20.0, gt=0, description="Time for a body to arrive, beside what its size takes at `body_rate`."
    )
    body_rate: int = Field(16384, ge=1, description="Least bytes a second at which a body must arrive.")
    head_seconds: float = Field(30.0, gt=0, description="Longest time for the head of a request to arrive.")
    read_seconds: float = Field(60.0, gt=0, description="Longest time that a client may leave its answer unread.")
    clock_window: float = Field(
        300.0, gt=0, description="Accepted difference between an envelope's time and the server's."
    )

    record_dir: Path | None = Field(
        None, description="Save every received and sent body here, as seen: an aid for demonstrations and audits only."
    )

    @field_validator("batches")
    @classmethod
    def _positive_batches(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (any(batch < 1 for batch in value) or len(set(value)) != len(value)):
            raise ValueError("batch sizes must be positive and different")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses_of_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            ipaddress.ip_network(address)  # says what is wrong with it
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        if self.tls_cert is None and not is_loopback(self.host) and not self.insecure_http:
            raise ValueError(
                f"plain HTTP on {self.host} would send tokens in clear; give --tls-cert and --tls-key, "
                "listen on 127.0.0.1 behind a proxy, or say --insecure-http"
            )
        if self.max_keys > self.bodies_in_memory or self.max_request > self.bodies_in_memory:
            raise ValueError("bodies_in_memory must hold at least one key registration and one request")
        return self


def is_loopback(host: str) -> bool:
    """Tell whether an address or name stands for this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.localdomain")


def load_settings(config: Path | None = None, **overrides: Any) -> ServerSettings:
    """Read the settings: command line over environment over file over defaults.

    Args:
        config: a TOML file whose keys are the fields of `ServerSettings`.
        overrides: fields given on the command line; None stands for not given.

    Raises:
        UsageError: a setting is unknown or has a value that it must not have; the message names it.
        OSError: the file cannot be read.
    """
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(config.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{config} is not a TOML file: {error}.") from error
        values = {name: value for name, value in values.items() if not _in_environment(name)}
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return ServerSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        if first["type"] == "missing":
            raise UsageError(
                f"The setting '{where}' is missing: give it on the command line, in the file of --config, or as "
                f"{ENVIRONMENT_PREFIX}{where.upper()} (see 'he-infer serve --help')."
            ) from error
        raise UsageError(f"Setting {where}: {first['msg']} (see 'he-infer serve --help').") from error


def _in_environment(name: str) -> bool:
    return any(variable.upper() == ENVIRONMENT_PREFIX + name.upper() for variable in os.environ)
