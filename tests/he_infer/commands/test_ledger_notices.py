"""What the commands say of a vault that others changed, by its ledger."""

import shutil
from pathlib import Path

import pytest

from tests.he_infer.commands.running import Run


@pytest.fixture
def vault(run: Run, tree: Path, tmp_path: Path) -> Path:
    """A vault of the tree's six files, sealed and noted in the ledger."""
    assert run("protect", tree, "--to", "vault")[0] == 0
    return tmp_path / "vault"


class TestLedgerNotices:
    """Changes to a vault by others. Without the ledger, each would end with exit code 0."""

    COMMANDS = (("verify", "vault"), ("restore", "vault", "--to", "back"))

    def refused(self, run: Run, *words: str) -> None:
        for command in self.COMMANDS:
            code, out, err = run(*command)
            assert (code, "Traceback" in err) == (1, False), (command, out, err)
            assert all(word in err for word in words), (command, out, err)

    def test_missing_object_is_named(self, run: Run, vault: Path) -> None:
        next(vault.iterdir()).unlink()
        self.refused(run, "missing: ", "scans/")

    def test_object_whose_header_is_cut_is_damaged_and_not_missing(self, run: Run, vault: Path) -> None:
        first = next(vault.iterdir())
        first.write_bytes(first.read_bytes()[:300])
        code, _, err = run("verify", "vault")
        assert (code, err.count("failed: "), "missing: " in err) == (1, 1, False)

    def test_emptied_vault_is_named(self, run: Run, vault: Path) -> None:
        for path in vault.iterdir():
            path.unlink()
        self.refused(run, "missing: ", "CT_small.dcm")

    def test_doubled_object_is_named(self, run: Run, vault: Path) -> None:
        first = next(vault.iterdir())
        shutil.copy(first, vault / "copy.sealed")
        self.refused(run, "doubled: ", "copy.sealed")

    def test_renamed_object_is_named_and_accepted_from_an_archive(self, run: Run, vault: Path) -> None:
        next(vault.iterdir()).rename(vault / "other.sealed")
        self.refused(run, "renamed: ", "other.sealed")
        assert run("verify", "vault", "--any-name")[0] == 0

    def test_two_exchanged_objects_are_named(self, run: Run, vault: Path) -> None:
        first, second, *_ = vault.iterdir()
        first.rename(vault / "between")
        second.rename(first)
        (vault / "between").rename(second)
        self.refused(run, "renamed: ")

    def test_lost_ledger_is_reported_and_can_be_rebuilt(
        self, run: Run, tree: Path, vault: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "he-infer-vault.key.ledger").unlink()
        self.refused(run, "ledger", "is gone", "--record")
        assert run("protect", tree, "--to", "vault")[0] == 1
        assert not list((tmp_path).glob("back/*"))
        code, out, _ = run("verify", "vault", "--record")
        assert (code, out.count("recorded: ")) == (0, 6)
        assert run("verify", "vault")[0] == 0

    def test_removal_on_purpose_is_recorded(self, run: Run, vault: Path) -> None:
        next(vault.iterdir()).unlink()
        code, out, _ = run("verify", "vault", "--record")
        assert (code, "forgotten: " in out) == (0, True)
        assert run("verify", "vault")[0] == 0

    def test_moved_vault_and_part_of_it_are_checked_in_place(self, run: Run, vault: Path, tmp_path: Path) -> None:
        vault.rename(tmp_path / "elsewhere")
        assert run("verify", "elsewhere")[0] == 0
        one, two, *_ = (tmp_path / "elsewhere").iterdir()
        assert run("verify", one)[0] == 0
        two.unlink()
        code, _, err = run("verify", "elsewhere")
        assert (code, "missing: " in err) == (1, True)

    def test_two_vaults_under_one_key_do_not_disturb_each_other(self, run: Run, vault: Path, tmp_path: Path) -> None:
        (tmp_path / "note").write_text("x")
        assert run("protect", "note", "--to", "second")[0] == 0
        for folder in ("vault", "second"):
            assert run("verify", folder)[0] == 0

    def test_lost_object_is_sealed_again_from_its_source(self, run: Run, tree: Path, vault: Path) -> None:
        next(vault.iterdir()).unlink()
        code, out, _ = run("protect", tree, "--to", "vault")
        assert (code, "sealed 1; already there 5" in out) == (0, True)
        assert run("verify", "vault")[0] == 0
