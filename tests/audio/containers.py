"""Audio files with headers that do not know, tags, links and tails. containers.py DIR writes some.

Each is a case of docs/robustness.md, which says what becomes of it.
"""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
CONTAINERS = ("WAV", "WAVEX", "RF64", "BW64", "W64", "AIFF", "AU", "CAF")
"""Of those that hold plain samples; BW64 is RF64 under its new name."""
UNKNOWN = {
    "zero": 0,
    "ffffffff": 0xFFFFFFFF,
    "7ffff000": 0x7FFFF000,
    "7fffffff": 0x7FFFFFFF,
    "80000000": 0x80000000,
    "ffffffda": 0xFFFFFFDA,
}
"""Sizes that programs write before they know."""


def tone(seconds=1.0, rate=RATE, channels=1):
    """A sine of 300 Hz, (frames,) or (frames, channels)."""
    x = 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)
    return x if channels == 1 else np.stack([x] * channels, 1)


def coded(x, kind="WAV", subtype=None, rate=RATE, endian=None):
    """Samples as the bytes of a file."""
    out = io.BytesIO()
    name = "RF64" if kind == "BW64" else kind
    soundfile.write(out, x, rate, format=name, subtype=subtype, endian=endian)
    data = bytearray(out.getvalue())
    if kind == "BW64":
        data[:4] = b"BW64"
    return data


def with_size(data, size):
    """The bytes of a file whose header states this size of its samples, in all its fields."""
    data = bytearray(data)
    start = bytes(data[:4])
    if start in (b"RIFF", b"RIFX"):
        order = "little" if start == b"RIFF" else "big"
        put(data, data.index(b"data") + 4, size, 4, order)
        put(data, 4, 0 if not size else min(size + 36, 0xFFFFFFFF), 4, order)
    elif start in (b"RF64", b"BW64"):
        at = data.index(b"ds64") + 8
        for offset in (0, 8, 16):
            put(data, at + offset, size, 8, "little")
    elif start == b"riff":
        put(data, 16, size, 8, "little")
        put(data, data.index(b"data\xf3\xac") + 16, size and size + 24, 8, "little")
    elif start == b"FORM":
        common = data.index(b"COMM")
        channels, bits = (int.from_bytes(data[common + i : common + i + 2]) for i in (8, 14))
        put(data, common + 10, size // (channels * bits // 8), 4, "big")
        put(data, data.index(b"SSND") + 4, size and min(size + 8, 0xFFFFFFFF), 4, "big")
        put(data, 4, size, 4, "big")
    elif start == b".snd":
        put(data, 8, size, 4, "big")
    elif start == b"caff":
        put(data, data.index(b"data") + 4, size and size + 4, 8, "big")
    return data


def put(data, at, number, width, order):
    data[at : at + width] = number.to_bytes(width, order)


def id3(size=1000):
    """An ID3v2 tag of so many bytes after its head."""
    return b"ID3\x03\0\0" + bytes([0, 0, size >> 7, size & 127]) + bytes(size)


def chunk(name=b"LIST", body=b"INFOISFT\x04\0\0\0test", order="little", pad=True):
    """A chunk as WAV (little) and AIFF (big) have them."""
    return name + len(body).to_bytes(4, order) + body + bytes(len(body) % 2 * pad)


def unknown_flac(x):
    """A FLAC stream whose STREAMINFO does not know its length."""
    flac = coded(x, "FLAC", "PCM_16")
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    return flac


def ogg(packets, serial=1):
    """An Ogg stream of packets, each in a page of its own or, if it is long, in several."""
    pages = b""
    number = 0
    for i, packet in enumerate(packets):
        parts = [packet[k : k + 65025] for k in range(0, len(packet), 65025)]
        for k, part in enumerate(parts):
            last = k == len(parts) - 1
            sizes = [255] * (len(part) // 255) + ([len(part) % 255] if last else [])
            flags = (k > 0) | 2 * (number == 0) | 4 * (last and i == len(packets) - 1)
            head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, i, serial, number, 0, len(sizes))
            page = bytearray(head + bytes(sizes) + part)
            page[22:26] = ogg_crc(page).to_bytes(4, "little")
            pages += page
            number += 1
    return pages


def ogg_crc(page):
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def ogg_flac(x, serial=1):
    """Samples as FLAC in Ogg, of which libsndfile writes none."""
    flac = bytes(coded(x, "FLAC", "PCM_16"))
    first = b"\x7fFLAC\x01\x00\x00\x01" + flac[:4] + flac[4:42]
    rest, metadata = flac[42:], []
    last = flac[4] & 0x80
    while not last:
        size = 4 + int.from_bytes(rest[1:4])
        last = rest[0] & 0x80
        metadata.append(rest[:size])
        rest = rest[size:]
    # A decoder joins the packets, so they need not be those that an encoder makes.
    frames = [rest[i : i + 8000] for i in range(0, len(rest), 8000)]
    return ogg([first, *metadata, *frames], serial)


def without_xing(mp3):
    """An MP3 without the frame that says how many there are."""
    return mp3[mp3.index(mp3[:2], 10) :]


def loud_then_silent(seconds):
    """Noise and then silence, of which a guess at the length from the first bytes is short."""
    noise = 0.3 * np.random.default_rng(0).standard_normal(round(seconds / 2 * RATE))
    return np.concatenate([noise.clip(-1, 1), np.zeros(len(noise))])


def variable_mp3(x):
    """An MP3 of variable bit rate."""
    out = io.BytesIO()
    how = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
    with soundfile.SoundFile(out, "w", RATE, 1, "MPEG_LAYER_III", **how) as file:
        file.write(x)
    return bytearray(out.getvalue())


def cases():
    """(name of a file, its bytes) of each case that is a small file."""
    wav, opposite = coded(tone()), np.stack([tone(), -tone()], 1)
    yield "plain.wav", wav
    yield "size_0.wav", with_size(wav, 0)
    for kind, suffix in (("WAV", "wav"), ("AIFF", "aiff"), ("AU", "au"), ("W64", "w64")):
        yield f"stream.{suffix}", with_size(coded(tone(), kind), 0xFFFFFFFF)
    yield "stream.rf64", with_size(coded(tone(), "RF64"), 0)
    yield "more_than_stated.wav", with_size(wav, 16000)
    yield "more_than_stated.aiff", with_size(coded(tone(), "AIFF"), 16000)
    yield "cut_off.wav", wav[:20000]
    yield "twice.wav", wav + wav
    yield "tail.wav", wav + chunk()
    for kind in ("WAV", "FLAC", "AIFF"):
        yield f"id3.{kind.lower()}", id3() + coded(tone(), kind)
    yield "unknown_length.flac", unknown_flac(tone())
    yield "chained.flac", coded(tone(), "FLAC") * 2
    yield "chained.ogg", coded(tone(), "OGG", "VORBIS") * 2
    yield "chained.opus", coded(tone(), "OGG", "OPUS") * 2
    yield "chained_flac.oga", ogg_flac(tone()) * 2
    yield "chained.mp3", coded(tone(), "MP3") * 2
    yield "no_xing.mp3", without_xing(variable_mp3(loud_then_silent(2.0)))
    yield "float_in_int16_scale.wav", coded(tone() * 32768, "WAV", "FLOAT")
    yield "opposite_channels.wav", coded(opposite)
    yield "rate_44100.wav", coded(tone(rate=44100), rate=44100)
    yield "empty.wav", coded(tone(0.0))
    yield "nothing.wav", b""
    yield "phone.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(1000)
    yield "talk.webm", b"\x1a\x45\xdf\xa3" + bytes(1000)


def coded_cases():
    """(name of a file, its bytes) of each .pcx file; one says of itself that it lasts a week."""
    import dataclasses

    import pcodec
    from pcodec.pcx.parser import Parser

    yield "coded.pcx", pcodec.encode(np.zeros(RATE), RATE)
    yield "coded_44100.pcx", pcodec.encode(tone(rate=44100), 44100)
    data = pcodec.encode(tone(), RATE)
    parser = Parser()
    parser.feed(data)
    header = dataclasses.replace(parser.known_header, samples=7 * 24 * 3600 * RATE)
    yield "week.pcx", header.to_bytes() + data[64:]


def write_cases(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (*cases(), *coded_cases()):
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    write_cases(Path(sys.argv[1]))
