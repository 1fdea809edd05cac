"""Bad input to the commands protect, restore, inspect and verify."""

import io
import json
from pathlib import Path

import pytest

from tests.cipher.packaged import packaged
from tests.he_infer.commands.running import WORDS, Run, one_line


class TestBadInput:
    """Bad input gives one clear line and exit code 1, and nothing is written."""

    def test_missing_file_is_refused(self, run: Run, tmp_path: Path) -> None:
        code, _, err = run("protect", "nowhere.dcm", "--to", "vault")
        assert (code, one_line(err), "no file or folder nowhere.dcm" in err) == (1, True, True)
        assert not list(tmp_path.iterdir())

    def test_vault_path_that_is_a_file_is_refused(self, run: Run, tree: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        code, _, err = run("protect", tree, "--to", "file")
        assert (code, one_line(err), "Cannot make the folder file" in err) == (1, True, True)

    def test_empty_folder_is_refused(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for command in (("protect", "empty", "--to", "vault"), ("restore", "empty", "--to", "back")):
            code, _, err = run(*command)
            assert (code, one_line(err), "No file" in err) == (1, True, True)

    def test_text_named_dicom_is_refused(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "text.dcm").write_text("no image")
        code, _, err = run("protect", "text.dcm", "--to", "vault")
        assert (code, one_line(err), "--any-file" in err) == (1, True, True)
        assert run("protect", "text.dcm", "--to", "vault", "--any-file")[0] == 0

    def test_truncated_dicom_file_is_refused(self, run: Run, tmp_path: Path) -> None:
        data = packaged("CT_small.dcm").read_bytes()
        (tmp_path / "cut.dcm").write_bytes(data[:400])
        code, _, err = run("protect", "cut.dcm", "--to", "vault", "--form", "dicom")
        assert (code, one_line(err)) == (1, True)

    def test_dicom_without_pixels_is_refused_in_dicom_form(self, run: Run) -> None:
        code, _, err = run("protect", packaged("DICOMDIR"), "--to", "vault", "--form", "dicom")
        assert (code, one_line(err), "no pixel data" in err) == (1, True, True)

    def test_failing_file_in_a_folder_is_named_and_the_rest_done(self, run: Run, tree: Path, tmp_path: Path) -> None:
        (tree / "text.dcm").write_text("no image")
        code, out, err = run("protect", tree, "--to", "vault", "--json", "figures.json")
        assert code == 1
        assert "sealed 6; failed 1" in out
        assert "text.dcm" in err
        assert json.loads((tmp_path / "figures.json").read_text())["failures"][0]["error"] == "UnsupportedFormat"

    def test_wrong_or_missing_passphrase_or_key_is_refused(
        self, run: Run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run("protect", tree / "empty", "--to", "vault")
        monkeypatch.setenv("HE_INFER_PASSPHRASE", "wrong " + WORDS)
        code, _, err = run("restore", "vault", "--to", "back")
        assert (code, one_line(err), "not the one" in err) == (1, True, True)
        monkeypatch.delenv("HE_INFER_PASSPHRASE")
        monkeypatch.setattr("sys.stdin", io.StringIO())
        code, _, err = run("restore", "vault", "--to", "back")
        assert (code, one_line(err), "--passphrase-file" in err) == (1, True, True)
        code, _, err = run("protect", tree, "--to", "vault", "--key", "other.key")
        assert (code, one_line(err), "holds sealed objects already" in err) == (1, True, True)
        assert not (tmp_path / "other.key").exists()

    def test_passphrase_file_must_be_private(
        self, run: Run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HE_INFER_PASSPHRASE")
        words = tmp_path / "words"
        words.write_text(WORDS + "\n")
        words.chmod(0o644)
        code, _, err = run("protect", tree, "--to", "vault", "--passphrase-file", words)
        assert (code, "chmod 600" in err) == (1, True)
        words.chmod(0o600)
        assert run("protect", tree, "--to", "vault", "--passphrase-file", words)[0] == 0

    def test_wrong_key_and_damage_give_different_errors(self, run: Run, tree: Path, tmp_path: Path) -> None:
        run("protect", tree / "a" / "CT_small.dcm", "--to", "vault")
        run("protect", tree / "a" / "CT_small.dcm", "--to", "other", "--key", "other.key")
        (sealed,) = (tmp_path / "vault").iterdir()
        code, _, err = run("restore", sealed, "--to", "back", "--key", "other.key")
        assert (code, one_line(err), "another vault key" in err) == (1, True, True)
        data = bytearray(sealed.read_bytes())
        data[-1000] ^= 1
        sealed.write_bytes(data)
        code, _, err = run("restore", sealed, "--to", "back")
        assert (code, one_line(err), "was changed" in err) == (1, True, True)
        assert not (tmp_path / "back" / "CT_small.dcm").exists()

    def test_existing_file_at_target_is_kept(self, run: Run, tree: Path, tmp_path: Path) -> None:
        run("protect", tree / "rtdose.dcm", "--to", "vault")
        (tmp_path / "back").mkdir()
        (tmp_path / "back" / "rtdose.dcm").write_text("mine")
        code, _, err = run("restore", "vault", "--to", "back")
        assert (code, one_line(err), "--overwrite" in err) == (1, True, True)
        assert (tmp_path / "back" / "rtdose.dcm").read_text() == "mine"
        assert run("restore", "vault", "--to", "back", "--overwrite")[0] == 0
        assert (tmp_path / "back" / "rtdose.dcm").read_bytes() == (tree / "rtdose.dcm").read_bytes()

    def test_file_that_is_no_sealed_object_is_refused(self, run: Run, tree: Path) -> None:
        for command in ("inspect", "verify", "restore"):
            to = ("--to", "back") if command == "restore" else ()
            run("protect", tree / "empty", "--to", "vault")
            code, _, err = run(command, tree / "a" / "CT_small.dcm", *to)
            assert (code, one_line(err), "not a sealed object" in err) == (1, True, True)
