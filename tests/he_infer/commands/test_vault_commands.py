"""The commands protect, restore, inspect, verify and rekey."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cipher.files.atomic import TEMPORARY_SUFFIX
from tests.cipher.packaged import packaged
from tests.he_infer.commands.running import WORDS, Run, contents, one_line


def test_sealed_tree_is_restored_with_its_times(run: Run, tree: Path, tmp_path: Path) -> None:
    code, out, err = run("protect", "scans", "--to", "vault", "--json", "figures.json")
    assert (code, err) == (0, "")
    assert "Made a new vault key" in out
    assert "sealed 6" in out
    assert json.loads((tmp_path / "figures.json").read_text())["done"] == 6
    assert all(path.suffix == ".sealed" and len(path.stem) == 32 for path in (tmp_path / "vault").iterdir())
    whole = b"".join(contents(tmp_path / "vault").values())
    assert not any(secret in whole for secret in (b"CT_small", b"notes", b"scans", b"CompressedSamples"))
    assert run("restore", "vault", "--to", "back")[0] == 0
    assert contents(tmp_path / "back" / "scans") == contents(tree)
    for path in tree.rglob("*.dcm"):
        assert (tmp_path / "back" / path.relative_to(tmp_path)).stat().st_mtime_ns == path.stat().st_mtime_ns


def test_region_stays_sealed_in_a_viewable_image(run: Run, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy2(packaged("CT_small.dcm"), tmp_path / "scans" / "ct.dcm")
    code, out, err = run("protect", "scans", "--to", "vault", "--region", "0,0,60,12", "--region", "100,0,28,12")
    assert (code, err) == (0, "")
    assert "sealed 1" in out
    (made,) = (tmp_path / "vault").glob("*.dcm")
    shown, before = pydicom.dcmread(made).pixel_array, pydicom.dcmread(packaged("CT_small.dcm")).pixel_array
    assert len(np.unique(shown[:12, :60])) == 1
    np.testing.assert_array_equal(shown[12:], before[12:])
    assert "region" in run("inspect", "vault")[1]
    again = run("protect", "scans", "--to", "vault", "--region", "0,0,60,12", "--region", "100,0,28,12")
    assert again[0] == 0
    assert "sealed 1" not in again[1]
    assert run("verify", "vault")[0] == 0
    assert run("restore", "vault", "--to", "back")[0] == 0
    assert (tmp_path / "back" / "scans" / "ct.dcm").read_bytes() == packaged("CT_small.dcm").read_bytes()
    assert run("restore", "vault", "--to", "back")[0] == 0, "it is there already, with the same content"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--region", "0,0,4"), "x,y,width,height"),
        (("--region", "0,0,400,4"), "does not lie in the image"),
        (("--region", "0,0,4,4", "--form", "dicom"), "either"),
        (("--mask", "absent.png"), "absent.png"),
    ],
)
def test_region_that_does_not_fit_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    shutil.copy2(packaged("CT_small.dcm"), tmp_path / "ct.dcm")
    code, out, err = run("protect", "ct.dcm", "--to", "vault", *arguments)
    assert code != 0
    assert message in " ".join((out + err).split())


def test_second_run_seals_only_remaining_files(run: Run, tree: Path, tmp_path: Path) -> None:
    run("protect", tree / "a", "--to", "vault")
    before = contents(tmp_path / "vault")
    shutil.copy2(packaged("MR_small.dcm"), tree / "a" / "new.dcm")
    (tree / "a" / "CT_small.dcm").write_bytes(packaged("CT_small.dcm").read_bytes() + b"\0\0")
    code, out, _ = run("protect", tree / "a", "--to", "vault")
    assert code == 0
    assert all(part in out for part in ("sealed 1", "sealed anew 1", "already there 1"))
    after = contents(tmp_path / "vault")
    assert sum(after.get(name) == data for name, data in before.items()) == 1
    assert run("restore", "vault", "--to", "back")[0] == 0
    code, out, _ = run("restore", "vault", "--to", "back")
    assert "already there 3" in out
    assert contents(tmp_path / "back" / "a") == contents(tree / "a")


def test_an_older_version_put_back_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("first")
    run("protect", "note.txt", "--to", "vault")
    (sealed,) = (tmp_path / "vault").iterdir()
    old = sealed.read_bytes()
    (tmp_path / "note.txt").write_text("second")
    run("protect", "note.txt", "--to", "vault")
    sealed.write_bytes(old)
    for command in (
        ("verify", "vault"),
        ("restore", "vault", "--to", "back"),
        ("protect", "note.txt", "--to", "vault"),
    ):
        code, _, err = run(*command)
        assert code == 1
        assert "an older one was put back" in err
    assert not contents(tmp_path / "back")


def test_dicom_form_keeps_names_and_restores_equal_files(run: Run, tree: Path, tmp_path: Path) -> None:
    code, out, _ = run("protect", tree / "a", "--to", "vault", "--form", "dicom", "--names", "kept")
    assert code == 0
    assert "key pair" in out
    assert (tmp_path / "vault" / "a" / "b" / "JPEG2000.dcm.dcm").exists()
    code, out, _ = run("inspect", "vault", "--json", "said.json")
    assert code == 0
    said = json.loads((tmp_path / "said.json").read_text())["objects"]
    assert {found["form"] for found in said} == {"dicom"}
    assert all(found["sop_instance_uid"].startswith("2.25.") for found in said)
    assert run("verify", "vault")[0] == 0
    assert run("restore", "vault", "--to", "back")[0] == 0
    assert contents(tmp_path / "back" / "a") == contents(tree / "a")


def test_rekeyed_vault_opens_with_new_key_only(run: Run, tree: Path, tmp_path: Path) -> None:
    run("protect", tree, "--to", "vault")
    assert run("rekey", "vault", "--new-key", "new.key")[0] == 0
    code, out, _ = run("rekey", "vault", "--new-key", "new.key")
    assert (code, "already there 6" in out) == (0, True)
    code, _, err = run("verify", "vault")
    assert code == 1
    assert "another vault key" in err
    os.environ["HE_INFER_PASSPHRASE"] = "another " + WORDS
    assert run("verify", "vault", "--key", "new.key")[0] == 0


def test_folders_on_all_cores_give_the_same_files(run: Run, tree: Path, tmp_path: Path) -> None:
    assert run("protect", tree, "--to", "vault", "--jobs", "2")[0] == 0
    assert run("restore", "vault", "--to", "back", "--jobs", "2")[0] == 0
    assert contents(tmp_path / "back" / "scans") == contents(tree)


def test_vault_and_key_inside_source_are_not_sealed(run: Run, tree: Path) -> None:
    run("protect", ".", "--to", "vault", "--names", "kept")
    code, out, _ = run("protect", ".", "--to", "vault", "--names", "kept")
    assert (code, "already there 6" in out) == (0, True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_whole_objects_and_a_second_run_continues(tmp_path: Path, jobs: int) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    for number in range(60):
        (source / f"{number:02}").write_bytes(os.urandom(1 << 20))
    command = [sys.executable, "-m", "he_infer", "protect", "scans", "--to", "vault", "--jobs", str(jobs)]
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 120
        while not list((tmp_path / "vault").glob("*.sealed")) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Run the same command again" in err
    assert not list((tmp_path / "vault").glob(f"*{TEMPORARY_SUFFIX}"))
    done = len(list((tmp_path / "vault").iterdir()))
    assert 0 < done < 60
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert f"already there {done}" in again.stdout
    assert len(list((tmp_path / "vault").iterdir())) == 60


def test_two_files_of_equal_name_size_and_time_are_both_restored(run: Run, tmp_path: Path) -> None:
    for patient, content in (("p1", "AAAA"), ("p2", "BBBB")):
        (tmp_path / patient).mkdir()
        (tmp_path / patient / "IM0001").write_text(content)
        os.utime(tmp_path / patient / "IM0001", (1_700_000_000, 1_700_000_000))
    assert run("protect", "p1/IM0001", "--to", "vault")[0] == 0
    assert run("protect", "p2/IM0001", "--to", "vault")[0] == 0
    assert run("restore", "vault", "--to", "back")[0] == 0
    assert contents(tmp_path / "back") == {"IM0001": b"AAAA", "p2/IM0001": b"BBBB"}


def test_links_empty_folders_and_pipes_are_kept_or_named(run: Run, tmp_path: Path) -> None:
    top = tmp_path / "s"
    (top / "real").mkdir(parents=True)
    (top / "hollow").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("not asked for")
    (top / "real" / "IM1.txt").write_text("x")
    for name, target in (("real/latest", "IM1.txt"), ("out", "../outside"), ("broken", "nowhere")):
        (top / name).symlink_to(target)
    os.mkfifo(top / "pipe")
    code, out, err = run("protect", "s", "--to", "vault")
    assert (code, "passed over: " in err, "a pipe" in err, "leads out of its tree: ../outside" in out) == (0,) + (
        True,
    ) * 3
    assert run("restore", "vault", "--to", "back")[0] == 0
    back = tmp_path / "back" / "s"
    assert {name: str((back / name).readlink()) for name in ("real/latest", "out", "broken")} == {
        "real/latest": "IM1.txt",
        "out": "../outside",
        "broken": "nowhere",
    }
    assert (back / "hollow").is_dir()
    assert contents(tmp_path / "back") == {"s/real/IM1.txt": b"x", "s/real/latest": b"x"}
    assert "already there 5" in run("restore", "vault", "--to", "back")[1]


def test_two_keys_of_one_stem_share_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "note").write_text("x")
    assert run("protect", "note", "--to", "vault", "--key", "hospital.2025")[0] == 0
    assert run("rekey", "vault", "--key", "hospital.2025", "--new-key", "hospital.2026")[0] == 0
    monkeypatch.setenv("HE_INFER_PASSPHRASE", "another " + WORDS)
    assert run("verify", "vault", "--key", "hospital.2026")[0] == 0
    assert {path.name for path in tmp_path.glob("hospital.*")} == {
        f"hospital.{year}{ending}" for year in (2025, 2026) for ending in ("", ".ledger", ".ledger.lock")
    }


def test_two_first_runs_at_once_use_one_key(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "he_infer", "protect", name, "--to", f"vault-{name}", "--key", "k"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    command = [sys.executable, "-m", "he_infer", "verify", "vault-a", "vault-b", "--key", "k"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "verified 2" in done.stdout) == (0, True), done.stderr


def test_recipient_is_exported_only_under_another_passphrase(
    run: Run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("protect", tree / "a", "--to", "vault", "--form", "dicom")[0] == 0
    assert not list(tmp_path.glob("*.p12"))
    monkeypatch.setenv("HE_INFER_EXPORT_PASSPHRASE", WORDS)
    code, _, err = run("export-recipient", "--to", "r.p12")
    assert (code, "another than the vault key" in err, (tmp_path / "r.p12").exists()) == (1, True, False)
    monkeypatch.setenv("HE_INFER_EXPORT_PASSPHRASE", "a third " + WORDS)
    assert run("export-recipient", "--to", "r.p12")[0] == 0
    assert (tmp_path / "r.p12").stat().st_mode & 0o777 == 0o600
    assert run("export-recipient", "--to", "r.p12")[0] == 1


def test_recipient_opens_shared_objects_until_share_ends(
    run: Run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("doctor", "escrow", "other"):
        assert run("recipient-key", f"{name}.key")[0] == 0
    assert run("protect", tree, "--to", "vault", "--recovery", "escrow.key.pub")[0] == 0
    before = contents(tmp_path / "vault")
    code, out, _ = run("share", "vault", "--with", "doctor.key.pub")
    assert (code, "shared 6" in out) == (0, True)
    assert "already there 6" in run("share", "vault", "--with", "doctor.key.pub")[1]
    after = contents(tmp_path / "vault")
    assert {name: len(data) for name, data in after.items()} == {name: len(data) for name, data in before.items()}
    for number, name in enumerate(("doctor", "escrow")):
        code, _, err = run("restore", "vault", "--to", f"back{number}", "--recipient-key", f"{name}.key", "--jobs", "2")
        assert code == 0, err
        assert contents(tmp_path / f"back{number}" / "scans") == contents(tree)
    assert run("verify", "vault")[0] == 0
    assert "(recovery)" in run("inspect", "vault")[1]
    assert run("recipients", "vault")[1].count("(recovery)") == 6
    code, _, err = run("restore", "vault", "--to", "no", "--recipient-key", "other.key")
    assert (code, "not shared with" in err) == (1, True)
    assert run("share", "vault", "--with", "other.key.pub", "--recipient-key", "other.key")[0] == 1
    assert "unshared 6" in run("unshare", "vault", "--from", "doctor.key.pub")[1]
    assert run("restore", "vault", "--to", "no", "--recipient-key", "doctor.key")[0] == 1
    assert contents(tmp_path / "vault") == before
    (tmp_path / "later.txt").write_text("sealed later, under the same policy")
    assert run("protect", "later.txt", "--to", "vault")[0] == 0
    assert run("restore", "vault", "--to", "again", "--recipient-key", "escrow.key")[0] == 0


def test_pseudonyms_are_stable_in_a_project_unlinkable_across_and_resolvable(run: Run, tmp_path: Path) -> None:
    for number in range(2):
        shutil.copy2(packaged("CT_small.dcm"), tmp_path / f"{number}.dcm")
    for project in ("trial", "registry"):
        command = ("protect", "0.dcm", "1.dcm", "--to", "vault", "--form", "dicom", "--project", project)
        assert run(*command)[0] == 0
        assert "already there 2" in run(*command)[1]
    assert run("resolve", "vault", "--json", "said.json")[0] == 0
    objects = json.loads((tmp_path / "said.json").read_text())["objects"]
    by_project: dict[str, set[tuple[str, str]]] = {}
    for found in objects:
        by_project.setdefault(found["original"]["project"], set()).add((found["patient_id"], found["study"]))
        assert found["original"]["PatientID"] == str(pydicom.dcmread(tmp_path / "0.dcm").PatientID)
    assert {project: len(named) for project, named in by_project.items()} == {"trial": 1, "registry": 1}
    ((first_patient, first_study),) = by_project["trial"]
    ((second_patient, second_study),) = by_project["registry"]
    assert first_patient != second_patient
    assert first_study != second_study
    code, _, err = run("resolve", "vault", "--key", "other.key")
    assert (code, one_line(err)) == (1, True)


def test_recipient_of_dicom_objects_reads_attributes_and_pixels_until_unshared(run: Run, tmp_path: Path) -> None:
    shutil.copy2(packaged("CT_small.dcm"), tmp_path / "ct.dcm")
    assert run("recipient-key", "doctor.key")[0] == 0
    assert run("protect", "ct.dcm", "--to", "vault", "--form", "dicom", "--share-with", "doctor.key.pub")[0] == 0
    assert run("resolve", "vault", "--recipient-key", "doctor.key", "--json", "said.json")[0] == 0
    (found,) = json.loads((tmp_path / "said.json").read_text())["objects"]
    assert found["original"]["PatientID"] == str(pydicom.dcmread(tmp_path / "ct.dcm").PatientID)
    assert run("restore", "vault", "--to", "back", "--recipient-key", "doctor.key")[0] == 0
    assert (tmp_path / "back" / "ct.dcm").read_bytes() == packaged("CT_small.dcm").read_bytes()
    assert run("unshare", "vault", "--from", "doctor.key.pub")[0] == 0
    assert run("resolve", "vault", "--recipient-key", "doctor.key")[0] == 1


def test_frames_are_restored_alone(run: Run, tmp_path: Path) -> None:
    shutil.copy2(packaged("rtdose.dcm"), tmp_path / "dose.dcm")
    assert run("protect", "dose.dcm", "--to", "vault")[0] == 0
    assert run("restore", "vault", "--to", "back", "--frames", "2:5")[0] == 0
    (path,) = (tmp_path / "back").iterdir()
    assert path.name == "dose.dcm.frames-2-5.npy"
    with pydicom.dcmread(tmp_path / "dose.dcm") as whole:
        np.testing.assert_array_equal(np.load(path), whole.pixel_array[2:5])
    for wrong, words in (("5", "no range"), ("5:2", "no range"), ("2:500", "frames 0 to")):
        code, _, err = run("restore", "vault", "--to", "more", "--frames", wrong)
        assert (code, one_line(err), words in err) == (1, True, True)
