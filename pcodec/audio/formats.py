"""Names of audio formats: file suffixes, libsndfile's names, raw samples. Imports nothing."""

from __future__ import annotations

AUDIO_SUFFIXES = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".oga": "OGG",
    ".opus": "OGG",
    ".mp3": "MP3",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".au": "AU",
    ".caf": "CAF",
    ".w64": "W64",
    ".rf64": "RF64",
}
SUBTYPES = {".opus": "OPUS"}
"""Sample format by suffix, where the file format has several."""
RATES = {
    "FLAC": range(1, 655351),
    "MP3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "OPUS": (8000, 12000, 16000, 24000, 48000),
    "VORBIS": range(1, 200001),
}
"""Sample rates in Hz of the formats that are limited to some."""
MAX_BYTES = dict.fromkeys(("WAV", "AIFF", "AU"), (1 << 32) - (1 << 16))
"""Bytes of samples that fit into a file with 32-bit sizes."""
RAW_FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
