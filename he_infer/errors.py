"""Every error that he_infer raises on purpose.

    HeInferError
    ├── UsageError            a mistake in a call, an option or a file: correct it
    │   ├── HeadError             a head that cannot be computed under encryption
    │   ├── ParameterError        CKKS parameters outside the security budget, or a chain too short
    │   ├── ShapeError            an array of another shape or range than the plan's
    │   └── ImageError            an image that cannot be read
    ├── EngineError           an operation refused before SEAL is asked (level, scale, slots, parameter id)
    ├── KeyProblem             keys
    │   ├── MissingKey            no such key, or keys made for another plan
    │   ├── WrongPassphrase       the key file does not open
    │   └── SecretKeyRefused      bytes that hold a secret key were given to the server
    ├── FormatError           bytes that do not follow the expected format
    │   ├── NotThisFormat         another kind of file or message altogether
    │   ├── UnsupportedVersion    a version of the format that this release does not read
    │   ├── DamagedBundle         a bundle whose parts are missing or contradict each other
    │   ├── Truncated             fewer or more bytes than the header announces
    │   └── NotAuthentic          the MAC or tag does not match
    ├── ReportError           a result that cannot be put into a report for an archive
    ├── ArchiveError          an image archive (PACS), reached by DICOMweb or by the DICOM protocol
    │   ├── ArchiveUnreachable    no connection, no answer in time, or a certificate that is not trusted
    │   └── ArchiveRefused        an answer that is not what was asked for, or is too large
    └── ServerError           the server was not reached or did not answer as expected
        ├── ServerUnreachable     no answer
        ├── Unauthorised          the token was refused
        ├── ProtocolMismatch      the server speaks another version
        ├── ServerBusy            try again later
        ├── WrongAnswer           a canary, whose answer the client knows, was answered wrongly
        └── RequestRefused        a documented refusal, with its code

A message says what was wrong, what was expected and what to do. It never holds a key, a feature or a score.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class HeInferError(Exception):
    """The root of all errors that he_infer raises on purpose; its message can be shown to a user."""


class UsageError(HeInferError):
    """A mistake in a call, an option or a file: correct it and try again."""


class HeadError(UsageError):
    """A head holds a layer, width or depth that the encrypted computation does not carry."""


class ParameterError(UsageError):
    """CKKS parameters outside the security budget, or a modulus chain too short for the head."""


class ShapeError(UsageError):
    """An array's shape, type or range does not fit the plan."""


class ImageError(UsageError):
    """An image file cannot be read as one."""


class EngineError(HeInferError):
    """An operation on values whose level, scale, slot count or parameter id does not allow it."""


class KeyProblem(HeInferError):
    """Base class of errors about keys."""


class MissingKey(KeyProblem):
    """No such key, or keys that were made for another plan."""


class WrongPassphrase(KeyProblem):
    """A key file does not open under this passphrase."""


class SecretKeyRefused(KeyProblem):
    """Bytes that hold a secret key were handed to the untrusted side, which refuses them."""


class FormatError(HeInferError):
    """Bytes that do not follow the expected format."""


class NotThisFormat(FormatError):
    """Another kind of file or message altogether."""


class UnsupportedVersion(FormatError):
    """A version of the format that this release does not read."""


class DamagedBundle(FormatError):
    """A bundle whose parts are missing or contradict each other."""


class Truncated(FormatError):
    """Fewer or more bytes than the header announces."""


class NotAuthentic(FormatError):
    """A MAC or tag does not match: the bytes were changed, or made under another key."""


class ReportError(HeInferError):
    """A result, model card or image from which no report can be made."""


class ArchiveError(HeInferError):
    """An image archive did not do what was asked."""


class ArchiveUnreachable(ArchiveError):
    """No connection to the archive, no answer in time, or a certificate that is not trusted. Trying again may help."""


class ArchiveRefused(ArchiveError):
    """The archive answered with an error, with something else than was asked for, or with too much."""


class ServerError(HeInferError):
    """The server could not be reached or did not answer as expected."""


class ServerUnreachable(ServerError):
    """No connection, or no answer in time."""


class Unauthorised(ServerError):
    """The token was refused."""


class ProtocolMismatch(ServerError):
    """The server speaks another version of the protocol, or another SEAL wire format."""


class ServerBusy(ServerError):
    """The server's queue is full; `retry_after` is its own estimate in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRefused(ServerError):
    """The server refused the request; `code` is one of the documented error codes."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class WrongAnswer(HeInferError):
    """A canary, whose answer the client knows, was answered wrongly, or an answer cannot be one of the model.

    It is no `ServerError`: after those the results before them stay, and a later try may help.

    `receipts` has the run's signed receipts in JSON form: what the server claimed to have computed.
    """

    def __init__(self, message: str, receipts: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.receipts = tuple(receipts)
