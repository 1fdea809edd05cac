"""Every error that the image cipher raises on purpose.

    CipherError
    ├── UnsupportedImage      an array that the inner cipher does not take (type, shape, empty)
    ├── BadSpan               a pixel span that does not fit the file it is said to lie in
    ├── KeyProblem            keys
    │   ├── WrongKey              sealed under another vault key
    │   ├── WrongPassphrase       the passphrase does not open the key file
    │   └── BadKey                a key or passphrase of a wrong form
    ├── FormatProblem         bytes that are not what they should be
    │   ├── UnsupportedFormat     not a sealed object at all, or of another kind than asked for
    │   ├── UnsupportedVersion    sealed by a later release
    │   └── Damaged               changed, cut or extended since it was sealed
    ├── ContextMismatch       what stands around a sealed object is not what it was sealed with
    ├── Replayed              an intact object, but an older version (or another object) than expected
    ├── SourceChanged         the file changed while it was being sealed
    └── StorageProblem        the disk or file system refused
        └── AlreadyExists         something has the name of a file that must not be replaced

A message says what was wrong, what was expected and what to do. It never holds a key, a passphrase or a pixel.
"""


class CipherError(Exception):
    """The root of all errors that the cipher raises on purpose; its text is for the user."""


class UnsupportedImage(CipherError):
    """An array whose type or shape the inner cipher does not take."""


class BadSpan(CipherError):
    """A pixel span that does not lie inside its file, or whose length does not fit its shape and type."""


class KeyProblem(CipherError):
    """Something about keys; see the subclasses."""


class WrongKey(KeyProblem):
    """The object was sealed under another vault key; it is not damaged as far as can be told."""


class WrongPassphrase(KeyProblem):
    """The passphrase does not open this key file; the file is not damaged as far as can be told."""


class BadKey(KeyProblem):
    """A key of a wrong length, or a passphrase that cannot be used."""


class FormatProblem(CipherError):
    """Bytes that do not follow the format they should."""


class UnsupportedFormat(FormatProblem):
    """Not a sealed object at all, or one of another kind than was asked for."""


class UnsupportedVersion(FormatProblem):
    """A version of the format that this release does not read."""


class Damaged(FormatProblem):
    """Bytes were changed, cut off or added since the object was sealed."""


class ContextMismatch(CipherError):
    """The object is intact, but the data bound to it from outside (attributes, identifiers) has changed."""


class Replayed(CipherError):
    """The object is intact, but it is an older version than expected, or another object altogether."""


class SourceChanged(CipherError):
    """The source file changed between the two times that sealing reads it."""


class StorageProblem(CipherError):
    """The file system refused: no space, no permission, no such folder. The earlier content is unchanged."""


class AlreadyExists(StorageProblem):
    """Something has the name of a file that must be new; it was left as it is."""
