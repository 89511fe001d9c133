"""Find the records in a file of miniSEED by their headers, also in damaged files.

Headers are read in three ways. Where a file has many records of one length, libmseed reads them at once. Otherwise they are
read one by one. Between records, after damage, the bytes are searched for the next header.
"""

import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from struct import pack, unpack
from typing import IO, NamedTuple

import numpy as np
from pymseed import MiniSEEDError, MS3Record, MS3TraceList, sourceid2nslc
from pymseed.mstracelist import MS3TraceID

from xiaonet.constants import SECOND_NS

BLOCK = 2**22  # bytes read at once
FIRST_STEP = 2**12  # bytes that a search reads first, and then twice as many each time; the next record is often near
SPAN = 2**17  # bytes of records that are read together
FEW = 8  # fewer records in a span are not worth it
CHANNELS = 16  # nor are more channels
SEARCH = 2**24  # bytes at the start of a file in which to look for the first record
FAILED = 10**5  # what looks like a header but is none, one after the other: the search ends
SHORTEST = 40  # bytes of a record
SHORTEST_2 = 128  # of one of miniSEED 2
HEADER_2 = 48  # bytes of the fixed part of a header of miniSEED 2, after which come blockettes
FIRST_BLOCKETTE = 46  # byte that says where they begin
BLOCKETTE_1000 = 8  # bytes of the one with the encoding
BLOCKETTES = 8  # of a record, among which it is looked for
TRUNCATED = 1  # status of pymseed: the record continues beyond the buffer

# How records of miniSEED 3 and 2 begin, with a valid hour, minute and second.
HEADER = re.compile(
    rb"MS\x03.{9}[\0-\x17][\0-\x3b][\0-\x3c]|(?:\d{6}| {6})[DRQM][ \0][\0 -~]{12}.{4}[\0-\x17][\0-\x3b][\0-\x3c]", re.DOTALL
)
HEADER_BYTES = 27  # that the pattern may match
QUALITY_AT = 6  # byte of the quality indicator in a header of miniSEED 2
MARKS = bytes(byte in b"DRQM" for byte in range(256))  # the quality indicators, of which `M` also begins miniSEED 3
NAME = re.compile(r"([0-9A-Za-z_-]*\.){3}[0-9A-Za-z_-]*")

Report = Callable[[str], None]
OnShare = Callable[[float], object]


def ignore(share: float) -> None:
    """Show no progress."""


class Header(NamedTuple):
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


def headers(path: Path, report: Report, on_share: OnShare = ignore) -> Iterator[Header]:
    """Headers of the records of a file, in order. What lies between them is reported.

    Calls `on_share` with the share of the file that is searched, from 0 to 1.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = usual = 0
        lost: int | None = None  # first byte without a record
        while offset < size:
            last: Header | None = None  # held back until the next header confirms its length
            inner, searched = None, False  # whether another record begins within `last`
            for header in _consecutive(file, offset):
                if lost is not None:
                    report(f"{path}: {offset - lost} bytes from byte {lost} skipped: no miniSEED")
                    lost = None
                if last is not None:
                    yield last
                last, offset, searched = header, header.end, header.length != usual and header.version == 2
                if searched and (inner := _inner(file, header)) is not None:
                    break  # miniSEED 2 has no checksum that reveals a wrong length
                usual = header.length
                on_share(offset / size)
            if last is None:
                lost = offset
                end = size if usual else min(size, SEARCH)
                offset = _next_record(file, offset + 1, end, lambda at: on_share(at / size)) or size
            elif (inner := inner if searched else _inner(file, last)) is None:
                yield last
            else:
                report(f"{path}: record at byte {last.offset} skipped: another one begins within it")
                offset = inner
        if lost is not None:
            report(f"{path}: {size - lost} bytes from byte {lost} skipped: no complete record")


def _next_record(file: IO[bytes], first: int, end: int, on_byte: Callable[[int], object]) -> int | None:
    """The first byte of the next record that begins in a range of a file. Calls `on_byte` with each byte up to which it is read."""
    for candidate in islice(_find(file, first, end, on_byte), FAILED):
        if next(_consecutive(file, candidate, 2**10), None) is not None:
            return candidate
    return None


def _consecutive(file: IO[bytes], offset: int, amount: int = 2**14) -> Iterator[Header]:
    """Headers of the records that follow each other from a byte of a file on, until something else comes.

    It reads `amount` bytes first, and then more and more at once.
    """
    rest, amount = b"", min(amount, BLOCK)
    while True:
        block = read_range(file, offset + len(rest), offset + len(rest) + amount)
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


def _one_by_one(buffer: memoryview, offset: int) -> Iterator[Header]:
    """Headers of the next records, up to `SPAN` bytes of them."""
    first = offset
    while offset - first < min(len(buffer), SPAN):
        try:
            for record in MS3Record.from_buffer(buffer[offset - first :]):  # faster than `parse` for each
                header = _header(record, offset)
                yield header
                offset = header.end
                if offset - first >= SPAN:
                    return
        except MiniSEEDError:
            header = _header(parse(buffer[offset - first :]), offset)
            yield header
            offset = header.end


def parse(buffer: bytes | memoryview, *, unpack_data: bool = False) -> MS3Record:
    """Read the first record of a buffer. Its second may be 60 and its fraction of a second 10000: that is the next second.

    Raises:
        MiniSEEDError: it cannot be read.
    """
    try:
        return next(MS3Record.from_buffer(buffer, unpack_data=unpack_data))
    except MiniSEEDError:
        mended = _carry_second(bytes(buffer[: 2 * SPAN])) if HEADER.match(buffer) else None
        if mended is None:
            raise
        return next(MS3Record.from_buffer(mended, unpack_data=unpack_data))


def _carry_second(record: bytes) -> bytes | None:
    """A record of miniSEED 2 whose time is valid, if its fraction of a second is 10000 tenths of a millisecond; otherwise None."""
    if record[:2] == b"MS" or len(record) < SHORTEST:
        return None
    order = ">" if 1900 <= unpack(">H", record[20:22])[0] <= 2100 else "<"
    year, day, hour, minute, second, unused, fraction = unpack(f"{order}HHBBBBH", record[20:30])
    if fraction != 10_000 or not 1900 <= year <= 2100:
        return None
    time = datetime(year, 1, 1) + timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second + 1)
    start = pack(f"{order}HHBBBBH", time.year, time.timetuple().tm_yday, time.hour, time.minute, time.second, unused, 0)
    return record[:20] + start + record[30:]


def _at_once(buffer: memoryview, offset: int, *, at_end: bool) -> list[Header]:
    """One header per channel for records of one length at the start of a buffer, 20 times as fast as one by one.

    Empty if there are few records or many channels, or if there is a gap or anything unusual.
    """
    if len(buffer) < FEW * SHORTEST_2:
        return []
    try:
        first = _header(parse(buffer), offset)
        number = (min(len(buffer), SPAN) - (not at_end)) // first.length
        follows = bytes(buffer[number * first.length :][:HEADER_BYTES])
        if first.version != 2 or number < FEW or (follows and not HEADER.match(follows)):
            return []
        whole = first._replace(end=offset + number * first.length)
        with MS3TraceList.from_buffer(buffer[: number * first.length], record_list=True) as traces:
            found = [_common_header(trace, whole) for trace in traces] if len(traces) <= CHANNELS else []
            if found and not _one_encoding(buffer, first.length, number):
                return []
    except (MiniSEEDError, UnicodeDecodeError):
        return []
    headers = [header for header in found if header is not None]
    return headers if sum(header.number for header in headers) == number else []


def _one_encoding(buffer: memoryview, length: int, number: int) -> bool:
    """Whether the records of one length at the start of a buffer say the same encoding in the same place."""
    records = np.frombuffer(buffer, np.uint8, number * length).reshape(number, length)
    order = ">" if 1900 <= unpack(">H", buffer[20:22])[0] <= 2100 else "<"
    at = FIRST_BLOCKETTE
    for _ in range(BLOCKETTES):  # a chain of blockettes: each has a type and says where the next one is
        (at,) = unpack(f"{order}H", buffer[at : at + 2])
        if not HEADER_2 <= at <= length - BLOCKETTE_1000:
            return False
        if unpack(f"{order}H", buffer[at : at + 2])[0] == 1000:
            return bool((records[:, at : at + 2] == records[0, at : at + 2]).all() and (records[:, at + 4] == records[0, at + 4]).all())
        at += 2
    return False


def _common_header(trace: MS3TraceID, whole: Header) -> Header | None:
    """One header for all records of a channel in a part of a file, if they follow each other in time."""
    segment = trace[0]
    header = whole._replace(
        number=segment.recordlist.recordcnt,
        source_id=trace.sourceid,
        start_ns=segment.starttime,
        samples=segment.samplecnt,
        rate=segment.samprate,
    )
    if len(trace) > 1 or why_skipped(header):
        return None
    delay_ns = segment.endtime - header.start_ns - (header.samples - 1) * SECOND_NS / header.rate
    return header if abs(delay_ns) < SECOND_NS / header.rate / 2 else None


def _header(record: MS3Record, offset: int) -> Header:
    try:
        source_id = record.sourceid
    except UnicodeDecodeError:
        source_id = ""
    return Header(
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


def _inner(file: IO[bytes], header: Header) -> int | None:
    """The byte at which another record begins within a record, if there is one."""
    alone = header.offset + header.length == header.end
    return next(_find(file, header.offset + 1, header.end), None) if alone else None


def _find(file: IO[bytes], first: int, end: int, on_byte: Callable[[int], object] = ignore) -> Iterator[int]:
    """The bytes of a range of a file at which a record may begin. Calls `on_byte` with each byte up to which the file is read."""
    step = FIRST_STEP
    while first < end:
        stop = min(first + step, end)
        yield from (first + at for at in header_starts(read_range(file, first, stop + HEADER_BYTES - 1)) if first + at < stop)
        on_byte(stop)
        first, step = stop, min(2 * step, BLOCK)


def header_starts(content: bytes) -> list[int]:
    """Bytes of a buffer at which the header of a record may begin. A gigabyte takes about two seconds."""
    data = np.frombuffer(content + bytes(HEADER_BYTES), np.uint8)
    marks = np.flatnonzero(np.frombuffer(content.translate(MARKS), bool))
    after = data[marks + 1]
    version_3 = marks[(after == ord("S")) & (data[marks] == ord("M")) & (data[marks + 2] == 3)]
    version_2 = marks[(after == ord(" ")) | (after == 0)] - QUALITY_AT
    return [at for at in sorted({*version_2.tolist(), *version_3.tolist()}) if at >= 0 and HEADER.match(content, at)]


def read_range(file: IO[bytes], first: int, end: int) -> bytes:
    """Bytes `first` up to `end` of a file, or fewer at its end."""
    file.seek(first)
    return file.read(end - first)


@lru_cache(maxsize=1024)
def seed_id_of(source_id: str) -> str:
    """NET.STA.LOC.CHA; empty if the name is broken."""
    try:
        *station, code = sourceid2nslc(source_id)
    except (MiniSEEDError, ValueError):
        return ""
    seed_id = ".".join([*station, code.replace("_", "") if len(code) < 5 else code])  # `Z__` stands for `Z`
    return seed_id if NAME.fullmatch(seed_id) else ""


def why_skipped(header: Header) -> str:
    """Why a record with a valid header has no waveform; empty if it has one."""
    if header.samples <= 0 or header.encoding == 0:
        return "it has no samples"
    if header.samples > 2 * (header.end - header.offset):
        return f"{header.samples} samples do not fit into it"
    if not 0 < header.rate < 1e6:
        return f"its sampling rate is {header.rate:g} Hz"
    if not seed_id_of(header.source_id):
        return f"its channel name is invalid: {header.source_id!r}"
    return ""
