"""The wrapping under SLIP-39 shares: several people hold word lists, and a threshold of them opens the key file.

The shared secret is random and opens only this wrapping. Removing the wrapping makes the shares useless, and without
the key file they reveal nothing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from shamir_mnemonic import combine_mnemonics, generate_mnemonics
from shamir_mnemonic.share import Share
from shamir_mnemonic.utils import MnemonicError

from he_infer.client.keys.wrappings.wrapping import KEY_BYTES, Wrapping, unwrap, wrap
from he_infer.errors import NotThisFormat, UsageError, WrongPassphrase

THRESHOLD, COUNT = 2, 3
_MOST = 16


@dataclass(frozen=True)
class SharesUnlock:
    """Opens with shares of 33 words each.

    Raises:
        WrongPassphrase: a share's checksum is wrong; the message says which one.
        UsageError: too few shares, the same share twice, or shares of different sets.
    """

    mnemonics: Sequence[str] = field(repr=False)
    kind: str = "shares"

    def __post_init__(self) -> None:
        shares = [_read(number, words) for number, words in enumerate(self.mnemonics, 1)]
        if not shares:
            raise UsageError("No share was given; name the file of each share with --from-shares.")
        if len({share.identifier for share in shares}) > 1:
            raise UsageError(
                "The shares are of different sets; give shares of one set, which begin with the same words."
            )
        if len({share.index for share in shares}) < len(shares):
            raise UsageError("The same share was given twice; give different ones.")
        needed = shares[0].member_threshold
        if len(shares) < needed:
            raise UsageError(f"Too few shares: {len(shares)} given; this set needs {needed} of them.")

    def open(self, wrapping: Wrapping) -> bytes:
        shares = [_read(number, words) for number, words in enumerate(self.mnemonics, 1)]
        complaint = "The shares are of another set than the one that the key file was wrapped with."
        if wrapping.data.get("set") != shares[0].identifier:
            raise WrongPassphrase(complaint)
        try:
            secret = combine_mnemonics(self.mnemonics[: shares[0].member_threshold])
        except MnemonicError as error:
            raise WrongPassphrase("The shares do not fit together; one of them is of another set.") from error
        return unwrap(secret, wrapping, complaint=complaint)


def wrap_with_shares(
    key: bytes, threshold: int = THRESHOLD, count: int = COUNT, label: str = ""
) -> tuple[Wrapping, list[str]]:
    """Wrap a key-encryption key. The word lists are returned once and stored nowhere.

    Args:
        key: the key-encryption key.
        threshold: number of shares that open the file, at least 2.
        count: number of shares, at most 16.
        label: description for the user.

    Raises:
        UsageError: the threshold or count is out of range.
    """
    if not 2 <= threshold <= count <= _MOST:
        raise UsageError(
            f"{threshold} of {count} shares is impossible; expected 2 to {_MOST}, and no more than there are."
        )
    secret = secrets.token_bytes(KEY_BYTES)
    (mnemonics,) = generate_mnemonics(1, [(threshold, count)], secret)
    identifier = Share.from_mnemonic(mnemonics[0]).identifier
    data: dict[str, str | int] = {
        "set": identifier, "threshold": threshold, "count": count, "wrapped": wrap(secret, key),
    }  # fmt: skip
    return Wrapping("shares", data, label), mnemonics


def print_kit(key_file: str, mnemonics: Sequence[str], threshold: int) -> list[str]:
    """Make one text for each share, to be printed and given to its keeper."""
    count, texts = len(mnemonics), []
    for number, mnemonic in enumerate(mnemonics, 1):
        words = mnemonic.split()
        lines = [
            "    ".join(
                f"{place:2}. {word:<10}" for place, word in enumerate(words[start : start + 4], start + 1)
            ).rstrip()
            for start in range(0, len(words), 4)
        ]
        texts.append(
            f"he_infer recovery share {number} of {count}\n\n"
            f"Key file: {key_file}\n"
            f"Any {threshold} of the {count} shares open the key file when its passphrase is lost.\n"
            "Keep this sheet where no other share lies. A share alone opens nothing.\n"
            "To recover, write the words of each share into a file, and run:\n\n"
            f"    he-infer keys recover {key_file} --from-shares FILE --from-shares FILE\n\n" + "\n".join(lines) + "\n"
        )
    return texts


def read_share(text: str) -> str:
    """Read the words of a share from a text file. Numbers, line breaks and the text of a printed sheet are ignored."""
    words = [word.strip(".,;:").lower() for word in text.split()]
    known = [word for word in words if word.isalpha()]
    if "recovery" in known:  # a printed sheet: each word follows its number
        tokens = text.split()
        known = [
            following.lower() for place, following in pairwise(tokens) if place.endswith(".") and place[:-1].isdigit()
        ]
    if not known:
        raise NotThisFormat("The file holds no words of a share. Give the text of one printed sheet, or its words.")
    return " ".join(known)


def _read(number: int, words: str) -> Share:
    try:
        return Share.from_mnemonic(words)
    except (MnemonicError, ValueError) as error:
        raise WrongPassphrase(
            f"Share {number} is wrong: its checksum does not fit. Look for a misread, missing or swapped word."
        ) from error
