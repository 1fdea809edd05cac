"""The two-dimensional sets of MedMNIST v2: names, classes, and the official MD5 sums of their files at four sizes.

Source: Yang et al., "MedMNIST v2", Scientific Data 10, 41 (2023), and Zenodo record 10519652, which publishes the sums.
They are MD5 because the record publishes no other; they guard against a broken download, not against a forger.
"""

from dataclasses import dataclass

RECORD = "10519652"
SIZES = (28, 64, 128, 224)
"""Side lengths in pixels. The files of size 28 carry no suffix, the others `_64`, `_128`, `_224`."""


@dataclass(frozen=True)
class Entry:
    """Published facts on a set."""

    task: str
    """`binary-class`, `multi-class`, `ordinal-regression` or `multi-label, binary-class`."""
    channels: int
    classes: tuple[str, ...]
    md5: tuple[str, str, str, str]
    """MD5 of the file at each of `SIZES`."""


_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

ENTRIES: dict[str, Entry] = {
    "pathmnist": Entry(
        "multi-class",
        3,
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        (
            "a8b06965200029087d5bd730944a56c1",
            "55aa9c1e0525abe5a6b9d8343a507616",
            "ac42d08fb904d92c244187169d1fd1d9",
            "2c51a510bcdc9cf8ddb2af93af1eadec",
        ),
    ),
    "chestmnist": Entry(
        "multi-label, binary-class",
        1,
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        (
            "02c8a6516a18b556561a56cbdd36c4a8",
            "9de6cd0b934ebb5b7426cfba5efbae16",
            "db107e5590b27930b62dbaf558aebee3",
            "45bd33e6f06c3e8cdb481c74a89152aa",
        ),
    ),
    "dermamnist": Entry(
        "multi-class",
        3,
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        (
            "0744692d530f8e62ec473284d019b0c7",
            "b70a2f5635c6199aeaa28c31d7202e1f",
            "2defd784463fa5243564e855ed717de1",
            "8974907d8e169bef5f5b96bc506ae45d",
        ),
    ),
    "octmnist": Entry(
        "multi-class",
        1,
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        (
            "c68d92d5b585d8d81f7112f81e2d0842",
            "e229e9440236b774d9f0dfef9d07bdaf",
            "0a97e76651ace45c5d943ee3f65b63ae",
            "abc493b6d529d5de7569faaef2773ba3",
        ),
    ),
    "pneumoniamnist": Entry(
        "binary-class",
        1,
        ("normal", "pneumonia"),
        (
            "28209eda62fecd6e6a2d98b1501bb15f",
            "8f4eceb4ccffa70c672198ea285246c6",
            "05b46931834c231683c68f40c47b2971",
            "d6a3c71de1b945ea11211b03746c1fe1",
        ),
    ),
    "retinamnist": Entry(
        "ordinal-regression",
        3,
        ("0", "1", "2", "3", "4"),
        (
            "bd4c0672f1bba3e3a89f0e4e876791e4",
            "afda852cc34dcda56f86ad2b2457dbcc",
            "e48e916a24454daf90583d4e6efb1a18",
            "eae7e3b6f3fcbda4ae613ebdcbe35348",
        ),
    ),
    "breastmnist": Entry(
        "binary-class",
        1,
        ("malignant", "normal or benign"),
        (
            "750601b1f35ba3300ea97c75c52ff8f6",
            "742edef2a1fd1524b2efff4bd7ba9364",
            "363e4b3f8d712e9b5de15470a2aaadf1",
            "b56378a6eefa9fed602bb16d192d4c8b",
        ),
    ),
    "bloodmnist": Entry(
        "multi-class",
        3,
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        (
            "7053d0359d879ad8a5505303e11de1dc",
            "2b94928a2ae4916078ca51e05b6b800b",
            "adace1e0ed228fccda1f39692059dd4c",
            "b718ff6835fcbdb22ba9eacccd7b2601",
        ),
    ),
    "tissuemnist": Entry(
        "multi-class",
        1,
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        (
            "ebe78ee8b05294063de985d821c1c34b",
            "123ece2eba09d0aa5d698fda57103344",
            "61b955355d7425a89687b06cca3ce0c2",
            "b077128c4a949f0a4eb01517f9037b9c",
        ),
    ),
    "organamnist": Entry(
        "multi-class",
        1,
        _ORGANS,
        (
            "68e3f8846a6bd62f0c9bf841c0d9eacc",
            "2dcccc29b88e6da5a01161ef20cda288",
            "eeae80d0a227a8d099027e1b3cfd3b60",
            "50747347e05c87dd3aaf92c49f9f3170",
        ),
    ),
    "organcmnist": Entry(
        "multi-class",
        1,
        _ORGANS,
        (
            "b9ceb9546e10131b32923c5bbeaea2b1",
            "3ce34a8724ea6f548e6db4744d03b6a9",
            "773c1f009daa3fe5d9a2a201b2a7ed94",
            "050f5e875dc056f6768abf94ec9995d1",
        ),
    ),
    "organsmnist": Entry(
        "multi-class",
        1,
        _ORGANS,
        (
            "9ab87b696fb54e2a387ebe992d6ed5f1",
            "53a6d115339d874c25e309a994ff46d3",
            "ded0c5fa01a95dc4978b956f613e9b8e",
            "b354719e553fbbb2513d5533f52a4cb1",
        ),
    ),
}


def split_name(name: str) -> tuple[str, int] | None:
    """`breastmnist_64` -> (`breastmnist`, 64); None where the name is not one of MedMNIST's."""
    base, _, suffix = name.lower().removesuffix(".npz").partition("_")
    if base not in ENTRIES:
        return None
    if not suffix:
        return base, SIZES[0]
    if suffix.isdigit() and int(suffix) in SIZES:
        return base, int(suffix)
    return None


def file_name(base: str, size: int) -> str:
    """The name of the published file: `breastmnist.npz`, `breastmnist_64.npz`."""
    return f"{base}.npz" if size == SIZES[0] else f"{base}_{size}.npz"


def md5(base: str, size: int) -> str:
    """The official MD5 sum of the published file, in hex."""
    return ENTRIES[base].md5[SIZES.index(size)]


def url(base: str, size: int) -> str:
    """Address of the published file."""
    return f"https://zenodo.org/records/{RECORD}/files/{file_name(base, size)}?download=1"


_MICROSCOPY = ("pathmnist", "bloodmnist", "tissuemnist", "dermamnist")


def orientation(base: str, classes: tuple[str, ...]) -> str:
    """Changes that keep the class: tissue and cells have no upper side; mirroring would swap left and right organs."""
    if base in _MICROSCOPY:
        return "any"
    return "fixed" if any("left" in name.lower() or "right" in name.lower() for name in classes) else "mirror"
