"""`he-infer classify` on real files against a real server, and one clear line for each mistake."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from tests.e2e.conftest import Setup
from tests.e2e.kit import WORDS, images, run, write_dicom


def test_folders_and_files_of_all_kinds_are_classified(client: Setup, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for label, name in enumerate(("disc", "bar")):
        for index, pixels in enumerate(images(label, 3, 77)):
            Image.fromarray(pixels).save(scans / f"{name}{index}.png")
        Image.fromarray(images(label, 1, 78)[0]).convert("RGB").save(scans / f"{name}.jpg", quality=95)
    write_dicom(tmp_path / "bar.dcm", images(1, 1, 79)[0], "P1")
    out = run(
        "classify",
        scans,
        tmp_path / "bar.dcm",
        *client.options,
        "--json",
        tmp_path / "f.json",
        HE_INFER_PASSPHRASE=WORDS,
    )
    figures = json.loads((tmp_path / "f.json").read_text())
    assert len(figures["images"]) == 9
    right = [Path(row["image"]).name.startswith(row["class"]) for row in figures["images"]]
    assert np.mean(right) > 0.7
    assert all(0.5 <= row["probability"] <= 1 and row["server_ms"] > 0 for row in figures["images"])
    assert "KB up" in out


def test_data_set_gives_the_same_accuracy_encrypted(client: Setup, tmp_path: Path) -> None:
    run(
        "accuracy",
        "--data",
        client.data,
        "--bundle",
        client.bundle,
        "--json",
        tmp_path / "a.json",
        program="experiments",
    )
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["encrypted_accuracy"] == found["clear_accuracy"] > 0.5
    assert found["label_agreement"] == 1.0
    assert 0 < found["max_abs_error"] < 1e-3
    assert found["n"] > 10


def _missing(folder: Path) -> Path:
    return folder / "nothere.png"


def _text(folder: Path) -> Path:
    path = folder / "text.dcm"
    path.write_text("a letter, not an image\n")
    return path


def _without_pixels(folder: Path) -> Path:
    return Path(shutil.copy(get_testdata_file("rtplan.dcm"), folder / "plan.dcm"))


def _cut_dicom(folder: Path) -> Path:
    path = folder / "cut.dcm"
    path.write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes()[:20_000])
    return path


def _cut_png(folder: Path) -> Path:
    path = folder / "cut.png"
    Image.fromarray(images(0, 1, 1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:300])
    return path


def _empty_folder(folder: Path) -> Path:
    path = folder / "empty"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_missing, "There is no file or folder"),
        (_text, "is not a DICOM file"),
        (_without_pixels, "without pixels"),
        (_cut_dicom, "cut off or damaged"),
        (_cut_png, "cut off or damaged"),
        (_empty_folder, "holds no file"),
    ],
)
def test_unreadable_image_gives_one_line(make, expected: str, client: Setup, tmp_path: Path) -> None:
    line = run("classify", make(tmp_path), *client.options, status=1, HE_INFER_PASSPHRASE=WORDS)
    assert expected in line


def test_wrong_keys_tokens_servers_and_bundles_give_one_line(client: Setup, tmp_path: Path) -> None:
    image = client.data / "disc" / "000.png"

    def refused(passphrase: str = WORDS, **changes: object) -> str:
        options = {"--bundle": client.bundle, "--key": client.key, "--token-file": client.token, "--url": client.url}
        options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
        flat = [word for pair in options.items() for word in pair]
        return run("classify", image, *flat, status=1, HE_INFER_PASSPHRASE=passphrase)

    assert "passphrase" in refused(passphrase="wrong words")
    assert "There is no file or folder" in refused(key=tmp_path / "none.key")
    text = _text(tmp_path)
    assert "not a secret key file" in refused(key=text)
    assert "not a bundle" in refused(bundle=text)
    cut = tmp_path / "cut.hebundle"
    cut.write_bytes(client.bundle.read_bytes()[:1000])
    assert "cut off" in refused(bundle=cut)
    wrong = tmp_path / "wrong.token"
    wrong.touch(mode=0o600)
    wrong.write_text("hei_0123456789abcdef_" + "A" * 43)
    assert "does not accept the token" in refused(token_file=wrong)
    # Port 9 (discard) is closed on any sane machine; the client does not wait for it for long.
    assert "No server answers" in refused(url="http://127.0.0.1:9")


def test_keys_of_another_plan_and_unregistered_keys_are_told_apart(client: Setup, tmp_path: Path) -> None:
    from he_infer.client.connection.session import Session

    token = client.token.read_text()
    with Session(client.url, token) as session:
        (kept,) = session.key_sets()
        session.forget_keys(kept.plan, kept.key_set)
    image = client.data / "bar" / "000.png"
    line = run("classify", image, *client.options, status=1, HE_INFER_PASSPHRASE=WORDS)
    assert "keys register" in line
    run("keys", "register", client.key, "--url", client.url, "--token-file", client.token, HE_INFER_PASSPHRASE=WORDS)
    run("classify", image, *client.options, HE_INFER_PASSPHRASE=WORDS)
