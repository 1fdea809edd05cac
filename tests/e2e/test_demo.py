"""`he-infer demo` on every form of data, with the real components, as a new user runs it."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.kit import run, write_dicom_table, write_folder, write_npz

FIELDS = {
    "dataset", "classes", "n_test", "clear_accuracy", "encrypted_accuracy", "majority_share", "label_agreement",
    "max_probability_difference", "max_abs_error", "batch", "pictures", "pictures_right_clear",
    "pictures_right_encrypted", "patients", "patients_right_encrypted", "guard_refused",
    "server_ms_median", "bytes_up", "bytes_down", "evaluation_key_bytes", "cipher_mb_per_s",
}  # fmt: skip


@pytest.mark.parametrize(
    "form",
    ["folder", *(pytest.param(form, marks=pytest.mark.slow) for form in ("colour npz", "dicom table"))],
)
def test_demo_on_own_data_agrees_with_clear_and_finds_no_plaintext(form: str, tmp_path: Path) -> None:
    match form:
        case "colour npz":
            data, classes = write_npz(tmp_path / "shapes.npz", colour=True), 3
        case "folder":
            data, classes = write_folder(tmp_path / "shapes"), 2
        case _:
            data, classes = write_dicom_table(tmp_path / "scans"), 2
    out = run("demo", "--data", data, "--epochs", 40, "--json", "figures.json", cwd=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == FIELDS
    assert len(figures["classes"]) == classes
    assert figures["n_test"] >= 12
    assert figures["label_agreement"] == 1.0
    assert figures["encrypted_accuracy"] == figures["clear_accuracy"] > figures["majority_share"] >= 1 / classes
    assert 0 < figures["max_abs_error"] < 1e-3
    assert 0 <= figures["max_probability_difference"] <= 1e-3
    said = " ".join(out.split())
    assert "bit for bit" in said
    assert re.search(
        r"0 of \d{2,} plaintext pieces found .*control: (\d+) of \1 in the originals, (\d+) of \2 planted", said
    )
    page = (tmp_path / "he-infer-demo" / "report.html").read_text()
    head = re.search(r"(\d+) pieces of the head's weights .* and 0 were found\.\s.* finds (\d+) of \1", page)
    assert head is not None
    assert head[1] == head[2]
    judged = re.findall(
        r"<td>((?:a photograph|uniform|a chess|an inverted)[^<]*)</td>.*?([\d.]+)</td>.*?([\d.]+)</td><td>(\w+)", page
    )
    if figures["guard_refused"] is not None:  # a guard takes twenty validation images
        assert len(judged) == 5
        assert all((verdict == "refused") == (float(far) > float(most)) for _, far, most, verdict in judged)
        assert figures["guard_refused"] <= figures["n_test"] / 4
    assert (figures["guard_refused"] is not None) == (form == "colour npz")
    made = tmp_path / "he-infer-demo"
    assert (made / "hospital" / "results.csv").read_text().count("\n") == figures["n_test"] + 1
    assert not list((made / "hospital").glob("*.server.*"))
    assert not list((made / "cloud").glob("*.client.*"))
    assert page.count("data:image/png;base64,") >= 3
    assert "an invented identifier" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_second_demo_replaces_the_first_and_touches_nothing_else(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "two.npz", classes=2)
    options = ("--data", data, "--epochs", 1, "--limit", 2)
    run("demo", *options, cwd=tmp_path)
    (tmp_path / "he-infer-demo" / "leftover").write_text("of the first run")
    assert "two" in run("demo", *options, "--recording", "terminal.svg", cwd=tmp_path)
    picture = (tmp_path / "terminal.svg").read_text()
    assert "[7/7]" in picture.replace("&#160;", " ")
    assert "Label" in picture
    assert "url(" not in picture.replace("url(#", "")
    assert not (tmp_path / "he-infer-demo" / "leftover").exists()
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter").write_text("years of work")
    assert "not made by a demo" in run("demo", *options, "--out", own, status=1, cwd=tmp_path)
    refused = run("demo", *options, "--extractor", "efficientnet-lite0", status=1, cwd=tmp_path)
    assert "is kept as it is" in " ".join(refused.split())
    assert (own / "chapter").read_text() == "years of work"


@pytest.mark.slow
def test_default_demo_on_real_dicom_files_agrees_with_clear(tmp_path: Path) -> None:
    out = run("demo", "--json", "figures.json", cwd=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["classes"] == ["CT", "MR", "ultrasound", "radiograph"]
    assert figures["label_agreement"] >= 0.998
    assert figures["evaluation_key_bytes"] < 15e6
    assert figures["bytes_up"] < 3e6
    assert "patients" in out
    assert (figures["pictures"], figures["patients"]) == (12, 8)
    assert figures["pictures_right_encrypted"] == figures["pictures_right_clear"] >= 9
    page = (tmp_path / "he-infer-demo" / "report.html").read_text()
    assert re.search(r"<td>a photograph of a flower</td>.*?<td>refused", page)
