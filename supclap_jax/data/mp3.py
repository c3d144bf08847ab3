"""MP3: frames that follow one another, between tags; what counts them; no checksums."""

import re
import struct
from typing import NamedTuple

SEARCHED = 1 << 16  # bytes before the first frame

KILOBITS = {  # by version 1 or 2 of MPEG
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class _Frame(NamedTuple):
    size: int
    side: int  # bytes before the place of a header with counts
    kind: tuple  # what all frames of a file share


def _frame(data: bytes, start: int) -> _Frame | None:
    head = data[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer 3
        return None
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    mpeg = 1 if version == 3 else 2
    hertz, mono = RATES[version][rate], head[3] >> 6 == 3
    size = 144_000 // mpeg * KILOBITS[mpeg][bitrate] // hertz + (head[2] >> 1 & 1)
    side = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}[mpeg, mono]
    return _Frame(size, 4 + side, (version, hertz, mono))


def after_tags(data: bytes, start: int = 0) -> int:
    """Where ID3v2 tags end, which hold such as cover art."""
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        a, b, c, d = (byte & 0x7F for byte in data[start + 6 : start + 10])
        has_footer = data[start + 5] & 0x10
        start += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if has_footer else 0)
    return start


def find_frame(data: bytes, start: int) -> int | None:
    """Where the first of three frames lies that follow one another, or of all that there are."""
    place = data.find(b"\xff", start, start + SEARCHED)
    while place >= 0:
        end, frames, kinds = place, 0, set()
        while frames < 3 and (frame := _frame(data, end)):
            end, frames = end + frame.size, frames + 1
            kinds.add(frame.kind)
        if len(kinds) == 1 and (frames == 3 or end >= len(data)):
            return place
        place = data.find(b"\xff", place + 1, start + SEARCHED)
    return None


def inspect_mp3(data: bytes, start: int) -> tuple[str, bytes]:
    """What is wrong, or "", and the sound without tags, with a count of its frames.

    Where the file counts them itself, anything but more sound may follow the last one. Else there
    may be nothing but tags.
    """
    first = _frame(data, start)
    end, frames = start, 0
    while frame := _frame(data, end):
        if frame.kind != first.kind:
            return f"it is damaged at byte {end:,}", b""
        if end + frame.size > len(data):
            return "the file is truncated: its last frame is cut", b""
        end, frames = end + frame.size, frames + 1
    sound, place, said = bytes(data[start:end]), first.side, 0
    if sound[place : place + 4] in (b"Xing", b"Info"):
        frames -= 1
        flags, count = struct.unpack_from(">II", sound, place + 4)
        said = count if flags & 1 else 0
        if said and said - frames not in (0, 1):  # some count their own frame as well
            return f"its header says {said:,} frames, but there are {frames:,}", b""
        counted = sound[: place + 8] + struct.pack(">I", frames) + sound[place + 12 :]
        sound = counted if said else sound[first.size :]
    rest = _after_end_tags(data, end)
    if find_frame(data, rest) is not None:
        return "it holds several files, one after the other", b""
    if not said:
        if rest < len(data):
            return f"it is damaged at byte {rest:,}", b""
        counts = struct.pack(">4sII", b"Info", 1, frames)
        sound = _counting_frame(sound[:4], first, counts) + sound
    return "", sound


def _after_end_tags(data: bytes, end: int) -> int:
    """Where the tags that follow the sound end: ID3v1, ID3v2, APE, Lyrics3."""
    while end < len(data):
        head = data[end : end + 32]
        lyrics = re.compile(rb"LYRICSBEGIN.*?LYRICS(200|END)", re.DOTALL).match(data, end)
        if head.startswith(b"TAG"):
            end += 227 if head.startswith(b"TAG+") else 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            end += 32 + int.from_bytes(head[12:16], "little")
        elif head.startswith(b"ID3") and len(head) >= 10:
            end = after_tags(data, end)
        elif lyrics:
            end = lyrics.end()
        else:
            break
    return end


def _counting_frame(head: bytes, frame: _Frame, counts: bytes) -> bytes:
    """A frame of silence that tells how many follow, in the place that decoders look for it."""
    bitrates = (bytes([*head[:2], code << 4 | head[2] & 0x0C, head[3]]) for code in range(1, 15))
    head = next(h for h in bitrates if _frame(h, 0).size >= frame.side + len(counts))
    head = bytes([head[0], head[1] | 1, *head[2:]])  # without a checksum
    return (head + bytes(frame.side - 4) + counts).ljust(_frame(head, 0).size, b"\0")
