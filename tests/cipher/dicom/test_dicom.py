"""DICOM files in both sealed forms: restored bytes, public attributes, refusals."""

import shutil
import struct
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from cipher.container.api import seal_bytes
from cipher.dicom.attributes import decrypt_attributes
from cipher.dicom.object import sides
from cipher.dicom.recipient import Recipient
from cipher.dicom.span import lay_out
from cipher.dicom.uids import patient_pseudonym, study_pseudonym
from cipher.errors import (
    AlreadyExists,
    BadKey,
    ContextMismatch,
    Damaged,
    FormatProblem,
    StorageProblem,
    UnsupportedFormat,
    UnsupportedImage,
    UnsupportedVersion,
    WrongKey,
)
from cipher.keys.vault_key import VaultKey
from cipher.vault.forms import describe_path, open_path, rekey_path, seal_path
from tests.cipher.opening import read_sealed, verify_sealed
from tests.cipher.packaged import packaged, packaged_files

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
PASSPHRASE = "correct horse battery staple"
CT = packaged("CT_small.dcm")


@pytest.fixture(scope="module")
def recipient() -> Recipient:
    return Recipient.generate()


@pytest.fixture(scope="module")
def sealed_ct(tmp_path_factory: pytest.TempPathFactory, recipient: Recipient) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "ct.dcm"
    seal_path(CT, path, KEY, "dicom", recipients=[recipient.certificate])
    return path


class TestEveryPackagedFile:
    """Every file of pydicom and pydicom-data comes back byte for byte, hence every pixel and attribute."""

    def test_packaged_file_in_the_container_form_is_restored_equal(self, tmp_path: Path) -> None:
        files = packaged_files()
        remarks: Counter[str] = Counter()
        for source in files:
            sealing = seal_path(source, tmp_path / "sealed", KEY)
            open_path(tmp_path / "sealed", tmp_path / "back", KEY)
            assert (tmp_path / "back").read_bytes() == source.read_bytes(), source.name
            remarks[sealing.remark.partition(" (")[0]] += 1
        assert len(files) > 250
        assert remarks[""] > 100, "too few files in which the pixels were found"
        assert set(remarks) == {
            "",
            "not a DICOM file",
            "it holds no pixel data",
            "its pixels are compressed and are kept as they are",
            "its pixel data does not fit the rows, columns and bits that it announces",
            "the data set is deflated",
        }

    def test_packaged_file_in_the_dicom_form_is_restored_or_clearly_refused(
        self, tmp_path: Path, recipient: Recipient
    ) -> None:
        counts: Counter[str] = Counter()
        for source in packaged_files():
            refusal = _refusal(source, tmp_path / "sealed.dcm", recipient)
            if refusal:
                assert source.name in refusal
                assert "Use the container form" in refusal
                assert not _has_pixels(source), source.name
            else:
                assert read_sealed(tmp_path / "sealed.dcm", KEY) == source.read_bytes(), source.name
            counts["refused" if refusal else "sealed"] += 1
        assert counts["sealed"] > 170

    def test_the_span_holds_exactly_the_stored_pixels(self) -> None:
        """Where pydicom decodes native pixels of whole bytes, the span is those bytes, type and shape included."""
        checked = 0
        for source in packaged_files():
            span = lay_out(source).span
            if span is None or source.stat().st_size > 1 << 20 or span.dtype == "|u1":
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(source)
                if not getattr(dataset.file_meta, "TransferSyntaxUID", None):
                    continue
                expected = dataset.pixel_array
            stored = np.frombuffer(source.read_bytes()[span.offset : span.offset + span.length], span.dtype)
            stored = stored.reshape(span.shape)
            if getattr(dataset, "PlanarConfiguration", 0) == 1:
                stored = np.moveaxis(stored.reshape(-1, 3, *span.shape[1:]), 1, -1)
            assert stored.size == expected.size, source.name
            if dataset.BitsStored == dataset.BitsAllocated:
                np.testing.assert_array_equal(stored.reshape(expected.shape), expected, source.name)
            checked += 1
        assert checked > 40


def _refusal(source: Path, target: Path, recipient: Recipient) -> str:
    """Seal in the DICOM form; the text of the refusal, empty where there is none."""
    try:
        seal_path(source, target, KEY, "dicom", recipients=[recipient.certificate])
    except UnsupportedFormat as error:
        return str(error)
    return ""


def _has_pixels(source: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "PixelData" in pydicom.dcmread(source)
        except InvalidDicomError:
            return False


class TestTheObjectInTheArchive:
    def test_sealed_object_is_a_valid_image_that_shows_nothing_of_the_original(self, sealed_ct: Path) -> None:
        original, made = pydicom.dcmread(CT), pydicom.dcmread(sealed_ct)
        assert made.pixel_array.shape == (made.Rows, made.Columns)
        assert made.pixel_array.dtype == np.uint8
        assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
        data = sealed_ct.read_bytes()
        for element in original:
            value = str(element.value).encode()
            if (
                element.VR in ("UI", "PN", "LO", "SH", "DA", "TM")
                and len(value) >= 6
                and "SOPClass" not in element.keyword
            ):
                assert value not in data, element.keyword
        kept = {element.tag for element in made}
        assert {tag for tag in kept if tag.is_private} == set()
        assert made.PatientIdentityRemoved == "YES"

    def test_dciodvfy_finds_no_error(self, sealed_ct: Path) -> None:
        if shutil.which("dciodvfy") is None:
            pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
        said = subprocess.run(["dciodvfy", sealed_ct], capture_output=True, text=True, check=False)
        assert "SCImage" in said.stderr + said.stdout
        assert "Error" not in said.stderr + said.stdout

    def test_one_study_stays_one_study_and_its_holder_finds_it(self, tmp_path: Path, recipient: Recipient) -> None:
        made = []
        for number, (key, linkable) in enumerate([(KEY, True), (KEY, True), (OTHER, True), (KEY, False)]):
            path = tmp_path / f"{number}.dcm"
            seal_path(CT, path, key, "dicom", recipients=[recipient.certificate], linkable=linkable)
            made.append(pydicom.dcmread(path))
        first, second, other_key, unlinkable = made
        original = pydicom.dcmread(CT)
        assert first.StudyInstanceUID == second.StudyInstanceUID == study_pseudonym(original.StudyInstanceUID, KEY)
        assert first.PatientID == second.PatientID == patient_pseudonym(original.PatientID, KEY)
        assert first.SOPInstanceUID != second.SOPInstanceUID
        assert len({first.StudyInstanceUID, other_key.StudyInstanceUID, unlinkable.StudyInstanceUID}) == 3
        assert len({first.PatientID, other_key.PatientID, unlinkable.PatientID}) == 3
        for dataset in made:
            assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in _uids(dataset))

    def test_a_new_version_of_a_file_keeps_its_object(self, tmp_path: Path, recipient: Recipient) -> None:
        first = seal_path(CT, tmp_path / "a.dcm", KEY, "dicom", recipients=[recipient.certificate]).version
        again = seal_path(
            CT, tmp_path / "a.dcm", KEY, "dicom", recipients=[recipient.certificate], replaces=first
        ).version
        assert (again.object_id, again.number) == (first.object_id, 2)
        assert verify_sealed(tmp_path / "a.dcm", KEY, expect=again).version == again


def _uids(dataset: Dataset) -> list[str]:
    return [dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID]


class TestEncryptedAttributes:
    def test_the_recipient_reads_the_original_attributes(self, sealed_ct: Path, recipient: Recipient) -> None:
        (item,) = pydicom.dcmread(sealed_ct).EncryptedAttributesSequence
        attributes, original = decrypt_attributes(item, recipient), pydicom.dcmread(CT)
        expected = {element.tag for element in original if element.tag < 0x7FE00010}
        assert {element.tag for element in attributes} == expected
        for tag in expected:
            assert attributes[tag].value == original[tag].value, original[tag].keyword

    def test_openssl_reads_the_encrypted_attributes(
        self, sealed_ct: Path, recipient: Recipient, tmp_path: Path
    ) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        recipient.export(tmp_path / "key.p12", PASSPHRASE)
        to_pem = ["openssl", "pkcs12", "-in", "key.p12", "-passin", f"pass:{PASSPHRASE}", "-noenc", "-out", "key.pem"]
        subprocess.run(to_pem, cwd=tmp_path, check=True, capture_output=True)
        (item,) = pydicom.dcmread(sealed_ct).EncryptedAttributesSequence
        (tmp_path / "content.der").write_bytes(item.EncryptedContent)
        decrypt = [
            "openssl",
            "cms",
            "-decrypt",
            "-inform",
            "DER",
            "-in",
            "content.der",
            "-inkey",
            "key.pem",
            "-out",
            "plain.bin",
            "-binary",
        ]
        subprocess.run(decrypt, cwd=tmp_path, check=True, capture_output=True)
        plain = (tmp_path / "plain.bin").read_bytes()
        assert plain[:8] == struct.pack("<HH2sH", 0x0400, 0x0550, b"SQ", 0), "a Modified Attributes Sequence"
        assert str(pydicom.dcmread(CT).PatientName).encode() in plain

    def test_another_recipient_does_not_read_the_attributes(self, sealed_ct: Path) -> None:
        (item,) = pydicom.dcmread(sealed_ct).EncryptedAttributesSequence
        with pytest.raises(BadKey, match="do not open"):
            decrypt_attributes(item, Recipient.generate("somebody else"))

    def test_recipient_key_is_kept_under_the_vault_key(self, recipient: Recipient, tmp_path: Path) -> None:
        recipient.save(tmp_path / "key.recipient", KEY)
        assert (tmp_path / "key.recipient").stat().st_mode & 0o777 == 0o600
        loaded = Recipient.load(tmp_path / "key.recipient", KEY)
        assert loaded.private_key.private_numbers() == recipient.private_key.private_numbers()
        with pytest.raises(WrongKey):
            Recipient.load(tmp_path / "key.recipient", OTHER)
        with pytest.raises(AlreadyExists, match="never overwritten"):
            recipient.save(tmp_path / "key.recipient", KEY)
        with pytest.raises(StorageProblem):
            Recipient.load(tmp_path / "none", KEY)
        (tmp_path / "other").write_bytes(seal_bytes(b"no key", KEY))
        with pytest.raises(Damaged, match="not a recipient"):
            Recipient.load(tmp_path / "other", KEY)

    def test_exported_recipient_opens_as_pkcs12_under_its_own_passphrase(
        self, recipient: Recipient, tmp_path: Path
    ) -> None:
        recipient.export(tmp_path / "key.p12", PASSPHRASE)
        assert (tmp_path / "key.p12").stat().st_mode & 0o777 == 0o600
        key, certificate, _ = pkcs12.load_key_and_certificates((tmp_path / "key.p12").read_bytes(), PASSPHRASE.encode())
        assert isinstance(key, rsa.RSAPrivateKey)
        assert key.private_numbers() == recipient.private_key.private_numbers()
        assert certificate == recipient.certificate
        with pytest.raises(AlreadyExists):
            recipient.export(tmp_path / "key.p12", PASSPHRASE)

    def test_no_recipient_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadKey, match="at least one recipient"):
            seal_path(CT, tmp_path / "out.dcm", KEY, "dicom")


def _set(name: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, name, value)


def _change_content(dataset: Dataset) -> None:
    content = bytearray(dataset.EncryptedAttributesSequence[0].EncryptedContent)
    content[-20] ^= 1
    dataset.EncryptedAttributesSequence[0].EncryptedContent = bytes(content)


def _drop_item(dataset: Dataset) -> None:
    dataset.EncryptedAttributesSequence = []


def _drop_sequence(dataset: Dataset) -> None:
    del dataset.EncryptedAttributesSequence


def _repeat_item(dataset: Dataset) -> None:
    dataset.EncryptedAttributesSequence = list(dataset.EncryptedAttributesSequence) * 2


CHANGES: dict[str, Callable[[Dataset], None]] = {
    "the instance UID": _set("SOPInstanceUID", "2.25.1"),
    "the study UID": _set("StudyInstanceUID", "2.25.1"),
    "the series UID": _set("SeriesInstanceUID", "2.25.1"),
    "the class UID": _set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
    "the bits": _set("BitsStored", 7),
    "the photometric interpretation": _set("PhotometricInterpretation", "MONOCHROME1"),
    "the encrypted content": _change_content,
    "no encrypted item": _drop_item,
    "no encrypted sequence": _drop_sequence,
    "the encrypted item twice": _repeat_item,
}


class TestWhatIsBound:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
    def test_a_changed_attribute_is_refused(
        self, change: Callable[[Dataset], None], sealed_ct: Path, tmp_path: Path
    ) -> None:
        dataset = pydicom.dcmread(sealed_ct)
        change(dataset)
        dataset.save_as(tmp_path / "changed.dcm")
        with pytest.raises(ContextMismatch):
            verify_sealed(tmp_path / "changed.dcm", KEY)
        with pytest.raises(ContextMismatch):
            open_path(tmp_path / "changed.dcm", tmp_path / "out", KEY)
        assert not (tmp_path / "out").exists()

    def test_other_rows_and_columns_are_refused(self, sealed_ct: Path, tmp_path: Path) -> None:
        dataset = pydicom.dcmread(sealed_ct)
        dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows
        dataset.save_as(tmp_path / "changed.dcm")
        with pytest.raises(ContextMismatch, match="shape"):
            verify_sealed(tmp_path / "changed.dcm", KEY)

    def test_an_archive_may_change_the_patient_id_and_add_attributes(self, sealed_ct: Path, tmp_path: Path) -> None:
        dataset = pydicom.dcmread(sealed_ct)
        dataset.PatientID = "MERGED-17"
        dataset.InstitutionName = "an archive"
        dataset.save_as(tmp_path / "changed.dcm")
        assert read_sealed(tmp_path / "changed.dcm", KEY) == CT.read_bytes()

    def test_pixels_of_another_object_are_refused(self, sealed_ct: Path, tmp_path: Path, recipient: Recipient) -> None:
        seal_path(CT, tmp_path / "other.dcm", KEY, "dicom", recipients=[recipient.certificate])
        dataset, other = pydicom.dcmread(sealed_ct), pydicom.dcmread(tmp_path / "other.dcm")
        dataset.PixelData = other.PixelData
        dataset.Rows, dataset.Columns = other.Rows, other.Columns
        dataset.save_as(tmp_path / "moved.dcm")
        with pytest.raises(ContextMismatch):
            verify_sealed(tmp_path / "moved.dcm", KEY)

    def test_a_container_taken_out_of_its_object_is_refused(self, sealed_ct: Path, tmp_path: Path) -> None:
        data = sealed_ct.read_bytes()
        at = data.index(b"HEID")
        (length,) = struct.unpack_from("<Q", data, at + 8)
        (tmp_path / "bare.sealed").write_bytes(data[at + 16 : at + 16 + length])
        with pytest.raises(ContextMismatch):
            open_path(tmp_path / "bare.sealed", tmp_path / "out", KEY)

    def test_changed_pixels_padding_and_frame_are_damage(self, sealed_ct: Path, tmp_path: Path) -> None:
        data = sealed_ct.read_bytes()
        at = data.index(b"HEID")
        (length,) = struct.unpack_from("<Q", data, at + 8)
        places = [*range(at + 6, at + 300), *range(at + 300, len(data), 211), at + 16 + length - 1, len(data) - 1]
        for place in places:
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            (tmp_path / "changed.dcm").write_bytes(changed)
            with pytest.raises((FormatProblem, ContextMismatch, WrongKey)):
                verify_sealed(tmp_path / "changed.dcm", KEY)
        for end in (at + 4, at + 20, at + 16 + length - 1, len(data) - 1):
            (tmp_path / "cut.dcm").write_bytes(data[:end])
            with pytest.raises((Damaged, ContextMismatch, UnsupportedFormat)):
                verify_sealed(tmp_path / "cut.dcm", KEY)
        changed = bytearray(data)
        changed[at + 4] = 2
        (tmp_path / "later.dcm").write_bytes(changed)
        with pytest.raises(UnsupportedVersion):
            verify_sealed(tmp_path / "later.dcm", KEY)

    def test_a_compressed_copy_is_named_as_such(self, sealed_ct: Path, tmp_path: Path) -> None:
        dataset = pydicom.dcmread(sealed_ct)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(tmp_path / "compressed.dcm")
        with pytest.raises(UnsupportedFormat, match="original transfer syntax"):
            verify_sealed(tmp_path / "compressed.dcm", KEY)

    def test_other_key_and_damage_give_different_errors(self, sealed_ct: Path) -> None:
        with pytest.raises(WrongKey):
            verify_sealed(sealed_ct, OTHER)

    def test_a_plain_dicom_file_is_no_sealed_object(self) -> None:
        with pytest.raises(UnsupportedFormat, match="not a sealed object"):
            verify_sealed(CT, KEY)


@settings(deadline=None)
@given(size=st.integers(0, 1 << 32))
def test_the_shape_holds_the_container_and_is_known_from_its_length(size: int) -> None:
    if size > 4_290_000_000:
        with pytest.raises(UnsupportedImage, match="container form"):
            sides(1 << 32)
        return
    rows, columns = sides(size)
    assert size + 16 <= rows * columns < size + 16 + columns
    assert columns % 2 == 0
    assert max(rows, columns) <= 65535


def test_rekeying_changes_nothing_but_the_key_slots(sealed_ct: Path, tmp_path: Path) -> None:
    path = tmp_path / "rekeyed.dcm"
    shutil.copy(sealed_ct, path)
    before = path.read_bytes()
    assert rekey_path(path, KEY, OTHER) is True
    assert rekey_path(path, KEY, OTHER) is False
    after = path.read_bytes()
    at = before.index(b"HEID") + 16
    assert [
        i
        for i, pair in enumerate(zip(before, after, strict=True))
        if pair[0] != pair[1] and not at + 16 <= i < at + 144
    ] == []
    assert read_sealed(path, OTHER) == CT.read_bytes()
    with pytest.raises(WrongKey):
        verify_sealed(path, KEY)


def test_description_without_key_shows_public_fields(sealed_ct: Path, tmp_path: Path) -> None:
    said, made = describe_path(sealed_ct), pydicom.dcmread(sealed_ct)
    assert said.form == "dicom"
    assert said.container.shape == (128, 128)
    assert said.container.key_ids == (KEY.key_id,)
    assert said.identifiers is not None
    assert said.identifiers.instance == made.SOPInstanceUID
    seal_path(CT, tmp_path / "plain.sealed", KEY)
    plain = describe_path(tmp_path / "plain.sealed")
    assert (plain.form, plain.identifiers, plain.container.dtype) == ("container", None, "<i2")


_CT_BYTES = packaged("MR_truncated.dcm").read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 1600), st.integers(0, 255)), max_size=12), end=st.integers(0, 3000))
def test_hostile_files_are_restored_or_refused(
    tmp_path: Path, recipient: Recipient, changes: list[tuple[int, int]], end: int
) -> None:
    """Overwritten and cut DICOM: the container form keeps the bytes; the DICOM form keeps them or refuses."""
    data = bytearray(_CT_BYTES[: len(_CT_BYTES) - end])
    for place, value in changes:
        data[place % len(data)] = value
    source, sealed = tmp_path / "hostile.dcm", tmp_path / "sealed"
    source.write_bytes(data)
    seal_path(source, sealed, KEY)
    assert read_sealed(sealed, KEY) == data
    refusal = _refusal(source, sealed, recipient)
    if refusal:
        assert "Use the container form" in refusal
    else:
        assert read_sealed(sealed, KEY) == data
