"""A client's message: an envelope whose nonce has the right form and whose time is within the window."""

import re
import time
from dataclasses import dataclass

from he_infer.errors import NotThisFormat, Truncated, UnsupportedVersion
from he_infer.server.metadata import Caller
from he_infer.wire import envelope as wire
from he_infer.wire.refusals import Code, Refused

_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Request:
    """The caller, and the request id that the logs show."""

    caller: Caller
    request_id: str


@dataclass(frozen=True)
class Message:
    """An envelope that is fresh; whether it was accepted before is checked where it is counted."""

    envelope: wire.Envelope
    nonce: str
    sent: float
    """The envelope's own time, Unix seconds."""
    expires: float
    """When its nonce may be forgotten, Unix seconds."""

    @classmethod
    def read(cls, body: bytes | memoryview, kind: wire.Kind, max_bytes: int, window: float) -> "Message":
        """Read a body.

        Args:
            body: the whole body.
            kind: the only kind that is accepted.
            max_bytes: largest message accepted.
            window: seconds that the envelope's time may differ from the server's.

        Raises:
            Refused: `not_an_envelope`, `truncated`, `unsupported_version`, `invalid`, `stale`.
        """
        try:
            envelope = wire.Envelope.decode(body, kind=kind, max_bytes=max_bytes)
        except UnsupportedVersion as error:
            raise Refused(Code.UNSUPPORTED_VERSION, str(error)) from error
        except Truncated as error:
            raise Refused(Code.TRUNCATED, str(error)) from error
        except NotThisFormat as error:
            raise Refused(Code.NOT_AN_ENVELOPE, str(error)) from error
        match envelope.header:
            case {"nonce": str(nonce), "time": int(sent)} if _NONCE.fullmatch(nonce) and not isinstance(sent, bool):
                now = time.time()
                # Whole milliseconds: a time of 400 digits does not fit into a float.
                if abs(sent - round(now * 1000)) > round(window * 1000):
                    raise Refused(
                        Code.STALE,
                        f"The envelope's time is more than {window:g} s from the server's; set the clock, or take the "
                        "server's time from GET /v1/info.",
                    )
                # An envelope is acceptable from one window before its time to one after it.
                return cls(envelope, nonce, sent / 1000, now + 2 * window)
            case _:
                raise Refused(Code.INVALID, "The header needs a nonce of 32 hex digits and a time in milliseconds.")
