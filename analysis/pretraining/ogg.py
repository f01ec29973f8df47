"""The same Ogg stream under another serial number."""

from __future__ import annotations

import struct
import zlib


def renumber(ogg: bytes, serial: int) -> bytes:
    """The same Ogg file with this serial number on every page, and checksums to match.

    Source: RFC 3533, section 6: serial number at byte 14 of a page, checksum at 22, number of
    segments at 26, then their lengths.
    """
    data, start = bytearray(ogg), 0
    while start < len(data):
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        struct.pack_into("<I", data, start + 14, serial)
        struct.pack_into("<I", data, start + 22, 0)
        struct.pack_into("<I", data, start + 22, checksum(data[start:end]))
        start = end
    return bytes(data)


MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # every byte, bits reversed


def checksum(page: bytes | bytearray) -> int:
    """The CRC-32 of Ogg: polynomial 0x04c11db7, from 0, bits not reflected.

    That of zlib has the same polynomial, but reflects bits, and inverts before and after.
    """
    reflected = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(MIRRORED), "big")
