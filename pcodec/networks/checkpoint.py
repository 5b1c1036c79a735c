"""Weights on disk: safetensors, one file per part of a model.

They have half precision; blocks are stored as they run (`folding.py`). The graphs of a part are
written beside its weights.

`PARTS` maps files to networks, so that a new decoder does not change the encoder's file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcodec.config import CodecConfig
from pcodec.errors import PcodecError
from pcodec.files import replaced
from pcodec.graphs import save as graphs
from pcodec.models import bitstream_id, entropy_id
from pcodec.networks.concealment import Concealment
from pcodec.networks.decoder import PatchDecoder
from pcodec.networks.encoder import PatchEncoder
from pcodec.networks.entropy import EntropyModel
from pcodec.networks.folding import Reach, fold, reach_of, unfold
from pcodec.networks.mel import MelSpectrogram
from pcodec.networks.quantizer import Quantizer
from pcodec.vocoders import VOCODERS, network_class

if TYPE_CHECKING:
    from pcodec.networks.hifigan import HifiGan
    from pcodec.networks.spectral import SpectralVocoder


class Networks(nn.Module):
    """All the networks of a codec model."""

    PARTS: ClassVar = {
        "encoder": ("mel", "encoder"),
        "codebook": ("quantizer",),
        "decoder": ("decoder",),
        **{name: (name,) for name in VOCODERS},
        "concealment": ("concealment",),
        "entropy": ("entropy",),
    }

    # Those of the registry that our training stages use, for the type checker.
    spectral: SpectralVocoder
    hifigan: HifiGan

    def __init__(self, config: CodecConfig, parts: tuple[str, ...] = tuple(PARTS)) -> None:
        super().__init__()
        self.config = config
        self.reach: Reach = {}
        if "encoder" in parts:
            self.mel = MelSpectrogram(config)
            self.encoder = PatchEncoder(config)
        if "codebook" in parts:
            self.quantizer = Quantizer(config.codebook_entries, config.latent_dim)
        if "decoder" in parts:
            self.decoder = PatchDecoder(config)
        for name in VOCODERS:
            if name in parts:
                self.add_module(name, network_class(name)(config))
        if "concealment" in parts:
            self.concealment = Concealment(config)
        if "entropy" in parts:
            self.entropy = EntropyModel(config)

    def save(self, folder: Path, parts: tuple[str, ...], source: Path | None = None) -> None:
        """Writes the files of some parts, and config.json, into a model folder.

        source: the folder that they were read from. A part that has not changed since is copied,
        as rounding it anew would move an index now and then.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            if part != "entropy":
                with replaced(folder / f"{part}.safetensors") as file:
                    if source and self._is_as_in(source, part):
                        shutil.copyfile(source / f"{part}.safetensors", file)
                    else:
                        tensors = fold(self.part_tensors(part), part == "encoder", self.reach)
                        save_file({k: v.contiguous() for k, v in tensors.items()}, file)
                graphs.save(self.config, folder, part)
        about = read_about(folder)
        about["codec"] = self.config.to_json()
        if "codebook" in parts:
            arrays = self.mel.window, self.mel.filters, self.quantizer.codebook
            window, filters, codebook = (array.cpu().numpy() for array in arrays)
            about["bitstream_id"] = bitstream_id(self.config, window, filters, codebook).hex()
        if "entropy" in parts:
            numbers = self.entropy.numbers()
            named = {f"entropy.{name}": tensor.cpu() for name, tensor in numbers.items()}
            with replaced(folder / "entropy.safetensors") as file:
                save_file(named, file)
            arrays_ = {name: tensor.numpy() for name, tensor in named.items()}
            about["entropy_id"] = entropy_id(arrays_).hex()
        with replaced(folder / "config.json") as config:
            config.write_text(json.dumps(about, indent=2) + "\n")

    def load(self, folder: Path, parts: tuple[str, ...]) -> None:
        """Reads the files of some parts from a model folder, as float32; PcodecError if bad."""
        for part in parts:
            path = folder / f"{part}.safetensors"
            try:
                stored = load_file(path)
                self.reach.update(reach_of(stored))
                tensors = unfold(stored)
                if part == "entropy":
                    self.entropy.take({k.removeprefix("entropy."): v for k, v in tensors.items()})
                    continue
                for name, tensor in self.part_tensors(part).items():
                    tensor.copy_(tensors.pop(name))
                if tensors:
                    raise ValueError(f"unknown tensors {sorted(tensors)}")
            except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
                raise PcodecError(f"{path}: not the weights of this model ({error})") from error
        if "codebook" in parts:
            self.quantizer.resume()

    def _is_as_in(self, folder: Path, part: str) -> bool:
        """Whether a part is what its file holds."""
        stored = unfold(load_file(folder / f"{part}.safetensors"))
        ours = self.part_tensors(part)
        return all(
            torch.equal(tensor.cpu(), stored[k].to(tensor.dtype)) for k, tensor in ours.items()
        )

    def part_tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part by name; they share memory with the networks."""
        return {
            name: tensor.detach()
            for name, tensor in self.state_dict().items()
            if name.split(".")[0] in self.PARTS[part]
            and name not in ("quantizer.counts", "quantizer.sums")
        }


def read_about(folder: Path) -> dict[str, Any]:
    """The content of a model folder's config.json, {} without one; PcodecError if not JSON."""
    path = folder / "config.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise PcodecError(f"{path}: not the configuration of a model ({error})") from error
    return about


def save_half(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as float16."""
    with replaced(path) as part:
        save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, part)
