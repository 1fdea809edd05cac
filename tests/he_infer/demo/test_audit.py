"""The blindness audit: every count of the report's sentences, with leaks made on purpose."""

from pathlib import Path

import numpy as np
import pytest

from he_infer.demo.audit import audit_hospital, audit_server
from he_infer.demo.plaintext import FEATURES, FILES, IDENTIFIERS, INVENTED, PIXELS, SCORES
from models import datasets
from models.datasets import Dataset
from tests.e2e.kit import write_dicom_table, write_npz

FEATURE_VECTORS = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
SCORE_VECTORS = np.random.default_rng(1).normal(size=(8, 3))


@pytest.fixture
def scans(tmp_path: Path) -> Dataset:
    return datasets.load(write_dicom_table(tmp_path / "scans"))


@pytest.fixture
def server(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(np.random.default_rng(number).bytes(4000))
    return folder


def test_blind_server_gives_no_hit_and_both_controls_find_everything(scans: Dataset, server: Path) -> None:
    outcome = audit_server(server, scans, FEATURE_VECTORS, SCORE_VECTORS)
    assert (outcome.found, outcome.objects, outcome.bytes_read) == (0, 3, 12_000)
    assert outcome.control[0] == outcome.control[1] > 100
    assert outcome.plants[0] == outcome.plants[1] > 20
    assert {line.kind for line in outcome.lines if line.pieces} == {
        FILES, PIXELS, IDENTIFIERS, FEATURES, SCORES, INVENTED,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["ascii", "utf-16-le"])
def test_patient_identifier_in_a_log_is_found(scans: Dataset, server: Path, form: str) -> None:
    import pydicom

    patient = str(pydicom.dcmread(next(iter(scans.sources["train"]))).PatientID)
    (server / "server.log").write_bytes(f"request of {patient} accepted".encode(form))
    outcome = audit_server(server, scans, FEATURE_VECTORS, SCORE_VECTORS)
    assert outcome.found >= 1
    assert {(hit.piece.kind, hit.where) for hit in outcome.hits} == {(IDENTIFIERS, "server.log")}


@pytest.mark.parametrize(("kind", "leak"), [(FEATURES, FEATURE_VECTORS[3]), (SCORES, SCORE_VECTORS[5])])
def test_a_leaked_vector_is_found(
    scans: Dataset, server: Path, kind: str, leak: "np.ndarray[tuple[int], np.dtype[np.floating]]"
) -> None:
    (server / "answer.bin").write_bytes(b"\x01" + leak.tobytes())
    outcome = audit_server(server, scans, FEATURE_VECTORS, SCORE_VECTORS)
    assert [hit.piece.kind for hit in outcome.hits] == [kind]


def test_set_without_files_searches_pixels_and_the_invented_identifier(tmp_path: Path, server: Path) -> None:
    arrays = datasets.load(write_npz(tmp_path / "shapes.npz"))
    outcome = audit_server(server, arrays, FEATURE_VECTORS, SCORE_VECTORS)
    lines = {line.kind: line for line in outcome.lines}
    assert lines[FILES].pieces == lines[IDENTIFIERS].pieces == 0
    assert lines[PIXELS].in_originals == lines[PIXELS].pieces > 0
    assert lines[INVENTED].planted == lines[INVENTED].planted_found == 1
    assert outcome.found == 0


def test_progress_ends_with_all_bytes_of_the_three_scans(scans: Dataset, server: Path) -> None:
    calls: list[tuple[int, int]] = []
    audit_server(server, scans, FEATURE_VECTORS, SCORE_VECTORS, progress=lambda done, of: calls.append((done, of)))
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_weights_in_the_hospital_folder_are_found_and_the_control_finds_all(tmp_path: Path) -> None:
    weight = np.random.default_rng(2).normal(size=(4, 32))
    (tmp_path / "hospital").mkdir()
    (tmp_path / "cloud").write_bytes(b"head" + weight.tobytes())
    blind = audit_hospital(tmp_path / "hospital", tmp_path / "cloud", {"head.0.weight": weight})
    assert (blind.in_hospital, blind.in_cloud) == (0, blind.pieces)
    assert blind.pieces > 30
    (tmp_path / "hospital" / "leak").write_bytes(weight[2].astype("<f4").tobytes())
    assert audit_hospital(tmp_path / "hospital", tmp_path / "cloud", {"head.0.weight": weight}).in_hospital > 0
