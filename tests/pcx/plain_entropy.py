"""docs/format.md, "Blocks of type C", word for word in Python's whole numbers: slow and plain.

And a small entropy model whose numbers are formulas, so that anyone can write it down anew.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from pcodec.config import CodecConfig
from pcodec.models import entropy_id

CONFIG = CodecConfig(entropy_width=8, entropy_hidden=6, entropy_dim=2)


def formula(shape, most, a, b):
    """Whole numbers from -most to most: (i * a + b) modulo, in the order of an array's elements."""
    i = np.arange(np.prod(shape, dtype=np.int64))
    return ((i * a + b) % (2 * most + 1) - most).reshape(shape)


def write_model(folder: Path, c: CodecConfig = CONFIG) -> Path:
    """A model folder that holds what decodes blocks of type C, and nothing else."""
    size = c.rows * c.entropy_dim
    shapes = {
        "near": (c.entropy_width, 4 * size, ()),
        "far": (c.entropy_width, 3 * c.entropy_width, ()),
        "column": (c.rows * c.entropy_hidden, c.entropy_width + size, ()),
        "mix": (c.entropy_hidden, c.entropy_hidden, ()),
        "coarse": (32, c.entropy_hidden, (c.rows,)),
        "fine": (1024, c.entropy_hidden, (c.rows,)),
    }
    numbers = {
        "order": (np.arange(1024) * 37 % 1024).astype(np.int32),
        "embedding": formula((1024, c.entropy_dim), 127, 53, 7).astype(np.int8),
    }
    for i, (name, (out, channels, rows)) in enumerate(shapes.items()):
        numbers[f"{name}.weight"] = formula((out, channels), 127, 89 + i, 3).astype(np.int8)
        numbers[f"{name}.bias"] = formula((*rows, out), 20000, 7919, i).astype(np.int32)
        numbers[f"{name}.shift"] = (formula((out,), 1, 1, i) + 9).astype(np.int8)
    # Of a row that is not decoded yet nothing is known.
    seen = numbers["column.weight"].reshape(c.rows, c.entropy_hidden, -1)[:, :, c.entropy_width :]
    seen = seen.reshape(c.rows, c.entropy_hidden, c.rows, c.entropy_dim)
    for i, group in enumerate(c.entropy_groups):
        later = [row for rows in c.entropy_groups[i:] for row in rows]
        for row in group:
            seen[row, :, later] = 0
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"entropy.{name}": array for name, array in numbers.items()}
    save_file(named, folder / "entropy.safetensors")
    about = {"codec": c.to_json(), "bitstream_id": bytes(range(16)).hex()}
    about["entropy_id"] = entropy_id(named).hex()
    (folder / "config.json").write_text(json.dumps(about))
    return folder


class PlainDecoder:
    """Blocks of type C to indices, by Python's integers and nothing faster."""

    def __init__(self, folder: Path) -> None:
        stored = load_file(folder / "entropy.safetensors")
        self.numbers = {name.removeprefix("entropy."): x.tolist() for name, x in stored.items()}
        table = json.loads((folder / "config.json").read_text())["codec"]
        self.config = CodecConfig(**table)
        powers = [65536, 62757, 60097, 57549, 55109, 52772, 50535, 48393]
        powers += [46341, 44376, 42495, 40693, 38968, 37316, 35734, 34219]
        self.likelihoods = [powers[k % 16] // 2 ** (k // 16) for k in range(256)]

    def layer(self, name, x, outputs=None, row=None):
        """floor((weight x + bias) / 2**shift), of all outputs or of some."""
        weight, bias, shift = (self.numbers[f"{name}.{key}"] for key in ("weight", "bias", "shift"))
        bias = bias if row is None else bias[row]
        outputs = range(len(weight)) if outputs is None else outputs
        sums = [sum(w * v for w, v in zip(weight[o], x, strict=True)) + bias[o] for o in outputs]
        return [s >> shift[o] for s, o in zip(sums, outputs, strict=True)]

    def frequencies(self, logits):
        largest = max(logits)
        likelihoods = [self.likelihoods[min(largest - logit, 255)] for logit in logits]
        counts = [1 + x * (65536 - len(logits)) // sum(likelihoods) for x in likelihoods]
        counts[logits.index(largest)] += 65536 - sum(counts)
        return counts

    def symbol(self, counts):
        place = self.state % 65536
        symbol = below = 0
        while below + counts[symbol] <= place:
            below += counts[symbol]
            symbol += 1
        self.state = counts[symbol] * (self.state // 65536) + place - below
        while self.state < 1 << 24:
            self.state = 256 * self.state + self.rest.pop(0)
        return symbol

    def decode(self, payload, columns):
        """Indices (columns, rows); ValueError or IndexError if the payload is not whole."""
        c, numbers = self.config, self.numbers
        self.state, self.rest = int.from_bytes(payload[:4], "big"), list(payload[4:])
        nothing = [0] * (c.rows * c.entropy_dim)
        known = [nothing] * 4
        near = [[0] * c.entropy_width] * 6
        grid = []
        for _ in range(columns):
            seen = known[-1] + known[-2] + known[-3] + known[-4]
            near.append([min(max(v, 0), 127) for v in self.layer("near", seen)])
            far = self.layer("far", near[-1] + near[-4] + near[-7])
            far = [min(max(v, 0), 127) for v in far]
            now, places = list(nothing), [0] * c.rows
            for group in c.entropy_groups:
                features = {}
                for row in group:
                    outputs = range(row * c.entropy_hidden, (row + 1) * c.entropy_hidden)
                    x = self.layer("column", far + now, outputs)
                    x = self.layer("mix", [min(max(v, 0), 127) for v in x])
                    features[row] = [min(max(v, 0), 127) for v in x]
                for row in group:
                    logits = self.layer("coarse", features[row], row=row)
                    places[row] = 32 * self.symbol(self.frequencies(logits))
                for row in group:
                    below = range(places[row], places[row] + 32)
                    logits = self.layer("fine", features[row], below, row)
                    places[row] += self.symbol(self.frequencies(logits))
                for row in group:
                    start = row * c.entropy_dim
                    now[start : start + c.entropy_dim] = numbers["embedding"][places[row]]
            known.append(now)
            grid.append([numbers["order"][place] for place in places])
        if self.state != 1 << 24 or self.rest:
            raise ValueError("not whole")
        return grid
