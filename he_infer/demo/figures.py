"""The figures of one demo run, as printed, drawn and written to JSON."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figures:
    """Figures that `he-infer demo --json` writes; the field names are part of the command's contract."""

    dataset: str
    classes: list[str]
    n_test: int
    """Test images, each classified once in clear and once encrypted."""
    clear_accuracy: float
    encrypted_accuracy: float
    majority_share: float
    """Share of the largest class among the test images: the accuracy of always naming it."""
    label_agreement: float
    """Share of test images whose encrypted label equals the clear one."""
    max_probability_difference: float
    """Largest |encrypted probability - clear probability| over all test images and classes, both rounded for release:
    0, or one unit of the last digit where rounding falls otherwise."""
    max_abs_error: float
    """Largest |encrypted score - clear score| of the questions on which publishing tried the plan. The client gives no
    scores, so none of the test images' is measured."""
    pictures: int | None
    """Test pictures that the patches were cut out of; None where each image is a whole picture."""
    pictures_right_clear: int | None
    """Pictures whose class the sum of their patches' clear probabilities names."""
    pictures_right_encrypted: int | None
    """Pictures whose class the sum of their patches' decrypted probabilities names."""
    patients: int | None
    """Patients whom the test pictures show; None where patients are unknown."""
    patients_right_encrypted: int | None
    """Patients whose class the sum of their patches' decrypted probabilities names."""
    guard_refused: int | None
    """Test images that the model's guard finds unlike its training images; None where it has no guard."""
    batch: int
    """Images in a request."""
    server_ms_median: float
    """Median over requests of the server's own time to load, evaluate and save, in milliseconds."""
    bytes_up: int
    """Bytes of one request (median), envelope included."""
    bytes_down: int
    """Bytes of one answer (median), envelope included."""
    evaluation_key_bytes: int
    """Bytes of the evaluation keys, registered once."""
    cipher_mb_per_s: float
    """Millions of plaintext bytes sealed a second, on one thread, from reading a file to its synced container."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
