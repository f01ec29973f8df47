"""The same Ogg stream under another serial number."""

from __future__ import annotations

import struct


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


def _checksums() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


CHECKSUMS = _checksums()


def checksum(page: bytes | bytearray) -> int:
    """The CRC-32 of Ogg: polynomial 0x04c11db7, from 0, bits not reflected."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ CHECKSUMS[value >> 24 ^ byte]
    return value
