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
RAW_FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
