"""Codecs that the user supplies: command lines and Python functions."""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from pcodec.audio.pcm import int16
from pcodec.audio.reader import read
from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples
from pcodec.eval.peers.base import AbsentError, PeerCodec, PeerResult, digest, timed


def command(name: str, text: str) -> PeerCodec:
    """A codec that is a command line each way: 'ENC {in} {bits} ;; DEC {bits} {out}'."""
    encoding, mark, decoding = text.partition(";;")
    if (
        not mark
        or "{in}" not in encoding
        or "{out}" not in decoding
        or ("{bits}" not in encoding or "{bits}" not in decoding)
    ):
        raise PcodecError(
            f"{name}: must have the form 'ENC {{in}} {{bits}} ;; DEC {{bits}} {{out}}'"
        )

    try:
        encoder, decoder = shlex.split(encoding), shlex.split(decoding)
    except ValueError as error:
        raise PcodecError(f"{name}: {error}") from error
    for words in (encoder, decoder):
        if shutil.which(words[0]) is None:
            raise AbsentError(f"{name}: no command {words[0]!r}")

    def call(words: list[str], files: dict[str, Path]) -> None:
        for key, path in files.items():
            words = [word.replace(f"{{{key}}}", str(path)) for word in words]
        try:
            subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise PcodecError(f"{name}: {words[0]} failed: {' '.join(said)}") from None

    def run(samples: Samples) -> PeerResult:
        with tempfile.TemporaryDirectory() as folder:
            files = {
                "in": Path(folder, "in.wav"),
                "bits": Path(folder, "coded"),
                "out": Path(folder, "out.wav"),
            }
            soundfile.write(files["in"], int16(samples), RATE, "PCM_16")
            _, encode_seconds = timed(call, encoder, files)
            _, decode_seconds = timed(call, decoder, files)
            if not files["bits"].exists() or not files["out"].exists():
                raise PcodecError(f"{name}: did not write {{bits}} or {{out}}")
            size = files["bits"].stat().st_size
            decoded = read(files["out"], RATE)
        return PeerResult(decoded, 8 * size, size, encode_seconds, decode_seconds)

    # The cache key includes the contents of all files in both commands, such as scripts.
    named = (Path(shutil.which(word) or word) for word in encoder + decoder)
    return PeerCodec(name, text.strip(), text + digest(p for p in named if p.is_file()), run)


def python(name: str, text: str) -> PeerCodec:
    """A codec that is a Python function, 'package.module:function'.

    It takes samples (n,), float32 at 16 kHz, and returns (decoded samples, payload bits).
    """
    module_name, _, function_name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name)
    except Exception as error:  # the module may raise anything when it is imported
        raise PcodecError(f"{name}: {type(error).__name__}: {error}") from error
    source = Path(module.__file__ or "")

    def run(samples: Samples) -> PeerResult:
        try:
            (decoded, bits), seconds = timed(function, samples)
            decoded, bits = np.asarray(decoded, np.float32).reshape(-1), int(bits)
        except Exception as error:  # the function may raise anything
            raise PcodecError(f"{name}: {type(error).__name__}: {error}") from error
        if not len(decoded):
            raise PcodecError(f"{name}: returned no samples")
        # The time of the call, which does both, counts as encoding.
        return PeerResult(decoded, bits, -(-bits // 8), seconds, 0.0)

    return PeerCodec(name, f"python:{text}", text + digest(sorted(_beside(source))), run)


def _beside(source: Path) -> set[Path]:
    """The files of a module, and of imported modules in the same folder."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    own = {path for path in map(Path, filter(None, files)) if source.parent in path.parents}
    own = {source} if "site-packages" in source.parts else own | {source}
    return {path for path in own if path.is_file()}
