"""Read miniSEED files piece by piece, including damaged ones.

`scan` reads only the headers of a file and joins records of a channel that follow each other in time into
pieces. `decode` reads the samples of a piece when they are needed. Both use libmseed, by pymseed. What cannot
be read is reported and skipped, and reading continues with the next record.

Headers are read in three ways. Where a file has many records of one length, libmseed reads them at once.
Otherwise they are read one by one. Between records, after damage, the bytes are searched for the next header.
"""

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
SPAN = 2**17  # bytes of records that are read together
FEW = 8  # fewer records in a span are not worth it
CHANNELS = 16  # nor are more channels
LONGEST = 2**18  # samples of a piece: 44 minutes at 100 Hz
SEARCH = 2**24  # bytes at the start of a file in which to look for the first record
SHORTEST = 40  # bytes of a record
TRUNCATED = 1  # status of pymseed: the record continues beyond the buffer

# How records of miniSEED 3 and 2 begin, with a valid hour, minute and second.
HEADER = re.compile(
    rb"MS\x03.{9}[\0-\x17][\0-\x3b][\0-\x3c]|(?:\d{6}| {6})[DRQM][ \0][\0 -~]{12}.{4}[\0-\x17][\0-\x3b][\0-\x3c]", re.DOTALL
)
HEADER_BYTES = 27  # that the pattern may match
NAME = re.compile(r"([0-9A-Za-z_-]*\.){3}[0-9A-Za-z_-]*")

Report = Callable[[str], None]


@dataclass(eq=False, slots=True)
class Packed:
    """Records of one channel that follow each other in time. Records of other channels may lie between them.

    Attributes:
        path: the file.
        places: first byte and end of each part of the file that holds the records, one after the other.
        source_id: the channel, as libmseed names it.
        seed_id: the channel as NET.STA.LOC.CHA.
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
    """The header of a record, or of several records of a channel that follow each other in the file and in time."""

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
    """Find the pieces in a file without decoding them. What cannot be read is reported and skipped.

    Raises:
        OSError: the file cannot be read.
    """
    found: list[Packed] = []
    latest: dict[str, Packed] = {}  # piece of each channel
    skipped: dict[str, list[int]] = {}  # first bytes of records, by reason
    for header in _headers(path, report):
        if reason := _why_skipped(header):
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
    """Read the samples of a piece. Damaged records are reported, and their samples are NaN.

    Raises:
        OSError: the file can no longer be read.
    """
    with piece.path.open("rb") as file:
        content = b"".join(_read(file, first, end) for first, end in _stretches(piece))
    try:
        with MS3TraceList.from_buffer(content, unpack_data=True, sourceid=piece.source_id) as traces:
            intact = not get_error_messages()  # such as a failed integrity check
            if intact and [len(trace) for trace in traces] == [1] and traces[0][0].numsamples == piece.samples:
                samples: NDArray[Any] = traces[0][0].take_np_datasamples()
                return samples
    except MiniSEEDError:
        pass  # reading record by record shows which one is damaged
    return _decode_records(content, piece, report)


def _decode_records(content: bytes, piece: Packed, report: Report) -> NDArray[np.float64]:
    samples = np.full(piece.samples, np.nan)
    offset = 0
    with suppress(MiniSEEDError):  # a header that changed since the file was scanned
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
        report(f"{piece.path}: the file has changed since it was scanned, from byte {_in_file(piece, offset)} on")
    return samples


def _decode_record(content: bytes) -> NDArray[Any]:
    """Decode the samples of a record.

    Raises:
        MiniSEEDError: they cannot be decoded.
        ValueError: they do not agree with the header.
    """
    record = next(MS3Record.from_buffer(content, unpack_data=True))
    for message in get_error_messages():
        if "integrity" in message:  # others are harmless
            raise ValueError(message)
    if record.numsamples != record.samplecnt or record.sampletype == "t":
        raise ValueError(f"found {record.numsamples} samples, wanted {record.samplecnt}")
    samples: NDArray[Any] = record.np_datasamples
    return samples


def _stretches(piece: Packed) -> Iterator[tuple[int, int]]:
    return zip(piece.places[::2], piece.places[1::2], strict=True)


def _in_file(piece: Packed, offset: int) -> int:
    """The position in the file of a byte of a piece."""
    for first, end in _stretches(piece):
        if offset < end - first:
            break
        offset -= end - first
    return first + offset


def _append(piece: Packed, header: _Header) -> bool:
    """Add records to a piece if they follow it in time; return whether they do."""
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
    """Headers of the records of a file, in order. What lies between them is reported."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = usual = 0
        lost: int | None = None  # first byte without a record
        while offset < size:
            last: _Header | None = None  # held back until the next header confirms its length
            for header in _consecutive(file, offset):
                if lost is not None:
                    report(f"{path}: {offset - lost} bytes from byte {lost} skipped: no miniSEED")
                    lost = None
                if last is not None:
                    yield last
                last, offset = header, header.end
                if header.length != usual and header.version == 2 and _inner(file, header) is not None:
                    break  # miniSEED 2 has no checksum that reveals a wrong length
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
            report(f"{path}: {size - lost} bytes from byte {lost} skipped: no complete record")


def _consecutive(file: IO[bytes], offset: int) -> Iterator[_Header]:
    """Headers of the records that follow each other from a byte of a file on, until something else comes."""
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
    """Headers of the next records, up to `SPAN` bytes of them."""
    last = offset + SPAN
    for record in MS3Record.from_buffer(buffer):
        header = _header(record, offset)
        yield header
        offset = header.end
        if offset >= last:
            return


def _at_once(buffer: memoryview, offset: int, *, at_end: bool) -> list[_Header]:
    """One header per channel for records of one length at the start of a buffer, 20 times as fast as one by one.

    Empty if there are few records or many channels, or if there is a gap or anything unusual.
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
    """One header for all records of a channel in a part of a file, if they follow each other in time."""
    segment = trace[0]
    header = whole._replace(
        number=segment.recordlist.recordcnt,
        source_id=trace.sourceid,
        start_ns=segment.starttime,
        samples=segment.samplecnt,
        rate=segment.samprate,
    )
    if len(trace) > 1 or _why_skipped(header):
        return None
    delay_ns = segment.endtime - header.start_ns - (header.samples - 1) * SECOND_NS / header.rate
    return header if abs(delay_ns) < SECOND_NS / header.rate / 2 else None


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
    """The byte at which another record begins within a record, if there is one."""
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
    """NET.STA.LOC.CHA; empty if the name is broken."""
    try:
        *station, code = sourceid2nslc(source_id)
    except (MiniSEEDError, ValueError):
        return ""
    seed_id = ".".join([*station, code.replace("_", "") if len(code) < 5 else code])  # `Z__` stands for `Z`
    return seed_id if NAME.fullmatch(seed_id) else ""


def _why_skipped(header: _Header) -> str:
    """Why a record with a valid header has no waveform; empty if it has one."""
    if header.samples <= 0 or header.encoding == 0:
        return "it has no samples"
    if header.samples > 2 * (header.end - header.offset):
        return f"{header.samples} samples do not fit into it"
    if not 0 < header.rate < 1e6:
        return f"its sampling rate is {header.rate:g} Hz"
    if not _seed_id(header.source_id):
        return f"its channel name is invalid: {header.source_id!r}"
    return ""
