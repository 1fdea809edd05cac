"""The bearer token that a server's operator gave, checked before it is sent."""

from he_infer.errors import NotThisFormat

_PREFIX = "hei_"


def check_token(token: str, place: str = "The argument 'token'") -> str:
    """Give a token without the white space around it. The error never shows what was given.

    Args:
        token: what a file, a variable or a caller holds.
        place: name of where it was found, for the error.

    Raises:
        NotThisFormat: it is no token; a path, say, or None from a variable that is not set.
    """
    text = token.strip() if isinstance(token, str) else ""
    if not text.startswith(_PREFIX) or not text.isascii() or not text.isprintable() or " " in text:
        raise NotThisFormat(f"{place} does not hold a token; expected one line that begins with '{_PREFIX}'.")
    return text
