"""Read waveforms in files of any format: miniSEED, whatever ObsPy knows, and compressed files of either.

miniSEED is read record by record, without ObsPy. Other files are read as a whole, one after the other.
"""

import warnings
from array import array
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import SECOND_NS
from xiaonet.extras import MissingPackageError, import_for
from xiaonet.io import miniseed
from xiaonet.io.compressed import Expanded, expand, is_compressed
from xiaonet.io.headers import OnShare, Report, ignore

if TYPE_CHECKING:
    from obspy import Stream

MINISEED = "MSEED"
HEAD = 4096  # bytes at the start of a file; if all are equal, it is not worth asking ObsPy, which reads all of it
KEPT_STREAMS = 8  # files read by ObsPy whose samples stay in memory


@dataclass(eq=False, slots=True)
class Stored:
    """Samples of one channel without a gap, in a file.

    Attributes:
        path: the file.
        format: ObsPy's name of its format.
        seed_id: the channel as NET.STA.LOC.CHA.
        start_ns: time of the first sample.
        samples: number of samples.
        rate: Hz.
        source_id: of miniSEED, the channel as libmseed names it.
        places: of miniSEED, as those of `miniseed.Packed`.
        member: number of the file within a compressed file; -1 if the file is not compressed.
        trace: number of the trace that ObsPy reads in the file; -1 if the file is read without ObsPy.
        first: sample of that trace.
        rank: as that of a `Piece`.
    """

    path: Path
    format: str
    seed_id: str
    start_ns: int
    samples: int
    rate: float
    source_id: str = ""
    places: "array[int]" = field(default_factory=partial(array, "q"))
    member: int = -1
    trace: int = -1
    first: int = 0
    rank: tuple[int, ...] = ()

    @property
    def end_ns(self) -> int:
        """Time of the sample that would follow."""
        return self.start_ns + round(self.samples * SECOND_NS / self.rate)


def scan(path: Path, report: Report, on_share: OnShare = ignore) -> list[Stored]:
    """Find the pieces in a file. What cannot be read is reported and skipped.

    Calls `on_share` with the share of the file that is searched.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.stat().st_size:
        report(f"{path}: empty")
        return []
    if not is_compressed(path):
        return _scan_file(path, report, on_share)
    expanded = expand(path)
    found = []
    for number in range(len(expanded.names)):
        on_share(number / len(expanded.names))
        for piece in _scan_file(expanded.file(number), _renamed(path, expanded, number, report), ignore):
            found.append(replace(piece, path=path, member=number))
    for problem in expanded.problems:
        report(f"{path}: {problem}")
    return found


def decode(piece: Stored, report: Report) -> NDArray[Any]:
    """Read the samples of a piece. What is damaged is reported, and NaN.

    Raises:
        OSError: the file can no longer be read.
    """
    if piece.member < 0:
        return _decode_file(piece, piece.path, report)
    expanded = expand(piece.path)
    return _decode_file(piece, expanded.file(piece.member), _renamed(piece.path, expanded, piece.member, report))


def _decode_file(piece: Stored, path: Path, report: Report) -> NDArray[Any]:
    """Read a piece of the file at a path that is not compressed."""
    if piece.trace >= 0:
        return _load_trace(piece, path, report)
    packed = miniseed.Packed(path, piece.places, piece.source_id, piece.seed_id, piece.start_ns, piece.samples, piece.rate)
    return miniseed.decode(packed, report)


def _renamed(path: Path, expanded: Expanded, number: int, report: Report) -> Report:
    """A report that names a file within a compressed file instead of its temporary place."""
    return lambda reason: report(reason.replace(f"{expanded.file(number)}", f"{path}: {expanded.names[number]}"))


def _scan_file(path: Path, report: Report, on_share: OnShare) -> list[Stored]:
    """The pieces in a file that is not compressed."""
    reasons: list[str] = []
    found = [
        Stored(path, MINISEED, packed.seed_id, packed.start_ns, packed.samples, packed.rate, packed.source_id, packed.places)
        for packed in miniseed.scan(path, reasons.append, on_share)
    ]
    if not found:
        found, reasons = _scan_with_obspy(path)
    for reason in reasons:
        report(reason)
    return found


def _scan_with_obspy(path: Path) -> tuple[list[Stored], list[str]]:
    """The traces in a file that ObsPy knows, or the reason why there are none."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    unknown = f"{path}: no waveforms in miniSEED or in another format that ObsPy knows"
    if len(set(head)) < 2:
        return [], [unknown]
    try:
        stream = _read(path, headonly=True)
    except MissingPackageError as error:
        return [], [f"{path}: no waveforms in miniSEED; {error}"]
    except Exception as error:  # readers of ObsPy raise anything
        known = not (isinstance(error, TypeError) and "Unknown format" in str(error))
        return [], [f"{path}: ObsPy cannot read it: {type(error).__name__}: {error}" if known else unknown]
    found = []
    for number, trace in enumerate(stream):
        stats = trace.stats
        if stats.npts and stats.sampling_rate > 0:
            for first in range(0, stats.npts, miniseed.LONGEST):
                samples = min(miniseed.LONGEST, stats.npts - first)
                start_ns = stats.starttime.ns + round(first * SECOND_NS / stats.sampling_rate)
                piece = Stored(path, stats._format, trace.id, start_ns, samples, stats.sampling_rate, trace=number, first=first)
                found.append(piece)
    if found or not stream:
        return found, [] if found else [unknown]
    names = ", ".join(sorted({trace.id for trace in stream}))
    return [], [f"{path}: {stream[0].stats._format} of {names} without samples at a rate above 0 Hz, such as a log"]


def _load_trace(piece: Stored, path: Path, report: Report) -> NDArray[Any]:
    """Read a piece of the file at a path with ObsPy."""
    first, samples = piece.first, piece.samples
    try:
        trace = _samples(path, path.stat().st_mtime_ns)[piece.trace]
    except OSError:
        raise
    except Exception as error:  # readers of ObsPy raise anything
        report(f"{path}: ObsPy cannot read its samples: {type(error).__name__}: {error}")
        return np.full(samples, np.nan)
    data: NDArray[Any] = trace.data[first : first + samples].copy()  # the rest need not stay in memory
    if (trace.id, len(data)) != (piece.seed_id, samples) or data.dtype.kind not in "biuf":
        report(
            f"{path}: {trace.id}: found {len(trace.data)} samples of {data.dtype}; wanted {first + samples} real numbers of {piece.seed_id}"
        )
        return np.full(samples, np.nan)
    return data


@lru_cache(KEPT_STREAMS)
def _samples(path: Path, changed_ns: int) -> "Stream":
    """All samples of a file that was last changed at a time."""
    return _read(path)


def _read(path: Path, *, headonly: bool = False) -> "Stream":
    obspy = import_for("another format", "obspy")
    if not headonly:  # on any thread
        return obspy.read(escape(str(path)), check_compression=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about details of formats
        return obspy.read(escape(str(path)), headonly=True, check_compression=False)
