"""Read miniSEED files piece by piece, including damaged ones.

`scan` reads only the headers of a file and joins records of a channel that follow each other in time into
pieces. `decode` reads the samples of a piece when they are needed. Both use libmseed, by pymseed. What cannot
be read is reported and skipped, and reading continues with the next record.
"""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymseed import MiniSEEDError, MS3TraceList, get_error_messages

from xiaonet.constants import SECOND_NS
from xiaonet.io.headers import Header, OnShare, Report, header_starts, headers, ignore, parse, read_range, seed_id_of, why_skipped

LONGEST = 2**18  # samples of a piece: 44 minutes at 100 Hz
UNCHECKED = {1, 3, 4, 5, 12, 13, 14, 16, 30, 32}  # encodings without a checksum: nothing in a record shows that it has another one


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
        encoding: number of the encoding, as miniSEED has it.
        records: number of records.
    """

    path: Path
    places: "array[int]"
    source_id: str
    seed_id: str
    start_ns: int
    samples: int
    rate: float
    encoding: int = 0
    records: int = 1

    @property
    def end_ns(self) -> int:
        """Time of the sample that would follow."""
        return self.start_ns + round(self.samples * SECOND_NS / self.rate)


def scan(path: Path, report: Report, on_share: OnShare = ignore) -> list[Packed]:
    """Find the pieces in a file without decoding them. What cannot be read is reported and skipped.

    Calls `on_share` with the share of the file that is searched.

    Raises:
        OSError: the file cannot be read.
    """
    found: list[Packed] = []
    latest: dict[str, Packed] = {}  # piece of each channel
    skipped: dict[str, list[int]] = {}  # first bytes of records, by reason
    for header in headers(path, report, on_share):
        before = latest.get(header.source_id)
        if reason := why_skipped(header):
            skipped.setdefault(reason, []).append(header.offset)
        elif before is None or not _append(before, header):
            if before is not None and _contradicts_rate(before, header):
                found.remove(before)
                reason = f"its sampling rate is {before.rate:g} Hz, but it lasts as long as at {header.rate:g} Hz"
                skipped.setdefault(reason, []).append(before.places[0])
            places = array("q", (header.offset, header.end))
            seed_id = seed_id_of(header.source_id)
            piece = Packed(
                path, places, header.source_id, seed_id, header.start_ns, header.samples, header.rate, header.encoding, header.number
            )
            found.append(piece)
            latest[header.source_id] = piece
    alone = _alone_in_their_encoding(found)
    for piece, other in alone.values():
        reason = f"its encoding is {piece.encoding}, but that of the records beside it is {other.encoding}"
        skipped.setdefault(reason, []).append(piece.places[0])
    for reason, (offset, *more) in skipped.items():
        report(f"{path}: record at byte {offset}{f' and {len(more)} more' if more else ''} skipped: {reason}")
    return [piece for piece in found if id(piece) not in alone]


def decode(piece: Packed, report: Report) -> NDArray[Any]:
    """Read the samples of a piece. Damaged records are reported, and their samples are NaN.

    Raises:
        OSError: the file can no longer be read.
    """
    with piece.path.open("rb") as file:
        content = b"".join(read_range(file, first, end) for first, end in _stretches(piece))
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
    wanted = sum(end - first for first, end in _stretches(piece))
    offset = 0
    while offset < len(content):
        try:
            header = parse(memoryview(content)[offset:])
        except MiniSEEDError as error:
            if len(content) < wanted:
                break
            report(f"{piece.path}: record at byte {_in_file(piece, offset)} skipped: its header is damaged: {error}")
            offset = next(_starts_after(content, offset), len(content))
            continue
        if header.sourceid == piece.source_id:
            first = max(0, round((header.starttime - piece.start_ns) * piece.rate / SECOND_NS))
            target = samples[first : first + header.samplecnt]
            try:
                target[:] = _decode_record(content[offset : offset + header.reclen])[: len(target)]
            except (MiniSEEDError, ValueError) as error:
                report(f"{piece.path}: record at byte {_in_file(piece, offset)} skipped: {error}")
        offset += header.reclen
    if len(content) < wanted:
        report(f"{piece.path}: the file has changed since it was scanned, from byte {_in_file(piece, offset)} on")
    return samples


def _starts_after(content: bytes, offset: int) -> Iterator[int]:
    """Bytes after `offset` at which a record begins that can be read."""
    for start in header_starts(content):
        if start > offset:
            with suppress(MiniSEEDError):
                parse(memoryview(content)[start:])
                yield start


def _decode_record(content: bytes) -> NDArray[Any]:
    """Decode the samples of a record.

    Raises:
        MiniSEEDError: they cannot be decoded.
        ValueError: they do not agree with the header.
    """
    record = parse(content, unpack_data=True)
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


def _append(piece: Packed, header: Header) -> bool:
    """Add records to a piece if they follow it in time; return whether they do."""
    follows = (
        piece.rate == header.rate
        and not _encodings_differ(piece, header)
        and piece.samples + header.samples <= LONGEST
        and abs(header.start_ns - piece.end_ns) < SECOND_NS / piece.rate / 2
    )
    if follows:
        piece.samples += header.samples
        piece.records += header.number
        if piece.places[-1] == header.offset:
            piece.places[-1] = header.end
        else:
            piece.places.extend((header.offset, header.end))
    return follows


def _contradicts_rate(piece: Packed, header: Header) -> bool:
    """Whether the record after a piece shows that the rate of the piece is wrong: the piece lasts as long as at the record's rate."""
    lasts_ns = piece.samples * SECOND_NS / header.rate
    return piece.rate != header.rate and abs(header.start_ns - piece.start_ns - lasts_ns) < SECOND_NS / header.rate / 2


def _encodings_differ(one: Packed | Header, other: Packed | Header) -> bool:
    """Whether two pieces have different encodings, and nothing in them would show that one of the two is wrong."""
    return one.encoding != other.encoding and {one.encoding, other.encoding} <= UNCHECKED


def _alone_in_their_encoding(pieces: list[Packed]) -> dict[int, tuple[Packed, Packed]]:
    """Single records beside several of another encoding, each with these, by their `id`.

    They are taken for damaged: another encoding makes other samples of the same bytes.
    """
    before: dict[str, Packed] = {}
    alone: dict[int, tuple[Packed, Packed]] = {}
    for piece in pieces:
        other = before.get(piece.source_id)
        before[piece.source_id] = piece
        if other is not None and _encodings_differ(other, piece) and abs(piece.start_ns - other.end_ns) < SECOND_NS / piece.rate / 2:
            alone.update((id(a), (a, b)) for a, b in ((piece, other), (other, piece)) if a.records == 1 < b.records)
    return alone
