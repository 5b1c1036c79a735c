"""Finding the models that are installed; needs no torch.

A model is a folder with a config.json; the weights lie beside it. The shipped ones travel
in the wheel as pcodec/models, and lie in models/ of a source tree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pcodec.config import CodecConfig
from pcodec.errors import ModelMismatchError, PcodecError
from pcodec.pcx.layout import Header

DEFAULT = "speech16k"
VOCODERS = ("spectral", "hifigan")
GEOMETRY = ("sample_rate", "hop", "mel_bands", "patch_bands", "patch_frames", "phase_rows", "bits")


@dataclasses.dataclass(frozen=True)
class Model:
    """An installed model: what its config.json says."""

    folder: Path
    config: CodecConfig
    bitstream_id: bytes
    about: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def vocoders(self) -> list[str]:
        return [name for name in VOCODERS if (self.folder / f"{name}.safetensors").exists()]

    def fits(self, header: Header) -> bool:
        """Whether it decodes a stream: same codebook and front end, same geometry."""
        return self.bitstream_id == header.bitstream_id and all(
            getattr(self.config, name) == getattr(header, name) for name in GEOMETRY
        )

    def header(self, source_rate: int, **fields: Any) -> Header:
        """The header of a stream of this model."""
        return Header(
            source_rate=source_rate,
            bitstream_id=self.bitstream_id,
            **{name: getattr(self.config, name) for name in GEOMETRY},
            **fields,
        )


def read_model(folder: Path) -> Model:
    """The model in a folder; PcodecError if there is none."""
    path = folder / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        config = CodecConfig(**about.pop("codec"))
        return Model(folder, config, bytes.fromhex(about.pop("bitstream_id")), about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise PcodecError(f"{path}: not the configuration of a model ({error})") from error


def installed() -> list[Model]:
    """All the models that came with the package."""
    here = Path(__file__).parent
    for root in (here / "models", here.parent / "models"):
        if root.is_dir():
            return [read_model(path.parent) for path in sorted(root.glob("*/config.json"))]
    return []


def find(name: str | None = None) -> Model:
    """A model by name, or by the path of its folder; without a name the default one."""
    models = {model.name: model for model in installed()}
    name = name or DEFAULT
    if name in models:
        return models[name]
    if Path(name).is_dir():
        return read_model(Path(name))
    raise PcodecError(f"no model {name!r}; installed: {', '.join(models) or 'none'}")


def for_header(header: Header, model: Model | None = None) -> Model:
    """The model that decodes a stream; ModelMismatchError if it is not there.

    With ``model`` no other one is considered.
    """
    models = installed() if model is None else [model]
    for candidate in models:
        if candidate.fits(header):
            return candidate
    have = ", ".join(f"{m.name} ({m.bitstream_id.hex()})" for m in models) or "none"
    raise ModelMismatchError(
        f"the stream was made with model {header.bitstream_id.hex()}; installed: {have}"
    )


def bitstream_id(
    config: CodecConfig, window: NDArray[Any], filters: NDArray[Any], codebook: NDArray[Any]
) -> bytes:
    """16 bytes that name what the indices mean: the front end and the codebook.

    SHA-256 over the geometry as ASCII decimals joined by spaces, then window and mel
    filters as float32 and codebook as float16, little-endian, row by row.
    """
    c = config
    geometry = [c.sample_rate, c.n_fft, c.window, c.hop, c.mel_bands]
    geometry += [c.patch_bands, c.patch_frames, c.phase_rows, c.low_bins, c.bits, c.latent_dim]
    digest = hashlib.sha256(" ".join(map(str, geometry)).encode())
    for array, kind in ((window, "<f4"), (filters, "<f4"), (codebook, "<f2")):
        digest.update(array.astype(kind).tobytes())
    return digest.digest()[:16]
