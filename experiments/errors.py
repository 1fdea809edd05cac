"""Every error that experiments raises on purpose.

    ExperimentError
    ├── RecordError           a record, or a file of records, is not of the format that this release reads
    └── GridError             a grid file asks for what cannot be run

A message says what was wrong, what was expected and what to do.
"""


class ExperimentError(Exception):
    """The root of all errors that experiments raises on purpose; its text is fit for a user's eyes."""


class RecordError(ExperimentError):
    """A record, or a file of records, is not of the format that this release reads."""


class GridError(ExperimentError):
    """A grid file asks for what cannot be run."""
