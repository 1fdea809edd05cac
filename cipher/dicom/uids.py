"""New identifiers for sealed DICOM objects.

A sealed object is a new instance and needs new UIDs (PS3.3 C.12.1.1.4.2). Study, series and patient get keyed
pseudonyms: the same original always becomes the same pseudonym under one vault key, so that a study stays one study in
the archive and the key's holder finds it again; nobody without the key can try out names or identifiers, as one could
with a plain hash. The instance gets a random UID, as sealing the same image twice makes two different objects.
"""

import hmac
import secrets
import uuid
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydicom import Dataset

from cipher.dicom.values import text
from cipher.keys.vault_key import VaultKey

_INFO = b"he-infer vault 1 dicom pseudonyms"


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Identifiers of a sealed object in the archive."""

    patient_id: str
    """'HE-' and 16 characters; VR LO."""
    study: str
    series: str
    instance: str


def new_identifiers(
    attributes: Dataset, vault_key: VaultKey, *, linkable: bool = True, project: str = ""
) -> Identifiers:
    """Identifiers for the sealed form of an image.

    Args:
        attributes: the original's attributes.
        vault_key: keys the pseudonyms.
        project: pseudonyms are stable within a project, and those of two projects cannot be linked without the key.
        linkable: if false, every identifier is random, and no two sealed objects can be seen to belong together.
    """
    if not linkable:
        return Identifiers(_patient(secrets.token_bytes(32)), *(_uid(secrets.token_bytes(32)) for _ in range(3)))
    patient = _pseudonym(vault_key, project, "patient", text(attributes, "PatientID"), _issuer(attributes))
    study = _pseudonym(vault_key, project, "study", text(attributes, "StudyInstanceUID"))
    series = _pseudonym(vault_key, project, "series", text(attributes, "SeriesInstanceUID"))
    return Identifiers(_patient(patient), _uid(study), _uid(series), _uid(secrets.token_bytes(32)))


def study_pseudonym(study_uid: str, vault_key: VaultKey, project: str = "") -> str:
    """The Study Instance UID under which the archive holds the sealed images of a study, for queries."""
    return _uid(_pseudonym(vault_key, project, "study", study_uid))


def patient_pseudonym(patient_id: str, vault_key: VaultKey, issuer: str = "", project: str = "") -> str:
    """The Patient ID under which the archive holds a patient's sealed images."""
    return _patient(_pseudonym(vault_key, project, "patient", patient_id, issuer))


def _issuer(attributes: Dataset) -> str:
    return text(attributes, "IssuerOfPatientID")


def _pseudonym(vault_key: VaultKey, project: str, what: str, *originals: str) -> bytes:
    """32 bytes; random ones where the original names nothing, since images without a study do not form one."""
    if not originals[0]:
        return secrets.token_bytes(32)
    info = _INFO + (b" project " + project.encode() if project else b"")
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(vault_key.secret)
    return hmac.digest(key, "\0".join((what, *originals)).encode(), "sha256")


def _uid(material: bytes) -> str:
    """A UUID-derived UID (PS3.5 B.2) from 16 of the bytes."""
    return f"2.25.{uuid.UUID(bytes=material[:16], version=4).int}"


def _patient(material: bytes) -> str:
    return f"HE-{material[:8].hex().upper()}"
