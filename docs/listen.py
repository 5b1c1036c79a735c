"""Makes the recordings of listen.md: the shipped sentence, through codecs at about one bit rate.

python docs/listen.py

A codec whose library is not installed keeps its recording.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import soundfile

from pcodec.eval.evaluate import code, decoded
from pcodec.eval.peers import AbsentError

DOCS = Path(__file__).parent
SENTENCE = DOCS.parent / "tests" / "speech.flac"
CODECS = (
    "original",
    "pcodec",
    "pcodec-5.5",
    "pcodec-hifigan",
    "opus-8",
    "amrwb-6.6",
    "codec2-3.2",
)


def main() -> None:
    """Runs it."""
    (DOCS / "listen").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        for name in CODECS:
            try:
                result = code(SENTENCE, name, None, Path(cache))
            except AbsentError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            samples = decoded(result["samples"], result["delay"], result["length"])
            soundfile.write(DOCS / "listen" / f"{name}.flac", samples, 16000, "PCM_16")


if __name__ == "__main__":
    main()
