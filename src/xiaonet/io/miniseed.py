"""miniSEED files as pieces that are decoded when they are needed, whatever is broken in between."""

import os
import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymseed import MiniSEEDError, MS3Record, MS3TraceList, get_error_messages, sourceid2nslc
from pymseed.mstracelist import MS3TraceID

from xiaonet.constants import SECOND_NS

BLOCK = 2**22  # bytes read at once
SPAN = 2**17  # bytes whose headers are read at once where they are alike
FEW = 8  # records in a span for which that does not pay
CHANNELS = 16  # in a span with which that does not pay either
LONGEST = 2**18  # samples of a piece: 44 minutes at 100 Hz
SEARCH = 2**24  # bytes at the start of a file in which a first record must be found
SHORTEST = 40  # bytes of a record
TRUNCATED = 1  # pymseed's status: the record goes on beyond the bytes at hand

# How records of miniSEED 3 and 2 begin, with an hour, a minute and a second where those belong.
HEADER = re.compile(
    rb"MS\x03.{9}[\0-\x17][\0-\x3b][\0-\x3c]|(?:\d{6}| {6})[DRQM][ \0][\0 -~]{12}.{4}[\0-\x17][\0-\x3b][\0-\x3c]", re.DOTALL
)
HEADER_BYTES = 27  # of the longer kind
NAME = re.compile(r"([0-9A-Za-z_-]*\.){3}[0-9A-Za-z_-]+")

Report = Callable[[str], None]


@dataclass(eq=False, slots=True)
class Packed:
    """Records of one channel that follow each other in time; records of others may lie between them.

    Attributes:
        path: the file.
        places: first byte and end of each stretch of the file in which they are, one after the other.
        source_id: the channel, as libmseed names it.
        seed_id: the same as NET.STA.LOC.CHA.
        start_ns: time of the first sample.
        samples: number of samples.
        rate: Hz.
    """

    path: Path
    places: "array[int]"
    source_id: str
    seed_id: str
    start_ns: int
    samples: int
    rate: float

    @property
    def end_ns(self) -> int:
        """Time of the sample that would follow."""
        return self.start_ns + round(self.samples * SECOND_NS / self.rate)


class _Header(NamedTuple):
    """What is said of a record, or of several alike that follow each other in the file and in time."""

    offset: int
    end: int
    length: int
    number: int
    version: int
    source_id: str
    encoding: int
    start_ns: int
    samples: int
    rate: float


def scan(path: Path, report: Report) -> list[Packed]:
    """What a file holds, without decoding it. What cannot be read is reported and left out.

    Raises:
        OSError: the file cannot be read.
    """
    found: list[Packed] = []
    latest: dict[str, Packed] = {}  # piece of each channel
    skipped: dict[str, list[int]] = {}  # first bytes of records, by reason
    for header in _headers(path, report):
        if reason := _nonsense(header):
            skipped.setdefault(reason, []).append(header.offset)
        elif header.source_id not in latest or not _append(latest[header.source_id], header):
            places = array("q", (header.offset, header.end))
            piece = Packed(path, places, header.source_id, _seed_id(header.source_id), header.start_ns, header.samples, header.rate)
            found.append(piece)
            latest[header.source_id] = piece
    for reason, (offset, *more) in skipped.items():
        report(f"{path}: record at byte {offset}{f' and {len(more)} more' if more else ''} skipped: {reason}")
    return found


def decode(piece: Packed, report: Report) -> NDArray[Any]:
    """The samples of a piece; NaN for records that are damaged, which are reported.

    Raises:
        OSError: the file cannot be read any more.
    """
    with piece.path.open("rb") as file:
        content = b"".join(_read(file, first, end) for first, end in _stretches(piece))
    try:
        with MS3TraceList.from_buffer(content, unpack_data=True, sourceid=piece.source_id) as traces:
            sound = not get_error_messages()  # such as a failed integrity check
            if sound and [len(trace) for trace in traces] == [1] and traces[0][0].numsamples == piece.samples:
                samples: NDArray[Any] = traces[0][0].take_np_datasamples()
                return samples
    except MiniSEEDError:
        pass  # record by record it will show which one is damaged
    return _decode_records(content, piece, report)


def _decode_records(content: bytes, piece: Packed, report: Report) -> NDArray[np.float64]:
    samples = np.full(piece.samples, np.nan)
    offset = 0
    with suppress(MiniSEEDError):  # the headers were sound when the file was scanned
        for header in MS3Record.from_buffer(content):
            if header.sourceid == piece.source_id:
                first = max(0, round((header.starttime - piece.start_ns) * piece.rate / SECOND_NS))
                target = samples[first : first + header.samplecnt]
                try:
                    target[:] = _decode_record(content[offset : offset + header.reclen])[: len(target)]
                except (MiniSEEDError, ValueError) as error:
                    report(f"{piece.path}: record at byte {_in_file(piece, offset)} skipped: {error}")
            offset += header.reclen
    if offset < sum(end - first for first, end in _stretches(piece)):
        report(f"{piece.path}: from byte {_in_file(piece, offset)} on not what it was when it was scanned")
    return samples


def _decode_record(content: bytes) -> NDArray[Any]:
    """The samples of a record.

    Raises:
        MiniSEEDError: they cannot be decoded.
        ValueError: they can, but are not what the header says.
    """
    record = next(MS3Record.from_buffer(content, unpack_data=True))
    for message in get_error_messages():
        if "integrity" in message:  # there are harmless ones too
            raise ValueError(message)
    if record.numsamples != record.samplecnt or record.sampletype == "t":
        raise ValueError(f"{record.numsamples} numbers were found, {record.samplecnt} are wanted")
    samples: NDArray[Any] = record.np_datasamples
    return samples


def _stretches(piece: Packed) -> Iterator[tuple[int, int]]:
    return zip(piece.places[::2], piece.places[1::2], strict=True)


def _in_file(piece: Packed, offset: int) -> int:
    """Where in the file a byte of a piece is."""
    for first, end in _stretches(piece):
        if offset < end - first:
            break
        offset -= end - first
    return first + offset


def _append(piece: Packed, header: _Header) -> bool:
    """Let a piece go on with records that follow in time, if they do."""
    follows = (
        piece.rate == header.rate
        and piece.samples + header.samples <= LONGEST
        and abs(header.start_ns - piece.end_ns) < SECOND_NS / piece.rate / 2
    )
    if follows:
        piece.samples += header.samples
        if piece.places[-1] == header.offset:
            piece.places[-1] = header.end
        else:
            piece.places.extend((header.offset, header.end))
    return follows


def _headers(path: Path, report: Report) -> Iterator[_Header]:
    """Headers of the records of a file, in its order. What lies between them is reported."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = usual = 0
        lost: int | None = None  # byte from which on there is no record
        while offset < size:
            last: _Header | None = None  # is held back until it is known that it ends where it says
            for header in _run(file, offset):
                if lost is not None:
                    report(f"{path}: {offset - lost} bytes from byte {lost} skipped: no miniSEED")
                    lost = None
                if last is not None:
                    yield last
                last, offset = header, header.end
                if header.length != usual and header.version == 2 and _inner(file, header) is not None:
                    break  # no checksum tells that a bit of the length has flipped
                usual = header.length
            if last is None:
                lost = offset if lost is None else lost
                offset = _find(file, offset + 1, size if usual else min(size, SEARCH)) or size
            elif (inner := _inner(file, last)) is None:
                yield last
            else:
                report(f"{path}: record at byte {last.offset} skipped: another one begins within it")
                offset = inner
        if lost is not None:
            report(f"{path}: {size - lost} bytes from byte {lost} skipped: no whole record")


def _run(file: IO[bytes], offset: int) -> Iterator[_Header]:
    """Headers from a byte of a file on, up to the first that is none."""
    rest, amount = b"", min(2**14, BLOCK)
    while True:
        block = _read(file, offset + len(rest), offset + len(rest) + amount)
        buffer, position, amount = memoryview(rest + block), 0, min(2 * amount, BLOCK)
        try:
            while position < len(buffer):
                for header in _at_once(buffer[position:], offset, at_end=not block) or _one_by_one(buffer[position:], offset):
                    yield header
                    position, offset = position + header.end - offset, header.end
        except MiniSEEDError as error:
            more_needed = error.status_code == TRUNCATED or len(buffer) - position < SHORTEST
            if not (block and more_needed):
                return
        if not block:
            return
        rest = bytes(buffer[position:])


def _one_by_one(buffer: memoryview, offset: int) -> Iterator[_Header]:
    """Headers of the next records, `SPAN` bytes of them or until something is none."""
    last = offset + SPAN
    for record in MS3Record.from_buffer(buffer):
        header = _header(record, offset)
        yield header
        offset = header.end
        if offset >= last:
            return


def _at_once(buffer: memoryview, offset: int, *, at_end: bool) -> list[_Header]:
    """One header a channel for the records of one length that a buffer begins with, 20 times as fast as one by one.

    Empty where these are few, or of many channels, or there is a gap or anything odd.
    """
    try:
        first = _header(MS3Record.parse(buffer), offset)
        number = (min(len(buffer), SPAN) - (not at_end)) // first.length
        follows = bytes(buffer[number * first.length :][:HEADER_BYTES])
        if first.version != 2 or number < FEW or (follows and not HEADER.match(follows)):
            return []
        whole = first._replace(end=offset + number * first.length)
        with MS3TraceList.from_buffer(buffer[: number * first.length], record_list=True) as traces:
            found = [_common_header(trace, whole) for trace in traces] if len(traces) <= CHANNELS else []
    except (MiniSEEDError, UnicodeDecodeError):
        return []
    headers = [header for header in found if header is not None]
    return headers if sum(header.number for header in headers) == number else []


def _common_header(trace: MS3TraceID, whole: _Header) -> _Header | None:
    """What is said of all records of a channel in a stretch of a file, if they follow each other in time."""
    segment = trace[0]
    header = whole._replace(
        number=segment.recordlist.recordcnt,
        source_id=trace.sourceid,
        start_ns=segment.starttime,
        samples=segment.samplecnt,
        rate=segment.samprate,
    )
    if len(trace) > 1 or _nonsense(header):
        return None
    late_ns = segment.endtime - header.start_ns - (header.samples - 1) * SECOND_NS / header.rate
    return header if abs(late_ns) < SECOND_NS / header.rate / 2 else None


def _header(record: MS3Record, offset: int) -> _Header:
    try:
        source_id = record.sourceid
    except UnicodeDecodeError:
        source_id = ""
    return _Header(
        offset=offset,
        end=offset + record.reclen,
        length=record.reclen,
        number=1,
        version=record.formatversion,
        source_id=source_id,
        encoding=record.encoding,
        start_ns=record.starttime,
        samples=record.samplecnt,
        rate=record.samprate,
    )


def _inner(file: IO[bytes], header: _Header) -> int | None:
    """The byte of a file at which another record begins within a record, if one does."""
    alone = header.offset + header.length == header.end
    return _find(file, header.offset + 1, header.end) if alone else None


def _find(file: IO[bytes], first: int, end: int) -> int | None:
    """The first byte of a range of a file at which a record may begin."""
    for start in range(first, end, BLOCK):
        stop = min(start + BLOCK, end)
        match = HEADER.search(_read(file, start, stop + HEADER_BYTES - 1))
        if match and start + match.start() < stop:
            return start + match.start()
    return None


def _read(file: IO[bytes], first: int, end: int) -> bytes:
    file.seek(first)
    return file.read(end - first)


@lru_cache(maxsize=1024)
def _seed_id(source_id: str) -> str:
    """NET.STA.LOC.CHA; empty if it is none."""
    try:
        seed_id = ".".join(sourceid2nslc(source_id))
    except (MiniSEEDError, ValueError):
        return ""
    return seed_id if NAME.fullmatch(seed_id) else ""


def _nonsense(header: _Header) -> str:
    """Why a record whose header could be parsed holds no waveform; empty if it does."""
    if header.samples <= 0 or header.encoding == 0:
        return "it holds no samples"
    if header.samples > 2 * (header.end - header.offset):
        return f"{header.samples} samples do not fit into it"
    if not 0 < header.rate < 1e6:
        return f"its sampling rate is {header.rate:g} Hz"
    if not _seed_id(header.source_id):
        return f"its name is broken: {header.source_id!r}"
    return ""
