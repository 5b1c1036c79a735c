"""Names of audio: file suffixes, and what libsndfile calls them; raw samples. Imports nothing."""

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
"""Where a suffix says more than the format."""
RATES = {
    "FLAC": range(1, 655351),
    "MP3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "OPUS": (8000, 12000, 16000, 24000, 48000),
    "VORBIS": range(1, 200001),
}
"""Sample rates in Hz of formats and sample formats that do not take all."""
MAX_BYTES = dict.fromkeys(("WAV", "AIFF", "AU"), (1 << 32) - (1 << 16))
"""Bytes of samples that a file can hold whose sizes are numbers of 32 bits."""
RAW_FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
