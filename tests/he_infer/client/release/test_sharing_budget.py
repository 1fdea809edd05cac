"""`he-infer classify --share-scores` through a real server: flooded, counted, refused where the plan is too coarse."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from he_infer.head.layers import Head, Linear
from he_infer.local_server import LocalServer
from models.bundle import Bundle
from models.images.load import load_image
from tests.he_infer.client.imaging import small_bundle, small_images
from tests.he_infer.server.test_commands import he_infer

WORDS = "correct horse battery staple"


@pytest.fixture(scope="module")
def bundle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head: of all heads it is the one whose scores are good enough to carry the noise."""
    path = tmp_path_factory.mktemp("bundle") / "small.hebundle"
    random = np.random.default_rng(4)
    head = Head((Linear(random.normal(0, 0.3, (3, 32)), random.normal(0, 0.1, 3)),))
    small_bundle(path).with_head(head).save(path)
    return path


@pytest.fixture(scope="module")
def precise(bundle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    options = ["--workers", "1", "--precision", "1e-6"]
    with LocalServer([bundle_file], tmp_path_factory.mktemp("precise") / "data", options=options) as running:
        yield running


@pytest.fixture(scope="module")
def there(precise: LocalServer, bundle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Two images, and the options of a client with a key of its own, `k.key`, in the images' folder's parent."""
    folder = tmp_path_factory.mktemp("client")
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(precise.token)
    address = ["--url", precise.url, "--token-file", token]
    he_infer("keys", "new", folder / "k.key", *address, HE_INFER_PASSPHRASE=WORDS)
    images = small_images(folder / "scans", 2)
    return [*images, "--bundle", bundle_file, "--key", folder / "k.key", *address]


def test_where_the_noise_would_drown_the_scores_nothing_is_sent_or_counted(
    there: list[object],
) -> None:
    line = he_infer("classify", *there, "--share-scores", 10**6, status=1, HE_INFER_PASSPHRASE=WORDS)
    assert "--precision" in line
    assert not list(Path(str(there[0])).parent.parent.glob("*.shared"))


def test_shared_scores_are_near_the_true_ones_and_counted(
    there: list[object], bundle_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    sharing = ["--share-scores", 2, "--share-error", 2, "--json", out]
    shown = he_infer("classify", *there, *sharing, HE_INFER_PASSPHRASE=WORDS)
    assert "30 bits of statistical security for 2 images" in " ".join(shown.split())
    figures = json.loads(out.read_text())
    bundle = Bundle.load(bundle_file)
    true = bundle.scores(bundle.features([load_image(Path(str(path))) for path in there[:2]]))
    shared = np.array([row["scores"] for row in figures["images"]])
    deviation = figures["flooding"]["deviation"]
    assert deviation == pytest.approx(np.sqrt(12 * 2 * 3) * 2**15 * 1e-6)
    assert 0 < np.abs(shared - true).max() < 6.5 * deviation
    # What stands beside the flooded scores is made of them, and not of the better ones.
    for row, scores in zip(figures["images"], shared, strict=True):
        assert row["class"] == bundle.classes[int(scores.argmax())]
        assert row["probability"] == pytest.approx(bundle.probabilities(scores[None])[0].max(), abs=1e-4)
    line = he_infer("classify", *there, *sharing, status=1, HE_INFER_PASSPHRASE=WORDS)
    assert "2 of 2 images were shared" in line


def test_without_sharing_no_score_is_written(there: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    he_infer("classify", *there, "--json", out, HE_INFER_PASSPHRASE=WORDS)
    figures = json.loads(out.read_text())
    assert "flooding" not in figures
    assert all("scores" not in row for row in figures["images"])
