"""Where streams of sound begin and end within a file, by their own headers, for `decode`.

Sizes that a live stream left at 0, bytes before the first frame of an MP3, streams that lie one
behind another: libsndfile reads none of these, libav not all of them.
"""

from __future__ import annotations

import io
import os
import re
from typing import Literal

# How files begin, for one behind another. MPEG audio is found by its tags, of which 0xFF is none.
_FILE = re.compile(
    rb"RIFF....(?:WAVE|AVI )|FORM....AIF[FC]|riff\x2e\x91\xcf\x11|fLaC\0\0\0\x22|OggS\0\x02|"
    rb"caff\0\x01\0\0|\.snd\0\0|TTA1[\x01-\x03]\0|wvpk....[\x02-\x10]\x04|Creative Voice|"
    rb"\x1aE\xdf\xa3|\0\0\0.ftyp|ID3[\x02-\x04]|\xff[\xe2-\xff].{11,34}(?:Xing|Info)\0\0\0",
    re.DOTALL,
)
_LONGEST = 48  # bytes of those
BREAKS_OFF = "The file breaks off before its end, and what is there was used."
HOLED = "A part of the sound is damaged and was left out."


class View(io.RawIOBase):
    """A file from `start` to `end`, behind other bytes, `head`.

    MPEG audio that does not say its length claims to be longer: libsndfile guesses that from the
    first frame, and drops what is behind its guess. The bit rate grows 40-fold at most.
    """

    def __init__(self, file: int, start: int, end: int = 0, head: bytes = b"") -> None:
        self.file, self.start, self.head, self.at = file, start, head, 0
        self.end = end or os.fstat(file).st_size
        guessed = not head and os.pread(file, 1, start) == b"\xff" and not info_bytes(file, start)
        self.claim = 40 if guessed else 1

    def seek(self, offset: int, whence: int = 0) -> int:
        size = len(self.head) + max(self.end - self.start, 0) * self.claim
        self.at = max((0, self.at, size)[whence] + offset, 0)
        return self.at

    def readinto(self, buffer) -> int:
        piece = self.head[self.at : self.at + len(buffer)]
        place = self.start + self.at + len(piece) - len(self.head)
        most = min(len(buffer) - len(piece), max(self.end - place, 0))
        piece += os.pread(self.file, most, place) if most else b""
        if place > self.end:  # libmpg123 looks for a tag at what is claimed to be the end
            piece = bytes(len(buffer))
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)


def mended(file: int) -> tuple[int, View | None, bool]:
    """Where the stream of a descriptor begins, what libsndfile is to read if not the file as it is,
    and whether the end is missing."""
    size = os.fstat(file).st_size
    head = os.pread(file, 2**16, 0)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        place = _data(head, 12, "little", 4)
        # Of no sound but another chunk up to the end it may be true.
        chunk = place + 8 + int.from_bytes(head[place + 4 : place + 8], "little")
        if place and head[place - 4 : place] == bytes(4) and chunk != size:
            there = min(size - place, 2**31).to_bytes(4, "little")
            front = head[:4] + b"\xff" * 4 + head[8 : place - 4] + there
            return 0, View(file, place, head=front), False
    if head[:4] in (b"RIFF", b"FORM", b"riff", b"Crea"):
        if (following := behind(file, 0)[0]) > 0:  # libsndfile reads none with two, or one as noise
            return 0, View(file, 0, following), False
    elif head[:4] == b"caff" and (place := _data(head, 8, "big", 8)):
        if size - place < int.from_bytes(head[place - 8 : place], "big") < 2**63:
            front = head[: place - 8] + (size - place).to_bytes(8, "big")
            return 0, View(file, place, head=front), True
    elif head[:3] == b"ID3" or head[:1] == b"\xff":
        begin = first_frame(file, 0)
        if length := info_bytes(file, begin) if begin >= 0 else 0:
            # Where it says another length than there is, libmpg123 would complain on stderr.
            end = min(begin + length, size)
            info = os.pread(file, 56, begin)
            info = info.replace(length.to_bytes(4, "big"), (end - begin).to_bytes(4, "big"))
            return begin, View(file, begin + len(info), end, head=info), False
        if begin >= 0:
            return begin, View(file, begin, max(behind(file, begin)[0], 0)), False
    return 0, None, False


def _data(head: bytes, place: int, order: Literal["little", "big"], width: int) -> int:
    """Where the content of the chunk "data" begins, 0 if there is none."""
    while place + 4 + width <= len(head) and head[place : place + 4].isascii():
        content = place + 4 + width
        if head[place : place + 4] == b"data":
            return content
        length = int.from_bytes(head[place + 4 : content], order)
        place = content + length + (length % 2 if order == "little" else 0)
    return 0


def behind(file: int, start: int) -> tuple[int, str]:
    """Where a second stream begins behind the one at `start`, -1 if none does, and what the first
    lacks: BREAKS_OFF, HOLED or ""."""
    size, head = os.fstat(file).st_size, os.pread(file, 24, start)
    if head[:4] in (b"RIFF", b"FORM"):
        length = int.from_bytes(head[4:8], "little" if head[:1] == b"R" else "big")
        return _begins(file, start + 8 + length + length % 2), ""
    if head[:4] == b"riff":
        return _begins(file, start + int.from_bytes(head[16:24], "little")), ""
    if head[:4] == b".snd":
        end = start + sum(int.from_bytes(head[k : k + 4], "big") for k in (4, 8))
        return _begins(file, end), ""
    if head[:4] == b"Crea":
        return _behind_voc(file, start + int.from_bytes(head[20:22], "little"), size)
    if head[:4] == b"caff" or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return _behind_boxes(file, start, size), ""
    if head[:4] == b"OggS":
        return _behind_ogg(file, start, size)
    if head[:4] in (b"fLaC", b"TTA1"):  # which do not say where they end
        return _found(file, _behind_metadata(file, start)), ""
    if length := info_bytes(file, start):
        end = start + length
        place = _begins(file, end)
        place = place if place > 0 or end >= size else first_frame(file, end)
        return place, BREAKS_OFF if end > size else ""
    if head[:1] == b"\xff":
        return _behind_frames(file, start)
    return -1, ""


def _begins(file: int, place: int) -> int:
    """Where the stream begins that is at `place`, an MP3's behind its tag; -1 if none is."""
    head = os.pread(file, _LONGEST, place)
    if head[:3] == b"ID3":
        return first_frame(file, place)
    if head[:1] == b"\xff":
        return place if first_frame(file, place) == place else -1
    return place if _FILE.match(head) else -1


def _found(file: int, place: int) -> int:
    """Where the first stream begins that is from `place` on, -1 if there is none."""
    rest = b""
    while piece := os.pread(file, 2**20, place):
        if found := _FILE.search(rest + piece):
            return _begins(file, place - len(rest) + found.start())
        place, rest = place + len(piece), piece[-_LONGEST:]
    return -1


def _behind_metadata(file: int, place: int) -> int:
    """Behind what a FLAC says of itself, which may hold the header of a WAV, or a picture."""
    place, last = place + 4, os.pread(file, 1, place) == b"T"
    while not last and len(block := os.pread(file, 4, place)) == 4:
        place, last = place + 4 + int.from_bytes(block[1:], "big"), block[0] >= 128
    return place


def _behind_voc(file: int, place: int, size: int) -> tuple[int, str]:
    """Block after block, up to the one that ends the file."""
    while (block := os.pread(file, 4, place)) and block[0]:
        place += 4 + int.from_bytes(block[1:], "little")
    return _begins(file, place + 1), BREAKS_OFF if place > size else ""


def _behind_boxes(file: int, place: int, size: int) -> int:
    """Box after box, of CAF or MP4, up to the second of a kind of which a file has one."""
    begun: set[bytes] = set()
    for _ in range(2**16):  # an hour has some thousands
        box = os.pread(file, 16, place) if place < size else b""
        for at in (place, place + (b"caff" in begun)):  # libsndfile pads the last box
            if begun and (following := _begins(file, at)) >= 0:
                return following
        if box[:4] == b"caff":
            name, length = box[:4], 8
        elif b"caff" in begun:
            name, length = box[:4], 12 + int.from_bytes(box[4:12], "big")
        else:
            long = box[:4] == b"\0\0\0\1"
            name, length = box[4:8], int.from_bytes(box[8:] if long else box[:4], "big")
        if name in begun:
            return place
        if length < 8:
            break
        begun |= {name} & {b"caff", b"ftyp", b"moov"}
        place += length
    return -1


def _behind_ogg(file: int, start: int, size: int) -> tuple[int, str]:
    """Page after page: one that begins a stream behind one that does not is of the next link."""
    begun, last = False, 0
    while (page := os.pread(file, 282, start))[:4] == b"OggS" and len(page) > 26:
        begins = page[5] & 2
        if begins and begun:
            return start, "" if last else BREAKS_OFF
        begun, last = not begins, page[5] & 4
        start += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return _begins(file, start), "" if last and start <= size else BREAKS_OFF


def _behind_frames(file: int, start: int) -> tuple[int, str]:
    """Frame after frame of MPEG audio, up to what is none: libmpg123 may stop there for good."""
    content, at = os.pread(file, 2**22, start), 0
    while True:
        while (step := _frame(content, at)) and not (at and info_bytes(file, start + at)):
            at += step
        again = _synced(content, at)
        if not at < again <= at + 4:  # what an encoder errs by in its padding
            break
        at = again
    if (following := _begins(file, start + at)) >= 0 or again < 0:
        cut = at > len(content) and len(content) < 2**22
        return following, BREAKS_OFF if cut else ""
    return start + again, HOLED if content[at : at + 3] != b"TAG" else ""


# Of MPEG audio, kbit/s: version 1 of layers I, II, III, then version 2 of layers I and II, III.
_BITRATES = [
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
]


def _frame(content: bytes, at: int) -> int:
    """Bytes of the frame of MPEG audio whose header is at `at`, 0 if there is none."""
    header = content[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)  # 3: MPEG 1, 2: 2, 0: 2.5
    bits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return 0
    kbits = _BITRATES[layer - 1 if version == 3 else 3 + (layer > 1)][bits - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    if layer == 1:
        return (12_000 * kbits // hertz + padding) * 4
    return (72_000 if layer == 3 and version != 3 else 144_000) * kbits // hertz + padding


def first_frame(file: int, start: int) -> int:
    """Where MPEG audio begins from `start` on: four frames that fit, or all up to the end; else
    -1. libsndfile gives up after a kilobyte that is none."""
    tag = os.pread(file, 10, start)
    if tag[:3] == b"ID3" and len(tag) == 10:
        start += 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(tag[6:]))
    at = _synced(os.pread(file, 2**22, start), 0)
    return start + at if at >= 0 else -1


def _synced(content: bytes, at: int) -> int:
    at = content.find(b"\xff", at)
    while at >= 0:
        end, frames = at, 0
        while frames < 4 and (length := _frame(content, end)):
            same = bytes((content[end + 1] & 0xFE, content[end + 2] & 12))
            if same != bytes((content[at + 1] & 0xFE, content[at + 2] & 12)):
                break
            end, frames = end + length, frames + 1
        if frames == 4 or (frames > 1 and end == len(content)):
            return at
        at = content.find(b"\xff", at + 1)
    return -1


def info_bytes(file: int, start: int) -> int:
    """Length of an MP3 as the frame at its start says, that of Xing or Info; 0 if it says none."""
    frame = os.pread(file, 56, start)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 4 or frame[:1] != b"\xff" or not frame[place + 7] & 2:
        return 0
    place += 12 if frame[place + 7] & 1 else 8
    return int.from_bytes(frame[place : place + 4], "big")
