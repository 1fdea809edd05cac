"""The server's documented refusals: each has one code, one HTTP status and one meaning. Both sides use this table."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Refusal:
    """Status and meaning of an error code."""

    status: int
    """HTTP status code."""
    meaning: str
    """Meaning, for the documentation and for a client that has no better message."""


class Code(StrEnum):
    """The `code` of `{"error": {"code", "message", "request_id"}}`."""

    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    BODY_TIMEOUT = "body_timeout"
    LENGTH_REQUIRED = "length_required"
    NOT_AN_ENVELOPE = "not_an_envelope"
    UNSUPPORTED_VERSION = "unsupported_version"
    TRUNCATED = "truncated"
    STALE = "stale"
    REPLAYED = "replayed"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_PLAN = "unknown_plan"
    MISSING_KEYS = "missing_keys"
    BAD_KEYS = "bad_keys"
    KEYS_EXIST = "keys_exist"
    SECRET_KEY = "secret_key"  # noqa: S105 - the name of a refusal
    BAD_CIPHERTEXT = "bad_ciphertext"
    QUOTA = "quota"
    QUERY_LIMIT = "query_limit"
    RATE_LIMIT = "rate_limit"
    EXISTS = "exists"
    VERSION_GAP = "version_gap"
    DIGEST_MISMATCH = "digest_mismatch"
    BAD_RANGE = "bad_range"
    BUSY = "busy"
    DRAINING = "draining"
    WORKER_DIED = "worker_died"
    WORKER_LIMIT = "worker_limit"
    STORAGE = "storage"
    DAMAGED = "damaged"
    INTERNAL = "internal"


REFUSALS: dict[Code, Refusal] = {
    Code.UNAUTHORISED: Refusal(401, "no bearer token, or one that is unknown, expired or revoked"),
    Code.FORBIDDEN: Refusal(403, "the token lacks the scope that this route needs"),
    Code.NOT_FOUND: Refusal(404, "no such route or object; an object of another client does not exist either"),
    Code.METHOD_NOT_ALLOWED: Refusal(405, "the route does not know this method"),
    Code.INVALID: Refusal(422, "a parameter, header or member has the wrong form"),
    Code.TOO_LARGE: Refusal(413, "the body exceeds the route's limit; nothing of it was parsed"),
    Code.BODY_TIMEOUT: Refusal(408, "the body did not arrive in time"),
    Code.LENGTH_REQUIRED: Refusal(411, "the body came without a Content-Length"),
    Code.NOT_AN_ENVELOPE: Refusal(400, "the body is not an envelope of the kind that the route takes"),
    Code.UNSUPPORTED_VERSION: Refusal(400, "an envelope of another protocol version"),
    Code.TRUNCATED: Refusal(400, "fewer or more bytes than the envelope announces"),
    Code.STALE: Refusal(400, "the envelope's time is outside the accepted window"),
    Code.REPLAYED: Refusal(409, "an envelope with this nonce was already accepted"),
    Code.UNKNOWN_MODEL: Refusal(404, "the server serves no model of this id"),
    Code.UNKNOWN_PLAN: Refusal(404, "no model of the server has a plan of this digest"),
    Code.MISSING_KEYS: Refusal(409, "the client has no usable key set of this id for the plan"),
    Code.BAD_KEYS: Refusal(
        400, "the evaluation keys do not parse, are not exactly those of the plan, or ended a process of the server"
    ),
    Code.KEYS_EXIST: Refusal(409, "this key set is registered for the plan with other bytes; a set is never replaced"),
    Code.SECRET_KEY: Refusal(400, "the message holds a secret key; it was discarded unread"),
    Code.BAD_CIPHERTEXT: Refusal(400, "the ciphertexts do not parse, or do not fit the plan"),
    Code.QUOTA: Refusal(403, "storing this would exceed the client's storage quota"),
    Code.QUERY_LIMIT: Refusal(429, "the client has used up its queries, of this day or with this model"),
    Code.RATE_LIMIT: Refusal(
        429,
        "too many requests, or registrations of keys, of the client; Retry-After says when the next is accepted",
    ),
    Code.EXISTS: Refusal(409, "this object, or this version of it, exists already; nothing is ever overwritten"),
    Code.VERSION_GAP: Refusal(409, "a new version of an object may only follow its newest one"),
    Code.DIGEST_MISMATCH: Refusal(400, "the body's SHA-256 is not the announced one"),
    Code.BAD_RANGE: Refusal(416, "the requested range lies outside the object"),
    Code.BUSY: Refusal(429, "the queue is full; try again after the seconds in Retry-After"),
    Code.DRAINING: Refusal(503, "the server is shutting down; try another or try later"),
    Code.WORKER_DIED: Refusal(503, "the process that evaluated this request died, twice"),
    Code.WORKER_LIMIT: Refusal(503, "the evaluation exceeded its limit of time or memory"),
    Code.STORAGE: Refusal(503, "the store cannot be read or written at the moment"),
    Code.DAMAGED: Refusal(500, "a stored object is not what was stored; it is not served"),
    Code.INTERNAL: Refusal(500, "a defect of the server; its log has the details under the request id"),
}


class Refused(Exception):
    """Raised inside the server to answer with a documented refusal.

    Args:
        code: code of the refusal.
        message: one line for the caller: what was wrong, what was expected, what to do. No content, no secrets.
        retry_after: seconds until a retry may succeed, for temporary refusals.
    """

    def __init__(self, code: Code, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return REFUSALS[self.code].status
