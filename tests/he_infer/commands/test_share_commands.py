"""The commands share, unshare, recipients, and restore --frames, with odd input and at odd moments."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cipher.packaged import packaged
from tests.he_infer.commands.running import WORDS, Run, contents, one_line

NAMES = ("doctor", "nurse")


@pytest.fixture
def vault(run: Run, tmp_path: Path) -> Path:
    """A vault of two files, and two recipients' keys."""
    for name in NAMES:
        assert run("recipient-key", f"{name}.key")[0] == 0
    (tmp_path / "plain").mkdir()
    for name in ("a", "b"):
        (tmp_path / "plain" / name).write_text(name)
    assert run("protect", "plain", "--to", "vault")[0] == 0
    return tmp_path / "vault"


def key_ids(run: Run, folder: str = "vault") -> list[list[dict[str, object]]]:
    """The recipients of each object."""
    assert run("recipients", folder, "--json", "said.json")[0] == 0
    return [found["recipients"] for found in json.loads(Path("said.json").read_text())["objects"]]


def test_same_recipient_twice_counts_once(run: Run, vault: Path) -> None:
    twice = ("--with", "doctor.key.pub", "--with", "doctor.key.pub")
    assert "shared 2" in run("share", "vault", *twice)[1]
    assert [len(listed) for listed in key_ids(run)] == [1, 1]
    assert "already there 2" in run("share", "vault", *twice)[1]
    assert "unshared 2" in run("unshare", "vault", "--from", "doctor.key.pub", "--from", "doctor.key.pub")[1]
    assert (
        run("protect", "plain", "--to", "other", "--share-with", "doctor.key.pub", "--share-with", "doctor.key.pub")[0]
        == 0
    )
    assert [len(listed) for listed in key_ids(run, "other")] == [1, 1]


def test_last_recipient_can_be_removed_and_the_vault_key_still_opens(run: Run, vault: Path) -> None:
    before = contents(vault)
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    assert run("unshare", "vault", "--from", "doctor.key.pub", "--recipient-key", "doctor.key")[0] == 0
    assert contents(vault) == before
    assert key_ids(run) == [[], []]
    code, out, err = run("unshare", "vault", "--from", "doctor.key.pub")
    assert (code, err, "was not shared with" in out) == (0, "", True)
    assert run("restore", "vault", "--to", "back")[0] == 0


def test_absent_recipient_among_others_is_named(run: Run, vault: Path) -> None:
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    ((listed,), _) = key_ids(run)
    code, out, _ = run("unshare", "vault", "--from", "nurse.key.pub", "--from", "doctor.key.pub")
    assert (code, "unshared 2" in out) == (0, True)
    assert out.count("was not shared with") == 1
    assert str(listed["key_id"])[:8] not in out


def test_sharing_for_recovery_marks_a_recipient_who_is_there(run: Run, vault: Path) -> None:
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    assert "shared 2" in run("share", "vault", "--with", "doctor.key.pub", "--recovery")[1]
    assert [[one["recovery"] for one in listed] for listed in key_ids(run)] == [[True], [True]]
    assert "already there 2" in run("share", "vault", "--with", "doctor.key.pub")[1], "the mark stays"
    assert run("restore", "vault", "--to", "back", "--recipient-key", "doctor.key")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("share", "vault", "--with", "absent.pub"), "absent.pub: No such file"),
        (("share", "vault", "--with", "plain"), "plain: Is a directory"),
        (("share", "vault", "--with", "plain/a"), "no X25519 public key"),
        (("share", "vault", "--with", "doctor.key"), "no X25519 public key"),
        (("share", "nowhere", "--with", "doctor.key.pub"), "no file or folder nowhere"),
        (("share", "plain", "--with", "doctor.key.pub"), "no sealed object in plain"),
        (("share", "plain/a", "--with", "doctor.key.pub"), "not a sealed object"),
        (("share", "vault", "--with", "doctor.key.pub", "--key", "absent.key"), "absent.key"),
        (("unshare", "vault", "--from", "nobody"), "nobody: No such file"),
        (("unshare", "vault", "--from", "0123abcd"), "all 32 digits"),
        (("unshare", "vault", "--from", "plain"), "plain: Is a directory"),
        (("recipients", "plain"), "no sealed object in plain"),
        (("recipients", "plain/a"), "not a sealed object"),
        (("recipients", "nowhere"), "no file or folder nowhere"),
    ],
)
def test_odd_recipient_or_path_is_one_line(arguments: tuple[str, ...], words: str, run: Run, vault: Path) -> None:
    before = contents(vault)
    code, out, err = run(*arguments)
    assert (code, out, one_line(err), words in err) == (1, "", True, True), err
    assert contents(vault) == before


def test_key_id_may_be_given_in_capitals(run: Run, vault: Path) -> None:
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    ((listed,), _) = key_ids(run)
    assert "unshared 2" in run("unshare", "vault", "--from", str(listed["key_id"]).upper())[1]


@pytest.mark.parametrize("command", ["share", "unshare", "recipients"])
def test_cut_object_is_named_and_the_others_are_worked_on(command: str, run: Run, vault: Path) -> None:
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    cut = min(vault.iterdir())
    cut.write_bytes(cut.read_bytes()[:-1])
    options = {"share": ("--with", "nurse.key.pub"), "unshare": ("--from", "doctor.key.pub"), "recipients": ()}
    code, out, err = run(command, "vault", *options[command])
    assert (code, err.count("\n"), f"failed: {cut}: " in err, "cut off" in err) == (1, 1, True, True)
    assert {"share": "shared 1", "unshare": "unshared 1", "recipients": max(vault.iterdir()).name[:20]}[command] in out
    code, _, err = run(command, cut, *options[command])
    assert (code, one_line(err)) == (1, True)


@pytest.mark.skipif(os.name != "posix", reason="the folder is closed by a mode, and for root by a mount")
def test_folder_that_cannot_be_listed_fails_the_command(run: Run, vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = vault / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for command in (("share", "vault", "--with", "doctor.key.pub"), ("recipients", "vault")):
        code, _, err = run(*command)
        assert (code, err.count("\n"), "Cannot list" in err) == (1, 1, True)


def test_changed_file_says_whom_its_next_version_is_closed_to(run: Run, vault: Path, tmp_path: Path) -> None:
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    ((listed, *_), _) = key_ids(run)
    (tmp_path / "plain" / "a").write_text("changed")
    code, out, _ = run("protect", "plain", "--to", "vault")
    assert (code, "sealed anew 1" in out) == (0, True)
    assert f"no longer shared with {str(listed['key_id'])[:8]}" in out
    code, out, _ = run("protect", "plain", "--to", "vault", "--share-with", "doctor.key.pub")
    assert (code, "already there 2" in out) == (0, True)
    assert f"closed to {str(listed['key_id'])[:8]}" in out
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    assert "closed to" not in run("protect", "plain", "--to", "vault", "--share-with", "doctor.key.pub")[1]


def test_two_shares_at_once_both_take_effect(run: Run, vault: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS}
    outcomes: list[int] = []

    def share(name: str) -> None:
        command = [sys.executable, "-m", "he_infer", "share", "vault", "--with", f"{name}.key.pub"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        outcomes.append(done.returncode)

    threads = [threading.Thread(target=share, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [0, 0]
    assert [len(listed) for listed in key_ids(run)] == [2, 2]
    assert run("verify", vault)[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_leaves_whole_objects_and_sharing_again_finishes(run: Run, vault: Path, tmp_path: Path) -> None:
    for number in range(150):
        shutil.copy2(min(vault.iterdir()), vault / f"copy {number}.sealed")
    command = [sys.executable, "-m", "he_infer", "share", "vault", "--with", "doctor.key.pub", "--jobs", "1"]
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS}
    before = {path: path.stat().st_mtime_ns for path in vault.iterdir()}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if any(path.stat().st_mtime_ns != time_ for path, time_ in before.items()):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 130), err  # 0 where it was faster than the signal
    assert "Traceback" not in err
    assert run("verify", "vault", "--any-name")[2].count("half written") == 0
    assert run("share", "vault", "--with", "doctor.key.pub")[0] == 0
    assert [len(listed) for listed in key_ids(run)] == [1] * 152


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ("5", "no range"), ("5:5", "no range"), ("5:2", "no range"), ("-1:3", "no range"), ("1:-3", "no range"),
        ("1:2:3", "no range"), (":", "no range"), ("", "is empty"), ("a:b", "no range"), ("1.5:2", "no range"),
        ("\u0661:\u0662", "no range"), ("1_0:2_0", "no range"), ("0:" + "9" * 5000, "no range"),
        ("2:500", "has the frames 0 to 14; asked for 2 to 499"), ("15:16", "has the frames 0 to 14"),
    ],
)  # fmt: skip
def test_frames_that_are_no_range_of_the_image_are_one_line(frames: str, words: str, run: Run, tmp_path: Path) -> None:
    shutil.copy2(packaged("rtdose.dcm"), tmp_path / "dose.dcm")
    assert run("protect", "dose.dcm", "--to", "vault")[0] == 0
    code, out, err = run("restore", "vault", "--to", "back", "--frames", frames)
    assert (code, out, one_line(err), words in err) == (1, "", True, True), err
    assert not (tmp_path / "back").exists() or not any((tmp_path / "back").iterdir())


def test_frames_that_are_there_already_are_left_alone(run: Run, tmp_path: Path) -> None:
    shutil.copy2(packaged("rtdose.dcm"), tmp_path / "dose.dcm")
    assert run("protect", "dose.dcm", "--to", "vault")[0] == 0
    command = ("restore", "vault", "--to", "back", "--frames", "2:5")
    assert "restored 1" in run(*command)[1]
    assert "already there 1" in run(*command)[1]
    (path,) = (tmp_path / "back").iterdir()
    path.write_bytes(b"other content")
    code, _, err = run(*command)
    assert (code, one_line(err), "--overwrite" in err) == (1, True, True)
    assert run(*command, "--overwrite")[0] == 0
