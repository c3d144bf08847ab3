"""What a sound file says of itself, read without decoding it: whether it is whole, and how long.

Headers are not trusted where the bytes tell better. A file is damaged where its own structure says
so: chunks that end beyond it, pages or frames that do not follow one another, wrong checksums.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from supclap_jax.data.mp3 import after_tags, find_frame, inspect_mp3

STREAMED = range(0x7F000000, 0x80001000), range(0xFFFFE000, 0x100000000)  # "until the end"
UNKNOWN = "it cannot be decoded (its format is not known)"
CUT = "the file is truncated: shorter than its header says"


class Container(NamedTuple):
    """A file's structure.

    Attributes:
      problem: what is wrong with it, or "".
      repaired: the same sound with a header that is right, where the file's own is not; else None.
      digest: MD5 that a FLAC file has of its samples, or b"".
      is_mp3: for there, damage inside of a frame shows in nothing but the sound.
    """

    problem: str = ""
    repaired: bytes | None = None
    digest: bytes = b""
    is_mp3: bool = False


def inspect(data: bytes, thoroughly: bool = True) -> Container:
    """Reads the structure of a file, by its first bytes; unknown kinds are a problem.

    Args:
      data: the file, or a memory map of it.
      thoroughly: also walk what costs time and tells of damage alone, such as the pages of Ogg.
    """
    start = after_tags(data)
    magic = data[start : start + 4]
    if data[4:8] == b"ftyp":
        return Container("it is MPEG-4 audio, which is not read here; convert it to FLAC")
    if magic == b"OggS":
        return Container(_ogg_problem(data, start) if thoroughly else "")
    if magic == b"fLaC":
        return _flac(data, start)
    if magic in READERS:
        sound = data[start:] if start else data
        found = READERS[magic](sound)
        return found if found.repaired or not start else found._replace(repaired=sound)
    place = find_frame(data, start)
    if place is None:
        return Container(UNKNOWN)
    problem, repaired = inspect_mp3(data, place)
    return Container(problem, repaired or None, is_mp3=True)


# --- chunks: WAV, RF64, W64, AIFF, CAF, AU ---


def _chunks(data: bytes, start: int, header: str, align: int = 2) -> Iterator[tuple]:
    """Name, beginning and size of each chunk."""
    length = struct.calcsize(header)
    while start + length <= len(data):
        name, size = struct.unpack_from(header, data, start)
        yield name, start + length, size
        start += length + size
        padding = -size % align
        if padding and not re.match(rb"[A-Za-z][A-Za-z0-9 ]{3}", data[start : start + 4]):
            start += padding  # which some writers leave out


def _until(data: bytes, begin: int, size: int) -> str:
    return CUT if begin + size > len(data) else ""


def _wav(data: bytes) -> Container:
    header = ">4sI" if data[:4] == b"RIFX" else "<4sI"
    long = 0  # the size in an RF64 file's own chunk
    for name, begin, size in _chunks(data, 12, header):
        if name == b"ds64":
            long = int.from_bytes(data[begin + 8 : begin + 16], "little")
        if name == b"data":
            there = len(data) - begin
            if data[:4] in (b"RF64", b"BW64"):
                return Container(_until(data, begin, long))
            if size == 0 and there and not _are_chunks(data, begin, header):
                repaired = bytearray(data)
                struct.pack_into(header[0] + "I", repaired, begin - 4, there)
                return Container(repaired=bytes(repaired))
            streamed = any(size in sizes for sizes in STREAMED)
            return Container("" if streamed else _until(data, begin, size))
    return Container(CUT)


def _are_chunks(data: bytes, start: int, header: str) -> bool:
    """Whether chunks follow, to the end of the file."""
    end = start
    for name, begin, size in _chunks(data, start, header):
        if not re.fullmatch(rb"[A-Za-z0-9 ]{4}", name):
            return False
        end = begin + size
    return end in (len(data), len(data) - 1)


def _w64(data: bytes) -> Container:
    start = 40
    while start + 24 <= len(data):
        size = int.from_bytes(data[start + 16 : start + 24], "little")
        if data[start : start + 4] == b"data":
            return Container(_until(data, start, size))
        start += max(size + -size % 8, 24)
    return Container(CUT)


def _aiff(data: bytes) -> Container:
    if data[8:12] not in (b"AIFF", b"AIFC"):
        return Container(UNKNOWN)
    for name, begin, size in _chunks(data, 12, ">4sI"):
        if name == b"SSND":
            return Container(_until(data, begin, size))
    return Container(CUT)


def _caf(data: bytes) -> Container:
    for name, begin, size in _chunks(data, 8, ">4sq", align=1):
        if name == b"data" and size == -1:
            rest = struct.pack(">q", len(data) - begin)
            return Container(repaired=data[: begin - 8] + rest + data[begin:])
        if size < 0:
            return Container(CUT)
        if name == b"data" and begin + size > len(data):
            return Container(CUT)
    return Container()


def _au(data: bytes) -> Container:
    if len(data) < 24:
        return Container(CUT)
    begin, size = struct.unpack_from(">II", data, 4)
    return Container("" if size == 0xFFFFFFFF else _until(data, begin, size))


READERS: dict[bytes, Callable[[bytes], Container]] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), _wav),
    b"riff": _w64,
    b"FORM": _aiff,
    b"caff": _caf,
    b".snd": _au,
}

# --- Ogg: pages with checksums ---

MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """That of zlib on mirrored bits, begun with zero and not inverted in the end."""
    crc = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _ogg_problem(data: bytes, start: int) -> str:
    serial, flags = None, 0
    for number in itertools.count():
        is_over = flags & 4 and b"OggS" not in data[start:]  # tags or zeros may follow
        if start == len(data) or is_over:
            return "" if flags & 4 else "the file is truncated: its last page is missing"
        if data[start : start + 4] != b"OggS":
            return f"it is damaged at byte {start:,}"
        body = start + 27 + (data[start + 26] if start + 27 <= len(data) else 0)
        end = body + sum(data[start + 27 : body])
        if start + 27 > len(data) or end > len(data):
            return "the file is truncated: its last page is cut"
        flags, this_serial, this_number, crc = struct.unpack_from("<xBxxxxxxxxIII", data, start + 4)
        page = bytearray(data[start:end])
        page[22:26] = bytes(4)
        if _ogg_checksum(bytes(page)) != crc:
            return f"it is damaged at byte {start:,}: the checksum of a page is wrong"
        is_another = flags & 2 or this_serial != serial
        if serial is not None and is_another:
            return "it holds several streams; expected one"
        if this_number != number:
            return f"it is damaged at byte {start:,}: pages are missing"
        serial, start = this_serial, end
    return ""


# --- FLAC ---


FLAC_SIZES = {1: 192} | {n: 576 << n - 2 for n in range(2, 6)} | {n: 1 << n for n in range(8, 16)}


def _flac(data: bytes, start: int) -> Container:
    """Where the number of samples is not known, it is counted from the frames' headers."""
    here, last, info = start + 4, False, None
    while not last:
        if here + 4 > len(data):
            return Container(CUT)
        last, kind = data[here] & 0x80, data[here] & 0x7F
        size = int.from_bytes(data[here + 1 : here + 4], "big")
        if kind == 0:
            info = here + 4
        here += 4 + size
    if info is None or here > len(data):
        return Container(CUT)
    digest = data[info + 18 : info + 34]
    digest = digest if any(digest) else b""
    samples = int.from_bytes(data[info + 13 : info + 18], "big") & (1 << 36) - 1
    if samples:
        return Container(digest=digest)
    samples, problem = _flac_samples(data, here)
    repaired = bytearray(data)
    repaired[info + 13] &= 0xF0
    packed = int.from_bytes(repaired[info + 13 : info + 18], "big") | samples
    repaired[info + 13 : info + 18] = packed.to_bytes(5, "big")
    return Container(problem, bytes(repaired), digest)


def _flac_samples(data: bytes, start: int) -> tuple[int, str]:
    """The sum of all frames, which must be numbered one after the other."""
    samples, expected, found = 0, 0, _flac_frame(data, start)
    if found is None or found[0] != 0:
        return 0, f"it is damaged at byte {start:,}"
    while True:
        number, size, is_variable = found
        samples += size
        expected = number + (size if is_variable else 1)
        sync = data[start : start + 2]
        while True:
            start = data.find(sync, start + 1)
            if start < 0:
                return samples, ""
            found = _flac_frame(data, start)
            if found and expected <= found[0] <= expected + (1 << 20):
                break
        if found[0] != expected:
            return samples, f"it is damaged before byte {start:,}"


def _flac_frame(data: bytes, start: int) -> tuple[int, int, bool] | None:
    """A frame's number or that of its first sample, its samples, and which it was; or None."""
    head = data[start : start + 16]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    more = max(ones - 1, 0)
    if ones == 1 or ones > 7 or size_code == 0 or rate_code == 15:
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    here = 5 + more
    if size_code in (6, 7):  # in one byte or two
        size = int.from_bytes(head[here : here + size_code - 5], "big") + 1
        here += size_code - 5
    else:
        size = FLAC_SIZES[size_code]
    here += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if here >= len(head) or _crc8(head[:here]) != head[here]:
        return None
    return number, size, bool(head[1] & 1)


def _crc8(head: bytes) -> int:
    crc = 0
    for byte in head:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc
