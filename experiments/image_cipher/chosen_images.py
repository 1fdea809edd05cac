"""`he-experiments chosen-images`: chosen-image attacks on the toy, version 1 and version 2."""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from experiments.records.finish import FigureFile, RecordFile
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cipher.analysis.pixels import Image
    from cipher.analysis.subject import Subject
    from cipher.analysis.suite import Seeds
    from experiments.present.drawing import Picture

_PLANES = 2
"""Images that the sign-plane attack chooses."""


@dataclass(frozen=True, slots=True)
class AttackRow:
    """Result of one attack on one cipher."""

    attack: str
    subject: str
    keys: int
    broken: int
    """Keys for which it succeeded."""
    images: float
    """Chosen images a key, mean."""
    seconds: float
    """Seconds for all keys."""
    pixels_read: float | None = None
    """Share of an unseen image's pixels that the attacker reads, mean over keys; None where the attack reads none."""


@dataclass(frozen=True, slots=True, eq=False)
class UnseenImage:
    """The victim as the attacker reads it with an equivalent key."""

    subject: str
    share: float
    """Share of its pixels that are right."""
    pixels: "Image"
    """Black where the attack gave up."""


def chosen_images(
    image: Annotated[
        str, typer.Argument(help="The victim: a DICOM, PNG or NumPy file, or one of pydicom's by name.")
    ] = "CT_small.dcm",
    *,
    keys: Annotated[int, typer.Option(min=1, help="Fresh keys for the attacks of at most seven images.")] = 8,
    equivalent_keys: Annotated[
        int, typer.Option(min=0, help="Fresh keys for the attack of thousands of images: about a minute each.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Keys and salt are drawn from it.")] = 1,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Attack three ciphers as somebody who may have images of his choice encrypted under the victim's key and salt.

    The toy is a chaotic cipher of the published kind and falls to four images. The first version of the inner cipher
    lets the sign plane through, gives its last sweep's constants to seven images, and an equivalent key to a few
    thousand: with it the attacker reads an image that he has not seen. The second version withstands all four.

    Example: `he-experiments chosen-images CT_small.dcm --figure attack.png`
    """
    from cipher.analysis.subject import Inner, Version1
    from cipher.analysis.suite import Seeds
    from cipher.analysis.toy import Toy
    from experiments.image_cipher.images import load_image
    from experiments.image_cipher.study import crop_to_control
    from experiments.present.screen_tables import grouped_table
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = make_console()
    named, seeds = load_image(image), Seeds(seed)
    victim = crop_to_control(named.pixels)
    subjects: tuple[Subject, ...] = (Toy(), Version1(), Inner())
    rows, unseen = [], []
    for subject in subjects:
        rows += attack_all(subject, victim, seeds, keys)
        for bits in (8, 16) if equivalent_keys else ():
            row, image_read = attack_by_equivalent_key(subject, victim, bits, seeds, equivalent_keys)
            rows.append(row)
            if bits == 8 * min(2, victim.itemsize):
                unseen.append(image_read)
    console.print(
        grouped_table(
            "chosen images at fixed key and salt",
            "attack",
            ("keys broken", "images", "seconds", "pixels read"),
            [(row.subject, format_row(row)) for row in rows],
        )
    )
    write_outcome(
        console,
        "chosen-images",
        command=format_command(
            "chosen-images", image, keys=keys, equivalent_keys=equivalent_keys, seed=seed, figure=figure
        ),
        seed=seed,
        parameters={"image": named.described, "keys": keys, "equivalent_keys": equivalent_keys},
        figures={"attacks": [asdict(row) for row in rows]},
        drawn=None if figure is None else draw_chosen_images(subjects, victim, seeds, unseen),
        figure=figure,
        json=json_file,
        record=record,
    )


def format_row(row: AttackRow) -> tuple[str, str, str, str, str]:
    """The row's cells: attack, keys broken, images, seconds, pixels read."""
    read = "" if row.pixels_read is None else f"{row.pixels_read:.1%}"
    return row.attack, f"{row.broken} of {row.keys}", f"{row.images:.1f}", f"{row.seconds:.2f}", read


def attack_by_equivalent_key(
    subject: "Subject", victim: "Image", bits: int, seeds: "Seeds", keys: int
) -> tuple[AttackRow, UnseenImage]:
    """The attack that looks for an equivalent key, with which the victim is then read without the key.

    A key counts as broken if more than half of the victim's pixels are read. An attack that gives up reads none. The
    image is the first key's.

    Args:
        subject: the cipher.
        victim: an image that the attack has not seen; its pixels are repeated to fill 1024 x 32 words of `bits`.
        bits: 8 or 16.
        seeds: source of keys and salt.
        keys: number of fresh keys.
    """
    from cipher.analysis.equivalent_key.attack import SHAPE, find_equivalent_key
    from cipher.analysis.pixels import words

    grey = words(victim).reshape(-1).astype(np.int64)
    if bits == 8:
        grey = (grey - grey.min()) * 255 // max(1, int(np.ptp(grey)))
    secret = np.resize(grey, SHAPE).astype(np.uint8 if bits == 8 else np.uint16)
    rng = seeds.generator(f"equivalent key {subject.name} {bits}")
    shares, images, pixels = [], [], []
    began = time.perf_counter()
    for _, key in seeds.keys(f"equivalent key/{subject.name}/{bits}", keys):

        def encrypt(plain: "Image", key: bytes = key) -> "Image":
            return subject.encrypt(plain, key, seeds.salt)

        outcome = find_equivalent_key(encrypt, bits, rng)
        cipher_image = encrypt(secret)
        shares.append(outcome.share_read(secret, cipher_image))
        images.append(outcome.images)
        pixels.append(np.zeros_like(secret) if outcome.key is None else outcome.key.read(cipher_image))
    shown = np.resize(pixels[0].reshape(-1)[: victim.size], victim.shape)
    row = AttackRow(
        f"equivalent key, {bits} bit",
        subject.name,
        keys,
        sum(share > 0.5 for share in shares),
        float(np.mean(images)),
        round(time.perf_counter() - began, 3),
        float(np.mean(shares)),
    )
    return row, UnseenImage(subject.name, shares[0], shown)


def attack_all(subject: "Subject", victim: "Image", seeds: "Seeds", keys: int) -> list[AttackRow]:
    """The attacks of at most seven images on one cipher, each on the same fresh keys.

    An attack breaks a cipher if it foretells all bytes of a fifth image, or all words of E(x with its sign plane
    flipped), or if it finds constants that foretell words of further images.
    """
    from cipher.analysis import toy_attack
    from cipher.analysis.version1_attacks import seven_images, sign_plane_share

    rng = seeds.generator(f"chosen images {subject.name}")
    corner = np.ascontiguousarray(np.atleast_2d(victim)[:32, :32])
    outcomes: dict[str, list[tuple[bool, int, float]]] = {"four images": [], "sign plane": [], "seven images": []}
    read = []
    for _, key in seeds.keys(f"chosen/{subject.name}", keys):

        def encrypt(plain: "Image", key: bytes = key) -> "Image":
            return subject.encrypt(plain, key, seeds.salt)

        began = time.perf_counter()
        recovered, secret = toy_attack.recover(encrypt, victim), encrypt(victim)
        right = toy_attack.matching_bytes(recovered.predict(victim), secret) == victim.nbytes
        read.append(float((recovered.decrypt(secret) == victim).mean()))
        outcomes["four images"].append((right, toy_attack.CHOSEN_IMAGES, time.perf_counter() - began))
        began = time.perf_counter()
        outcomes["sign plane"].append((sign_plane_share(encrypt, victim) == 1, _PLANES, time.perf_counter() - began))
        began = time.perf_counter()
        solved = seven_images(encrypt, corner, rng)
        outcomes["seven images"].append((solved.solved, solved.images, time.perf_counter() - began))
    return [
        AttackRow(
            name,
            subject.name,
            len(found),
            sum(broken for broken, _, _ in found),
            float(np.mean([images for _, images, _ in found])),
            round(sum(seconds for _, _, seconds in found), 3),
            float(np.mean(read)) if name == "four images" else None,
        )
        for name, found in outcomes.items()
    ]


def draw_chosen_images(
    subjects: "tuple[Subject, ...]", victim: "Image", seeds: "Seeds", unseen: list[UnseenImage]
) -> "Picture":
    """For each cipher: what four images and an equivalent key read, and where the sign plane passes unchanged."""
    from cipher.analysis import toy_attack
    from cipher.analysis.pixels import words
    from cipher.analysis.version1_attacks import flip_plane
    from experiments.present.drawing import draw_picture, show_image

    key, salt = seeds.key("picture", 0), seeds.salt
    grey = float(words(victim).min()), float(words(victim).max())  # wrong pixels may be far outside
    top = 8 * words(victim).dtype.itemsize - 1
    pictures = []
    for subject in subjects:

        def encrypt(plain: "Image", subject: "Subject" = subject) -> "Image":
            return subject.encrypt(plain, key, salt)

        read = toy_attack.recover(encrypt, victim).decrypt(encrypt(victim))
        through = words(encrypt(flip_plane(victim, top))) == words(flip_plane(encrypt(victim), top))
        pictures.append((subject.name, read, through))

    def paint(figure: "Figure") -> None:
        above, middle, *below = figure.subplots(3 if unseen else 2, len(subjects))
        for (name, read, through), first, second in zip(pictures, above, middle, strict=True):
            show_image(first, read.astype(np.int64), f"{name}:\nread by four images", size=8)
            title = f"sign plane: {through.mean():.1%} foretold (black)"
            show_image(second, (~through).astype(np.int64), title, limits=(0.0, 1.25), size=8)
        for axis, found in zip(below[0] if below else (), unseen, strict=True):
            title = f"equivalent key: {found.share:.1%} read"
            show_image(axis, found.pixels.astype(np.int64), title, limits=grey, size=8)

    said = "; ".join(f"{name}: {through.mean():.1%} of the sign plane foretold" for name, _, through in pictures)
    said += "".join(f"; {found.subject}: {found.share:.1%} read with an equivalent key" for found in unseen)
    return draw_picture(paint, (8.4, 8.4 if unseen else 5.6), f"Chosen images against three ciphers. {said}.")
