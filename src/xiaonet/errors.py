"""The errors that XiaoNet raises on purpose.

XiaoNetError
├── ConfigError      a setting is unknown, out of range or fixed by design
├── DataError        a data set is missing, unlabelled, empty or not what it says
├── TeacherError     the teacher's weights could not be loaded or do not fit
├── CheckpointError  a model or run file is missing, damaged or not from XiaoNet
├── OutputError      a file or folder cannot be written
├── StorageError     an object or a bucket cannot be read, written or listed
├── TrainingError    a check before training failed, or the loss stopped being a number
└── WaveformError    an array of samples has the wrong shape, type or content

`WaveformWarning` is not an error: it tells what of a stream was not picked.

Each message states the value seen, the value wanted and the fix.
"""


class WaveformWarning(UserWarning):
    """A part of a record was left out, or should be looked at. The message gives the channel and the reason."""


class XiaoNetError(Exception):
    """Base of every error that XiaoNet raises on purpose."""


class ConfigError(XiaoNetError, ValueError):
    """A setting is unknown, out of range or fixed by design."""


class DataError(XiaoNetError):
    """A data set is missing, unlabelled, empty or not what it says."""


class TeacherError(XiaoNetError):
    """The teacher's weights could not be loaded or do not fit."""


class CheckpointError(XiaoNetError):
    """A model or run file is missing, damaged or not from XiaoNet."""


class OutputError(XiaoNetError):
    """A file or folder cannot be written, or another run is writing it."""


class StorageError(XiaoNetError):
    """An object or a bucket cannot be read, written or listed."""


class TrainingError(XiaoNetError):
    """A check before training failed, or the loss stopped being a number."""


class WaveformError(XiaoNetError, ValueError):
    """An array of samples has the wrong shape, type or content."""
