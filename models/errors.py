"""Every error that models raises on purpose.

    ModelsError
    ├── ImageError            one image file cannot be read
    │   ├── NotAnImage            another kind of file, or a DICOM object without pixels
    │   └── DamagedImage          an image whose pixels cannot be decoded
    ├── DatasetError          a data set cannot be used as it is
    │   ├── NoSuchDataset         neither a file nor a folder nor a known name
    │   ├── BadLayout             the file or folder does not follow one of the documented layouts
    │   └── BadContents           the layout is right, the images or labels are not
    ├── HeadError             a classifier head that cannot be turned into linear and polynomial layers
    ├── TrainingError         training cannot start, or gave a head that must not be exported
    ├── InputError            an array handed to a bundle does not fit it
    └── BundleError           a bundle file
        ├── NotABundle            another kind of file
        ├── UnsupportedVersion    a bundle of a version that this release does not read
        └── DamagedBundle         a bundle whose parts contradict each other

A message says what was wrong, what was expected and what to do. It never holds a pixel, a feature or a score.
"""


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


class HeadError(ModelsError):
    """A classifier head that cannot be turned into linear and polynomial layers."""


class TrainingError(ModelsError):
    """Training cannot start, or gave a head that must not be exported."""


class InputError(ModelsError):
    """An array handed to a bundle does not fit what the bundle expects."""


class BundleError(ModelsError):
    """A bundle file cannot be used."""


class NotABundle(BundleError):
    """Another kind of file."""


class UnsupportedVersion(BundleError):
    """A bundle of a version that this release does not read."""


class DamagedBundle(BundleError):
    """A bundle whose parts contradict each other or are missing."""
