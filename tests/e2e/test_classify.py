"""`he-infer classify` on real files against a real server, and one clear line for each mistake."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
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
    right = [Path(row["path"]).name.startswith(row["label"]) for row in figures["images"]]
    assert np.mean(right) > 0.7
    assert all(0.5 <= row["probability"] <= 1 and row["seconds"] > 0 for row in figures["images"])
    assert figures["canaries"]["sent"] >= 1
    assert (tmp_path / "f.json").stat().st_mode & 0o077 == 0
    (dicom,) = (row for row in figures["images"] if row["path"].endswith("bar.dcm"))
    assert all(dicom[name] for name in ("sop_instance", "series", "study"))
    assert [study["study"] for study in figures["studies"]] == [dicom["study"]]
    assert all(row["publisher"] == figures["images"][0]["publisher"] for row in figures["images"])
    assert "KB up" in out


def test_patient_disc_with_other_files_is_classified(client: Setup, tmp_path: Path) -> None:
    disc = tmp_path / "disc"
    disc.mkdir()
    for index, pixels in enumerate(images(0, 3, 70)):
        write_dicom(disc / f"IM{index:04d}.dcm", pixels, "P1")
    (disc / "README.txt").write_text("how to view these images\n")
    (disc / "EMPTY.dcm").touch()
    shutil.copy(get_testdata_file("DICOMDIR"), disc / "DICOMDIR")
    files = ("--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv", "--jsonl", tmp_path / "f.jsonl")
    out = run("classify", disc, *client.options, *files, status=3, HE_INFER_PASSPHRASE=WORDS)
    figures = json.loads((tmp_path / "f.json").read_text())
    named = {Path(row["path"]).name: row for row in figures["images"]}
    assert len(named) == 6
    for name in ("README.txt", "EMPTY.dcm", "DICOMDIR"):
        assert named[name]["label"] is None
        assert named[name]["refusal"]
    assert sum(row["label"] is not None for row in named.values()) == 3
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [row["path"] for row in figures["images"]]
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    assert "not classified" in out


def test_names_with_brackets_are_shown_unchanged(client: Setup, tmp_path: Path) -> None:
    scans = tmp_path / "scans [bold]x"
    scans.mkdir()
    Image.fromarray(images(0, 1, 71)[0]).save(scans / "[red]a[nothing].png")
    out = run("classify", scans, *client.options, HE_INFER_PASSPHRASE=WORDS, COLUMNS="300")
    assert "[red]a[nothing].png" in out
    assert "[bold]x" in out


def test_terminal_without_unicode_gets_results(client: Setup, tmp_path: Path) -> None:
    image = tmp_path / "Größe-尺.png"
    Image.fromarray(images(0, 1, 72)[0]).save(image)
    out = run(
        *("classify", image, *client.options),
        HE_INFER_PASSPHRASE=WORDS,
        PYTHONIOENCODING="ascii",
        PYTHONUTF8="0",
        LC_ALL="C",
    )
    assert "disc" in out


def test_whole_bundle_is_used_with_a_note(client: Setup, tmp_path: Path) -> None:
    token = tmp_path / "t"
    with LocalServer([client.whole], tmp_path / "server", options=["--workers", "1"]) as server:
        token.touch(mode=0o600)
        token.write_text(server.token)
        where = ("--bundle", client.whole, "--url", server.url, "--token-file", token)
        run("keys", "new", tmp_path / "k", *where, HE_INFER_PASSPHRASE=WORDS)
        image = client.data / "bar" / "000.png"
        out = run("classify", image, "--key", tmp_path / "k", *where, HE_INFER_PASSPHRASE=WORDS)
        assert "could be computed here" in " ".join(out.split())
        other = run(
            "classify",
            image,
            *client.options[:2],
            "--key",
            tmp_path / "k",
            *where[2:],
            status=1,
            HE_INFER_PASSPHRASE=WORDS,
        )
        assert "published by" in other


def test_data_set_gives_the_same_accuracy_encrypted(client: Setup, tmp_path: Path) -> None:
    run(
        "accuracy",
        "--data",
        client.data,
        "--bundle",
        client.whole,
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
        (_empty_folder, "There is no file in"),
    ],
)
def test_unreadable_image_gets_row_with_reason(make, expected: str, client: Setup, tmp_path: Path) -> None:
    path = make(tmp_path)
    status = 1 if make in (_missing, _empty_folder) else 3
    said = run("classify", path, *client.options, status=status, HE_INFER_PASSPHRASE=WORDS, COLUMNS="400")
    assert expected in said


def test_wrong_key_token_server_or_bundle_gives_one_line(client: Setup, tmp_path: Path) -> None:
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


def test_unregistered_keys_are_named_and_can_be_registered_again(client: Setup, tmp_path: Path) -> None:
    with Session(client.url, client.token.read_text()) as session:
        for kept in session.key_sets():
            session.forget_keys(kept.plan, kept.key_set)
    image = client.data / "bar" / "000.png"
    line = run("classify", image, *client.options, status=1, HE_INFER_PASSPHRASE=WORDS)
    assert "keys register" in line
    where = ("--bundle", client.bundle, "--url", client.url, "--token-file", client.token)
    run("keys", "register", client.key, *where, HE_INFER_PASSPHRASE=WORDS)
    run("classify", image, *client.options, HE_INFER_PASSPHRASE=WORDS)
