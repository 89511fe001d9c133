"""Kinds of damage to a file of miniSEED, and to files of other kinds."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from obspy import Stream, Trace

RECORD = 512  # bytes of a record of the intact file


@dataclass(frozen=True)
class Damaged:
    """A damaged file.

    Attributes:
        content: of the file.
        lost: numbers of the records of the intact file that the damage touches.
        zeros: bytes of zeros that follow the content, in a sparse file.
        rest: what follows the zeros.
    """

    content: bytes
    lost: frozenset[int]
    zeros: int = 0
    rest: bytes = b""


Damage = Callable[[np.random.Generator, bytes], Damaged]


def _records(first: int, end: int) -> frozenset[int]:
    """Records that the bytes from `first` up to `end` touch."""
    return frozenset(range(first // RECORD, (max(end, first + 1) - 1) // RECORD + 1))


def _overwrite(content: bytes, first: int, new: bytes) -> Damaged:
    new = new[: len(content) - first]
    return Damaged(content[:first] + new + content[first + len(new) :], _records(first, first + len(new)))


def one_bit(rng: np.random.Generator, content: bytes) -> Damaged:
    at = int(rng.integers(len(content)))
    return _overwrite(content, at, bytes([content[at] ^ 1 << int(rng.integers(8))]))


def several_bits(rng: np.random.Generator, content: bytes) -> Damaged:
    changed, lost = bytearray(content), set()
    for at in rng.integers(len(content), size=8):
        changed[at] ^= 1 << int(rng.integers(8))
        lost.add(int(at) // RECORD)
    return Damaged(bytes(changed), frozenset(lost))


def random_bytes(rng: np.random.Generator, content: bytes) -> Damaged:
    return _overwrite(content, int(rng.integers(len(content))), rng.bytes(int(rng.integers(1, 3000))))


def zeros(rng: np.random.Generator, content: bytes) -> Damaged:
    return _overwrite(content, int(rng.integers(len(content))), bytes(int(rng.integers(1, 3000))))


def ones(rng: np.random.Generator, content: bytes) -> Damaged:
    return _overwrite(content, int(rng.integers(len(content))), b"\xff" * int(rng.integers(1, 3000)))


def cut_end(rng: np.random.Generator, content: bytes) -> Damaged:
    at = int(rng.integers(1, len(content)))
    return Damaged(content[:at], _records(at, len(content)))


def cut_start(rng: np.random.Generator, content: bytes) -> Damaged:
    at = int(rng.integers(1, len(content)))
    return Damaged(content[at:], _records(0, at))


def cut_middle(rng: np.random.Generator, content: bytes) -> Damaged:
    first, end = sorted(map(int, rng.integers(len(content), size=2)))
    return Damaged(content[:first] + content[end:], _records(first, end))


def insert_bytes(rng: np.random.Generator, content: bytes) -> Damaged:
    at = int(rng.integers(len(content)))
    lost = frozenset() if at % RECORD == 0 else _records(at, at + 1)
    return Damaged(content[:at] + rng.bytes(int(rng.integers(1, 3000))) + content[at:], lost)


def insert_text(rng: np.random.Generator, content: bytes) -> Damaged:
    at = RECORD * int(rng.integers(len(content) // RECORD))
    return Damaged(content[:at] + b"2020-09-15 00:00:00 disk full, retrying\r\n" * int(rng.integers(1, 40)) + content[at:], frozenset())


def repeat_records(rng: np.random.Generator, content: bytes) -> Damaged:
    first, end, to = (RECORD * int(number) for number in rng.integers(len(content) // RECORD, size=3))
    return Damaged(content[:to] + content[min(first, end) : max(first, end)] + content[to:], frozenset())


def shuffle_records(rng: np.random.Generator, content: bytes) -> Damaged:
    order = rng.permutation(len(content) // RECORD)
    return Damaged(b"".join(content[RECORD * place :][:RECORD] for place in order), frozenset())


def _in_header(first: int, length: int) -> Damage:
    """Random bytes in the headers of one to five records."""

    def damage(rng: np.random.Generator, content: bytes) -> Damaged:
        changed = bytearray(content)
        lost = {int(number) for number in rng.integers(len(content) // RECORD, size=int(rng.integers(1, 6)))}
        for number in lost:
            place = first + int(rng.integers(length))
            width = int(rng.integers(1, first + length - place + 1))
            changed[RECORD * number + place : RECORD * number + place + width] = rng.bytes(width)
        return Damaged(bytes(changed), frozenset(lost))

    return damage


def sparse(rng: np.random.Generator, content: bytes) -> Damaged:
    at = RECORD * int(rng.integers(len(content) // RECORD + 1))
    return Damaged(content[:at], frozenset(), zeros=10**9, rest=content[at:])


def other_format(rng: np.random.Generator, content: bytes) -> Damaged:
    """What a folder of records may hold besides them."""
    header = {"station": "ABC", "channel": "HHZ", "sampling_rate": 100.0}
    kind = int(rng.integers(5))
    if kind < 2:
        samples = rng.normal(0, 1000, 3000).astype(np.float32 if kind == 0 else np.int32)
        with NamedTemporaryFile() as file:
            Stream([Trace(samples, header)]).write(file.name, ["SAC", "GSE2"][kind])
            raw = Path(file.name).read_bytes()
    elif kind == 2:
        raw = gzip.compress(rng.bytes(5000))
    elif kind == 3:
        raw = "\n".join(map(str, rng.integers(0, 10**9, size=2000))).encode()
    else:
        raw = rng.bytes(int(rng.integers(0, 20_000)))
    return Damaged(raw[: int(rng.integers(len(raw) + 1))] if rng.random() < 0.5 else raw, frozenset(range(len(content) // RECORD)))


KINDS: dict[str, Damage] = {
    "one bit": one_bit,
    "several bits": several_bits,
    "random bytes": random_bytes,
    "zeros": zeros,
    "ones": ones,
    "end missing": cut_end,
    "start missing": cut_start,
    "part missing": cut_middle,
    "bytes inserted": insert_bytes,
    "text inserted": insert_text,
    "records repeated": repeat_records,
    "records shuffled": shuffle_records,
    "header: sequence number, quality": _in_header(0, 8),
    "header: names": _in_header(8, 12),
    "header: time": _in_header(20, 10),
    "header: number of samples": _in_header(30, 2),
    "header: sampling rate": _in_header(32, 4),
    "header: flags, offsets": _in_header(36, 12),
    "header: blockettes": _in_header(48, 16),
    "sparse, 1 GB": sparse,
    "another format": other_format,
}
