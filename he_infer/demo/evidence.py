"""Evidence for blindness: which plaintext must not be found on the server's side, and the look for it."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from he_infer.demo.seen import Fragment, Search, Sighting, describe_object, list_files, search_files
from models.datasets import Dataset

_WINDOW = 24
"""Bytes of one fragment: long enough that random data does not hold it by chance."""
_PER_FILE = 8
_NUMBER = re.compile(r"\d+")


def collect_fragments(
    dataset: Dataset, features: NDArray[np.float32], scores: NDArray[np.float64], images: int = 64
) -> list[Fragment]:
    """Pieces of what must stay at the client.

    - bytes of the original files, at evenly spread places where they are not constant;
    - rows of pixels of test images, as stored;
    - feature vectors and scores as little-endian float32 and float64.

    Args:
        dataset: whose original files, where it has any, and test images are taken.
        features: (n, width) of the test images.
        scores: (n, classes) in clear.
        images: how many test images to take pieces of.
    """
    fragments = []
    for path in sorted({path for paths in dataset.sources.values() for path in paths}):
        fragments += [Fragment(f"bytes of {path.name}", piece) for piece in _pieces(path.read_bytes(), _PER_FILE)]
    count = min(images, len(features))
    for index in range(count):
        pixels = np.ascontiguousarray(dataset.test.images[index]).tobytes()
        fragments += [Fragment(f"pixels of test image {index}", piece) for piece in _pieces(pixels, 2)]
        for name, vector in (("features", features[index]), ("scores", scores[index])):
            for kind in ("<f4", "<f8"):
                piece = vector.astype(kind).tobytes()[:_WINDOW]
                if len(set(piece)) > 4:
                    fragments.append(Fragment(f"{name} of test image {index}", piece))
    return fragments


def search_server_side(folder: Path, fragments: Sequence[Fragment]) -> tuple[list[Sighting], Search]:
    """List every object below the server's folder, one row a kind, and search all of them."""
    files = list_files(folder)
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        # Identifiers and numbers differ from object to object; what is left names the kind.
        kinds[_NUMBER.sub("#", re.sub(r"[0-9a-f]{16,}", "#", str(path.relative_to(folder))))].append(path)
    sightings = [describe_object(name, [path.read_bytes() for path in paths]) for name, paths in kinds.items()]
    return sightings, search_files(files, fragments)


def search_originals(dataset: Dataset, fragments: Sequence[Fragment]) -> Search:
    """The positive control: the same search, over the original files themselves."""
    files = sorted({path for paths in dataset.sources.values() for path in paths})
    wanted = [fragment for fragment in fragments if fragment.what.startswith("bytes of")]
    return search_files(files, wanted)


def _pieces(data: bytes, count: int) -> list[bytes]:
    """Up to `count` windows at evenly spread places, without those that are nearly constant."""
    step = max(1, (len(data) - _WINDOW) // max(count, 1))
    windows = [data[start : start + _WINDOW] for start in range(0, len(data) - _WINDOW + 1, step)]
    return [window for window in windows if len(set(window)) >= _WINDOW // 3][:count]
