"""Every error that models raises on purpose.

    ModelsError
    ├── ImageError            one image file cannot be read
    │   ├── NotAnImage            another kind of file, or a DICOM object without pixels
    │   └── DamagedImage          an image whose pixels cannot be decoded
    ├── DatasetError          a data set cannot be used as it is
    │   ├── NoSuchDataset         neither a file nor a folder nor a known name
    │   ├── BadLayout             the file or folder does not follow one of the documented layouts
    │   └── BadContents           the layout is right, the images or labels are not
    ├── TrainingError         training cannot start, or gave a head that must not be exported
    ├── InputError            an array handed to a bundle does not fit it
    └── BundleError           parts that do not make a bundle

Two errors are those of `he_infer.errors`, where the head and its file are defined: HeadError, a head that cannot be
computed under encryption, and DamagedBundle, a bundle file whose parts contradict each other.

A message says what was wrong, what was expected and what to do. It never holds a pixel, a feature or a score.
"""

from he_infer.errors import DamagedBundle, HeadError

__all__ = [
    "BadContents",
    "BadLayout",
    "BundleError",
    "DamagedBundle",
    "DamagedImage",
    "DatasetError",
    "HeadError",
    "ImageError",
    "InputError",
    "ModelsError",
    "NoSuchDataset",
    "NotAnImage",
    "TrainingError",
]


class ModelsError(Exception):
    """The root of all errors that models raises on purpose; its text is fit for a user's eyes."""


class ImageError(ModelsError):
    """An image file cannot be read."""


class NotAnImage(ImageError):
    """The file is of another kind, or a DICOM object that holds no pixels."""


class DamagedImage(ImageError):
    """The file is an image whose pixels cannot be decoded."""


class DatasetError(ModelsError):
    """A data set cannot be used as it is."""


class NoSuchDataset(DatasetError):
    """Neither a file nor a folder nor a known name."""


class BadLayout(DatasetError):
    """A file or folder does not follow one of the documented layouts."""


class BadContents(DatasetError):
    """The layout is right; the images or labels in it cannot be learned from."""


class TrainingError(ModelsError):
    """Training cannot start, or gave a head that must not be exported."""


class InputError(ModelsError):
    """An array handed to a bundle does not fit what the bundle expects."""


class BundleError(ModelsError):
    """Parts that do not make a bundle: a head of another width, a number of classes that does not fit."""


class ProbabilitiesDiffer(UserWarning):
    """A converted classifier names the classes of the original, with other probabilities."""
