"""The codecs that `pcodec eval` can put beside each other, behind one interface.

A coder takes 16 kHz samples through a codec's real bits and back. Those of others come from
their libraries, through ctypes; whichever is not installed is reported absent.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import hashlib
import importlib.metadata
import io
import math
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from pcodec import models
from pcodec.audio.reader import read
from pcodec.errors import PcodecError
from pcodec.eval.metrics import RATE, Samples

FRAME = 320
"""samples of 20 ms"""


class AbsentError(PcodecError):
    """A codec is not on this machine."""


@dataclasses.dataclass
class Coded:
    """What became of one file."""

    decoded: Samples
    """(m,), delayed by a constant or not, of about the original's length"""
    payload_bits: int
    """what the codec itself makes, without container"""
    container_bytes: int
    """of the file it would be kept in"""
    encode_seconds: float
    decode_seconds: float
    stream: bytes | None = None
    """the coded file, where `pcodec info` can say more of it"""


@dataclasses.dataclass(frozen=True)
class Coder:
    """A codec at one rate."""

    name: str
    about: str
    identity: str
    """changes whenever the result may"""
    run: Callable[[Samples], Coded]
    """samples (n,) at 16 kHz"""


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    started = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - started


def ogg_bytes(packets: list[int], headers: list[int], per_second: int) -> int:
    """Size of an Ogg stream (RFC 3533) of packets, by their sizes, in pages of one second."""
    pages = [[size] for size in headers]
    pages += [packets[i : i + per_second] for i in range(0, len(packets), per_second)]
    return sum(27 + sum(size // 255 + 1 + size for size in page) for page in pages)


def pcodec(vocoder: str, model: str | None) -> Coder:
    """This codec, through a .pcx file's bytes."""
    chosen = models.find(model)
    if vocoder not in chosen.vocoders:
        raise AbsentError(f"model {chosen.name} has no vocoder {vocoder!r}")

    import onnxruntime

    from pcodec.codec import Codec
    from pcodec.pcx.transcode import Decoding, encode_stream

    codec = Codec(chosen, vocoder, threads=1)
    here = Path(__file__).parents[2]
    code = [p for part in (".", "audio", "pcx", "runtime") for p in (here / part).glob("*.py")]
    files = [*sorted(code), *sorted(chosen.folder.glob("*.safetensors"))]
    identity = _digest(files) + onnxruntime.__version__

    def run(samples: Samples) -> Coded:
        def encode() -> tuple[bytes, int]:
            file = io.BytesIO()
            writer = encode_stream(codec, [samples], RATE, file)
            return file.getvalue(), writer.columns

        def decode(data: bytes) -> Samples:
            blocks = list(Decoding(io.BytesIO(data), codec=codec).blocks())
            return np.concatenate([np.zeros(0, np.float32), *blocks])

        # Networks are read when they are first used.
        _ = codec.encoder, codec.decoder
        (data, columns), encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, data)
        bits = columns * codec.config.rows * codec.config.bits
        return Coded(decoded, bits, len(data), encode_seconds, decode_seconds, data)

    name = "pcodec" if vocoder == "spectral" else f"pcodec-{vocoder}"
    about = f"{chosen.name}, vocoder {vocoder}"
    return Coder(name, about, identity, run)


def library(name: str, package: str) -> ctypes.CDLL:
    """A shared library; AbsentError, naming Debian's package, if there is none."""
    found = ctypes.util.find_library(name)
    try:
        return ctypes.CDLL(found or f"lib{name}.so.0")
    except OSError:
        raise AbsentError(f"lib{name} is not installed (Debian: {package})") from None


def frames(samples: Samples, size: int) -> list[Samples]:
    """The samples in frames, the last filled up with silence."""
    padded = np.pad(samples, (0, -len(samples) % size))
    return list(np.ascontiguousarray(padded.reshape(-1, size)))


def int16(samples: Samples) -> Any:
    """Samples as 16-bit integers."""
    return np.ascontiguousarray((samples.clip(-1, 32767 / 32768) * 32768).round().astype("<i2"))


def floats(pieces: list[Any]) -> Samples:
    """The other way round."""
    joined: Samples = (np.concatenate(pieces).astype(np.float32) / 32768).astype(np.float32)
    return joined


def pointer(array: Any) -> ctypes.c_void_p:
    """For a C function to read or write an array."""
    address: ctypes.c_void_p = array.ctypes.data_as(ctypes.c_void_p)
    return address


class Opus:
    """libopus: mono wide-band speech, variable bit rate, complexity 10, packets of 20 ms."""

    VOIP, SET_BITRATE, SET_BANDWIDTH, SET_COMPLEXITY, GET_LOOKAHEAD, WIDE_BAND = (
        2048,
        4002,
        4008,
        4010,
        4027,
        1103,
    )

    def __init__(self, bit_rate: int) -> None:
        self.opus = library("opus", "libopus0")
        for function in (self.opus.opus_encoder_create, self.opus.opus_decoder_create):
            function.restype = ctypes.c_void_p
        self.opus.opus_get_version_string.restype = ctypes.c_char_p
        self.version = self.opus.opus_get_version_string().decode()
        self.bit_rate = bit_rate
        self.reset()

    def reset(self) -> None:
        """Begins a stream anew."""
        opus, error = self.opus, ctypes.c_int()
        self._free()
        self.encoder = ctypes.c_void_p(
            opus.opus_encoder_create(RATE, 1, self.VOIP, ctypes.byref(error))
        )
        self.decoder = ctypes.c_void_p(opus.opus_decoder_create(RATE, 1, ctypes.byref(error)))
        for request, value in (
            (self.SET_BITRATE, self.bit_rate),
            (self.SET_COMPLEXITY, 10),
            (self.SET_BANDWIDTH, self.WIDE_BAND),
        ):
            if opus.opus_encoder_ctl(self.encoder, request, ctypes.c_int(value)):
                raise PcodecError(f"libopus: no {self.bit_rate} bit/s")
        skip = ctypes.c_int()
        opus.opus_encoder_ctl(self.encoder, self.GET_LOOKAHEAD, ctypes.byref(skip))
        self.delay = skip.value

    def _free(self) -> None:
        if hasattr(self, "encoder"):
            self.opus.opus_encoder_destroy(self.encoder)
            self.opus.opus_decoder_destroy(self.decoder)

    def encode(self, samples: Samples) -> list[bytes]:
        """Samples (n,) -> the packets of their frames."""
        room = (ctypes.c_ubyte * 1500)()
        packets = []
        for frame in frames(np.pad(samples, (0, self.delay)).astype(np.float32), FRAME):
            size = self.opus.opus_encode_float(self.encoder, pointer(frame), FRAME, room, len(room))
            packets.append(bytes(room[:size]))
        return packets

    def decode(self, packets: list[bytes] | list[bytes | None]) -> Samples:
        """Packets, None where one is lost -> samples, without the codec's delay."""
        out = np.zeros((len(packets), FRAME), np.float32)
        for row, packet in zip(out, packets, strict=True):
            size = 0 if packet is None else len(packet)
            self.opus.opus_decode_float(self.decoder, packet, size, pointer(row), FRAME, 0)
        return out.ravel()[self.delay :]


def opus(kbit_s: float) -> Coder:
    """Opus; kept in Ogg (RFC 7845)."""
    codec = Opus(round(kbit_s * 1000))

    def run(samples: Samples) -> Coded:
        codec.reset()
        packets, encode_seconds = timed(codec.encode, samples)
        decoded, decode_seconds = timed(codec.decode, packets)
        sizes = [len(packet) for packet in packets]
        bits, file = 8 * sum(sizes), ogg_bytes(sizes, [19, 16 + len(codec.version)], 50)
        return Coded(decoded, bits, file, encode_seconds, decode_seconds)

    about = f"{codec.version}, wide band, VBR, complexity 10, 20 ms"
    return Coder(f"opus-{kbit_s:g}", about, about, run)


def speex(kbit_s: float) -> Coder:
    """Speex in wide band, with its decoder's enhancement; kept in Ogg."""
    qualities = {3.95: 0, 5.75: 1, 7.75: 2, 9.8: 3, 12.8: 4}
    if kbit_s not in qualities:
        raise PcodecError(f"speex-{kbit_s:g}: its rates are {', '.join(map(str, qualities))}")
    speex = library("speex", "libspeex1")
    speex.speex_lib_get_mode.restype = ctypes.c_void_p
    mode = ctypes.c_void_p(speex.speex_lib_get_mode(1))
    for function in (speex.speex_encoder_init, speex.speex_decoder_init):
        function.restype = ctypes.c_void_p
    set_quality, set_complexity, set_enhancement = 4, 16, 0

    def run(samples: Samples) -> Coded:
        encoder = ctypes.c_void_p(speex.speex_encoder_init(mode))
        decoder = ctypes.c_void_p(speex.speex_decoder_init(mode))
        for state, request, value in (
            (encoder, set_quality, qualities[kbit_s]),
            (encoder, set_complexity, 10),
        ):
            speex.speex_encoder_ctl(state, request, ctypes.byref(ctypes.c_int(value)))
        speex.speex_decoder_ctl(decoder, set_enhancement, ctypes.byref(ctypes.c_int(1)))
        bits = (ctypes.c_ubyte * 256)()  # more than a SpeexBits holds
        speex.speex_bits_init(bits)

        def encode() -> list[bytes]:
            room, packets = ctypes.create_string_buffer(200), []
            # One frame more, since it answers late.
            for frame in frames(np.pad(int16(samples), (0, FRAME)), FRAME):
                speex.speex_bits_reset(bits)
                speex.speex_encode_int(encoder, pointer(frame.copy()), bits)
                size = speex.speex_bits_write(bits, room, len(room))
                packets.append(room.raw[:size])
            return packets

        def decode(packets: list[bytes]) -> Samples:
            out = np.zeros((len(packets), FRAME), "<i2")
            for row, packet in zip(out, packets, strict=True):
                speex.speex_bits_read_from(bits, packet, len(packet))
                speex.speex_decode_int(decoder, bits, pointer(row))
            return floats(list(out))

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        speex.speex_bits_destroy(bits)
        speex.speex_encoder_destroy(encoder)
        speex.speex_decoder_destroy(decoder)
        sizes = [len(packet) for packet in packets]
        file = ogg_bytes(sizes, [80, 40], 50)
        return Coded(decoded, 8 * sum(sizes), file, encode_seconds, decode_seconds)

    about = f"libspeex, wide band, quality {qualities[kbit_s]}, complexity 10"
    return Coder(f"speex-{kbit_s:g}", about, about, run)


def amrwb(kbit_s: float) -> Coder:
    """AMR-WB (3GPP TS 26.171); kept as RFC 4867 has it."""
    modes = {6.6: 0, 8.85: 1, 12.65: 2, 14.25: 3, 15.85: 4, 18.25: 5, 19.85: 6, 23.05: 7}
    if kbit_s not in modes:
        raise PcodecError(f"amrwb-{kbit_s:g}: its rates are {', '.join(map(str, modes))}")
    encoding = library("vo-amrwbenc", "libvo-amrwbenc0")
    decoding = library("opencore-amrwb", "libopencore-amrwb0")
    encoding.E_IF_init.restype = decoding.D_IF_init.restype = ctypes.c_void_p

    def run(samples: Samples) -> Coded:
        encoder = ctypes.c_void_p(encoding.E_IF_init())
        decoder = ctypes.c_void_p(decoding.D_IF_init())

        def encode() -> list[bytes]:
            room, packets = (ctypes.c_ubyte * 64)(), []
            for frame in frames(np.pad(int16(samples), (0, FRAME)), FRAME):
                size = encoding.E_IF_encode(encoder, modes[kbit_s], pointer(frame), room, 0)
                packets.append(bytes(room[:size]))
            return packets

        def decode(packets: list[bytes]) -> Samples:
            out = np.zeros((len(packets), FRAME), "<i2")
            for row, packet in zip(out, packets, strict=True):
                decoding.D_IF_decode(decoder, packet, pointer(row), 0)
            return floats(list(out))

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        encoding.E_IF_exit(encoder)
        decoding.D_IF_exit(decoder)
        # A packet begins with the byte that the file format wants; its bits are 20 ms worth.
        bits, file = round(kbit_s * 20) * len(packets), 9 + sum(map(len, packets))
        return Coded(decoded, bits, file, encode_seconds, decode_seconds)

    about = "libvo-amrwbenc, libopencore-amrwb, without DTX"
    return Coder(f"amrwb-{kbit_s:g}", about, about, run)


def codec2(kbit_s: float) -> Coder:
    """Codec 2, which is narrow band: between soxr's resamplers; kept in its .c2 files."""
    modes = {3.2: 0, 2.4: 1, 1.6: 2, 1.4: 3, 1.3: 4, 1.2: 5}
    if kbit_s not in modes:
        raise PcodecError(f"codec2-{kbit_s:g}: its rates are {', '.join(map(str, modes))}")
    codec2 = library("codec2", "libcodec2-1.0")
    codec2.codec2_create.restype = ctypes.c_void_p

    def run(samples: Samples) -> Coded:
        state = ctypes.c_void_p(codec2.codec2_create(modes[kbit_s]))
        size = codec2.codec2_samples_per_frame(state)
        bits = codec2.codec2_bits_per_frame(state)

        def encode() -> list[Any]:
            packets = []
            for frame in frames(np.pad(int16(soxr.resample(samples, RATE, 8000)), (0, size)), size):
                packets.append(np.zeros(-(-bits // 8), np.uint8))
                codec2.codec2_encode(state, pointer(packets[-1]), pointer(frame))
            return packets

        def decode(packets: list[Any]) -> Samples:
            out = np.zeros((len(packets), size), "<i2")
            for row, packet in zip(out, packets, strict=True):
                codec2.codec2_decode(state, pointer(row), pointer(packet))
            resampled: Samples = soxr.resample(floats(list(out)), 8000, RATE)
            return resampled

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        codec2.codec2_destroy(state)
        file = 7 + sum(len(packet) for packet in packets)
        return Coded(decoded, bits * len(packets), file, encode_seconds, decode_seconds)

    about = "libcodec2, 8 kHz"
    return Coder(f"codec2-{kbit_s:g}", about, about, run)


def lc3(kbit_s: float) -> Coder:
    """LC3 (Bluetooth LE Audio), frames of 10 ms; kept in liblc3's .lc3 files."""
    try:
        import lc3
    except ImportError:
        raise AbsentError("the package lc3py is not installed") from None
    size, bytes_a_frame = 160, round(kbit_s * 1000 / 100 / 8)
    if not 20 <= bytes_a_frame <= 400:
        raise PcodecError(f"lc3-{kbit_s:g}: its rates are 16 to 320")

    def run(samples: Samples) -> Coded:
        encoder, decoder = lc3.Encoder(10000, RATE), lc3.Decoder(10000, RATE)

        def encode() -> list[bytes]:
            pieces = frames(np.pad(int16(samples), (0, 2 * size)), size)
            return [encoder.encode(p.tobytes(), bytes_a_frame, bit_depth=16) for p in pieces]

        def decode(packets: list[bytes]) -> Samples:
            return floats([np.frombuffer(decoder.decode(p, bit_depth=16), "<i2") for p in packets])

        packets, encode_seconds = timed(encode)
        decoded, decode_seconds = timed(decode, packets)
        bits = 8 * bytes_a_frame * len(packets)
        return Coded(
            decoded, bits, 18 + len(packets) * (bytes_a_frame + 2), encode_seconds, decode_seconds
        )

    about = "liblc3, frames of 10 ms"
    return Coder(f"lc3-{kbit_s:g}", about, about, run)


def original(_: float) -> Coder:
    """No codec at all: what the metrics say of the originals."""

    def run(samples: Samples) -> Coded:
        return Coded(samples, 16 * len(samples), 44 + 2 * len(samples), 0.0, 0.0)

    return Coder("original", "16-bit PCM, not coded", "original", run)


FAMILIES: dict[str, Callable[[float], Coder]] = {
    "opus": opus,
    "speex": speex,
    "amrwb": amrwb,
    "codec2": codec2,
    "lc3": lc3,
    "original": original,
}
PEERS = (
    *("opus-6", "opus-8", "opus-9", "opus-12", "speex-7.75", "amrwb-6.6", "amrwb-8.85"),
    *("codec2-3.2", "lc3-16", "original"),
)
"""What `--codec all` means, beside the model's vocoders."""


def command(name: str, text: str) -> Coder:
    """A codec that is a command line each way: 'ENC {in} {bits} ;; DEC {bits} {out}'."""
    encoding, mark, decoding = text.partition(";;")
    if (
        not mark
        or "{in}" not in encoding
        or "{out}" not in decoding
        or ("{bits}" not in encoding or "{bits}" not in decoding)
    ):
        raise PcodecError(f"{name}: not of the form 'ENC {{in}} {{bits}} ;; DEC {{bits}} {{out}}'")

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

    def run(samples: Samples) -> Coded:
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
                raise PcodecError(f"{name}: left no {{bits}} or no {{out}} behind")
            size = files["bits"].stat().st_size
            decoded = read(files["out"], RATE)
        return Coded(decoded, 8 * size, size, encode_seconds, decode_seconds)

    # With the files that both name: programs, scripts, weights.
    named = (Path(shutil.which(word) or word) for word in encoder + decoder)
    return Coder(name, text.strip(), text + _digest(p for p in named if p.is_file()), run)


def _digest(files: Iterable[Path]) -> str:
    """Of what is in files."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def python(name: str, text: str) -> Coder:
    """A codec that is a Python function, 'package.module:function'.

    It takes samples (n,), float32 at 16 kHz, and gives (decoded samples, payload bits).
    """
    module_name, _, function_name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name)
    except Exception as error:  # whatever the module does when it is imported
        raise PcodecError(f"{name}: {type(error).__name__}: {error}") from error
    source = Path(module.__file__ or "")

    def run(samples: Samples) -> Coded:
        try:
            (decoded, bits), seconds = timed(function, samples)
            decoded, bits = np.asarray(decoded, np.float32).reshape(-1), int(bits)
        except Exception as error:  # not ours
            raise PcodecError(f"{name}: {type(error).__name__}: {error}") from error
        if not len(decoded):
            raise PcodecError(f"{name}: gave no samples")
        # Both directions in one call.
        return Coded(decoded, bits, -(-bits // 8), seconds, 0.0)

    return Coder(name, f"python:{text}", text + _digest(sorted(_beside(source))), run)


def _beside(source: Path) -> set[Path]:
    """A module's file, and those of a person's own modules that lie beside it, if imported."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    own = {path for path in map(Path, filter(None, files)) if source.parent in path.parents}
    own = {source} if "site-packages" in source.parts else own | {source}
    return {path for path in own if path.is_file()}


def name_of(spec: str) -> str:
    """The name of what a --codec describes."""
    return spec.partition("=")[0]


def make(spec: str, model: str | None = None) -> Coder:
    """The coder that a --codec describes; AbsentError if it is not on this machine."""
    name, is_custom, text = spec.partition("=")
    if is_custom and name:
        if text.startswith("python:"):
            return python(name, text.removeprefix("python:"))
        return command(name, text)
    family, _, rate = name.partition("-")
    if family == "pcodec":
        return pcodec(rate or "spectral", model)
    try:
        if family in FAMILIES and (family == "original" or 0 < float(rate) < math.inf):
            return FAMILIES[family](float(rate or 0))
    except ValueError:
        pass
    raise PcodecError(f"no codec {name!r}; there are pcodec, {', '.join(PEERS)}, and NAME=COMMAND")


def expand(specs: tuple[str, ...], model: str | None = None) -> list[str]:
    """The --codec options with "all" written out; pcodec alone if there are none."""
    every = [
        "pcodec" if vocoder == "spectral" else f"pcodec-{vocoder}"
        for vocoder in models.find(model).vocoders
    ]
    out: list[str] = []
    for spec in specs or ("pcodec",):
        out += [*every, *PEERS] if spec == "all" else [spec]
    return list(dict.fromkeys(out))
