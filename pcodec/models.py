"""Finding the models that are installed, and installing more; needs no torch.

A model is a folder with a config.json; the weights lie beside it. The shipped ones travel
in the wheel as pcodec/models, and lie in models/ of a source tree. Further ones lie in the
folders that $PCODEC_MODELS names, and in one folder per user, where `add` puts them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pcodec.config import CodecConfig
from pcodec.errors import ModelMismatchError, PcodecError
from pcodec.folders import data_folder
from pcodec.pcx.layout import Header
from pcodec.vocoders import VOCODERS as VOCODERS

DEFAULT = "speech16k"
NEEDED = ("encoder", "codebook", "decoder")
"""Parts without which a model does not work; it also needs a vocoder."""
GEOMETRY = ("sample_rate", "hop", "mel_bands", "patch_bands", "patch_frames", "phase_rows", "bits")


@dataclasses.dataclass(frozen=True)
class Model:
    """An installed model, as its config.json describes it."""

    folder: Path
    config: CodecConfig
    bitstream_id: bytes
    about: dict[str, Any]
    entropy_id: bytes | None = None
    """Id of the entropy model, which codes blocks of type C; None if the model has none."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def vocoders(self) -> list[str]:
        return [name for name in VOCODERS if (self.folder / f"{name}.safetensors").exists()]

    def fits(self, header: Header) -> bool:
        """Whether the model decodes a stream: same codebook and front end, same geometry."""
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
        entropy = about.pop("entropy_id", None)
        return Model(
            folder,
            config,
            bytes.fromhex(about.pop("bitstream_id")),
            about,
            None if entropy is None else bytes.fromhex(entropy),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise PcodecError(f"{path}: not the configuration of a model ({error})") from error


def search_path() -> list[Path]:
    """The folders of model folders: shipped ones, those in $PCODEC_MODELS, the user's own."""
    here = Path(__file__).parent
    shipped = [root for root in (here / "models", here.parent / "models") if root.is_dir()]
    named = os.environ.get("PCODEC_MODELS", "").split(os.pathsep)
    path = shipped[:1] + [Path(root) for root in named if root]
    with contextlib.suppress(PcodecError):  # a user without a home has no models there
        path.append(_own())
    return path


def folders() -> Iterator[Path]:
    """The model folders of the search path, readable or not, in its order."""
    for root in search_path():
        with contextlib.suppress(OSError):  # a folder that this user cannot look into
            yield from sorted(path.parent for path in root.glob("*/config.json"))


def installed() -> list[Model]:
    """The readable models of the search path; of several with one name, the first."""
    models: dict[str, Model] = {}
    for folder in folders():
        with contextlib.suppress(PcodecError):  # the other models still work
            models.setdefault(folder.name, read_model(folder))
    return list(models.values())


def find(name: str | None = None) -> Model:
    """A model by name, or by the path of its folder; without a name the default one."""
    models = {model.name: model for model in installed()}
    name = name or DEFAULT
    if name in models:
        return models[name]
    if Path(name).is_dir():
        return read_model(Path(name))
    for folder in folders():
        if folder.name == name:
            return read_model(folder)  # raises the reason
    raise PcodecError(f"no model {name!r}; installed: {', '.join(models) or 'none'}")


def add(folder: Path, name: str | None = None, link: bool = False) -> Path:
    """Installs a model for this user, under the name of its folder or another one.

    link: whether to link to the folder, instead of copying what is needed of it. Returns where
    it then lies; PcodecError if the model is not complete or the name is taken.
    """
    folder = folder.resolve()
    model, name = read_model(folder), name or folder.name
    parts = [part for part in NEEDED if not (folder / f"{part}.safetensors").exists()]
    if not model.vocoders:
        parts.append(next(iter(VOCODERS)))
    if parts:
        raise PcodecError(f"{folder}: has no weights of {', '.join(parts)} yet")
    if Path(name).name != name or name.startswith(("-", ".")):
        raise PcodecError(f"{name!r} cannot be the name of a model")
    for other in folders():
        if other.name == name:
            raise PcodecError(f"{other}: a model of this name is installed; --name gives another")
    target = _own() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(folder, target_is_directory=True)
        return target
    # The folder gets its name when it is complete.
    with tempfile.TemporaryDirectory(dir=target.parent.parent) as temporary:
        part = Path(temporary, name)
        part.mkdir()
        for pattern in ("config.json", "*.safetensors", "*.onnx", "*.md", "*.toml"):
            for path in folder.glob(pattern):
                if not path.name.endswith(".discriminator.safetensors"):
                    shutil.copyfile(path, part / path.name)
        part.rename(target)
    return target


def remove(name: str) -> Path:
    """Removes a model that `add` has installed, or the link to it; PcodecError if it is none."""
    target = _own() / name
    if Path(name).name != name or not (target.is_symlink() or target.is_dir()):
        where = next((f" (it lies in {f.parent})" for f in folders() if f.name == name), "")
        raise PcodecError(f"--add has installed no model {name!r}{where}")
    if target.is_symlink():
        target.unlink()
    else:
        shutil.rmtree(target)
    return target


def _own() -> Path:
    return data_folder() / "models"


def for_header(header: Header, model: Model | None = None) -> Model:
    """The model that decodes a stream; ModelMismatchError if it is not installed.

    model: the only one to consider; None for all that are installed.
    """
    models = installed() if model is None else [model]
    for candidate in models:
        if candidate.fits(header):
            return candidate
    have = ", ".join(f"{m.name} ({m.bitstream_id.hex()})" for m in models) or "none"
    raise ModelMismatchError(
        f"the stream was made with model {header.bitstream_id.hex()}; installed: {have}"
    )


def for_blocks(header: Header, model: Model | None = None) -> Model:
    """The model whose entropy model decodes the blocks of type C in a stream.

    model: the only one to consider; None for all that are installed. ModelMismatchError if none
    has the entropy model.
    """
    models = [m for m in (installed() if model is None else [model]) if m.fits(header)]
    for candidate in models:
        if candidate.entropy_id == header.entropy_id:
            return candidate
    if not models:
        return for_header(header, model)
    have = ", ".join(f"{m.name} ({(m.entropy_id or b'').hex() or 'none'})" for m in models)
    wanted = (header.entropy_id or b"").hex()
    raise ModelMismatchError(f"its blocks were coded by entropy model {wanted}; installed: {have}")


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


def entropy_id(numbers: Mapping[str, NDArray[Any]]) -> bytes:
    """16 bytes that identify the integers of an entropy model, which codes blocks of type C.

    SHA-256 over the arrays in the order of their names, each as int32, little-endian.
    """
    digest = hashlib.sha256()
    for name in sorted(numbers):
        digest.update(numbers[name].astype("<i4").tobytes())
    return digest.digest()[:16]
