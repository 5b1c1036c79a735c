"""The container in JavaScript reads and writes what Python's does, whole and damaged."""

import base64
import io
import json
import random
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pcodec.errors import FormatError, ModelMismatchError, PcodecError
from pcodec.pcx.chain import Chain
from pcodec.pcx.layout import Header
from pcodec.pcx.writer import Writer
from pcodec.runtime.entropy import EntropyModel

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "pcx"), str(HERE.parent / "fuzz")]

import random_damage  # noqa: E402
from plain_entropy import CONFIG, write_model  # noqa: E402

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node")


def node(*arguments):
    run = [NODE, *map(str, arguments)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def entropy_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("entropy"), CONFIG)


def by_javascript(streams, folder, tmp_path, size=1 << 20):
    """What the JavaScript reader says of each stream, fed in chunks of a size."""
    document = {
        "entropy_id": EntropyModel(CONFIG, folder).id.hex(),
        "streams": [[base64.b64encode(data).decode(), size] for data in streams],
    }
    (tmp_path / "streams.json").write_text(json.dumps(document))
    return node(HERE / "read_streams.js", tmp_path / "streams.json", folder / "entropy.safetensors")


def by_python(data, folder):
    """The same, by Python's reader."""
    model = EntropyModel(CONFIG, folder)

    def entropy(header):
        if header.entropy_id != model.id:
            raise ModelMismatchError("another entropy model")
        return model

    chain, found = Chain(entropy=entropy), {}
    try:
        for parser, pieces in [*chain.feed(data), *chain.close()]:
            found.setdefault(id(parser), (parser, []))[1].extend(pieces)
    except (FormatError, ModelMismatchError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "links": [
            {
                "samples": parser.samples,
                "tags": parser.tags,
                "source_rate": parser.known_header.source_rate,
                "bitstream_id": parser.known_header.bitstream_id.hex(),
                "pieces": [
                    [p.first_column, p.columns, None if p.indices is None else crc(p.indices)]
                    for p in pieces
                ],
            }
            for parser, pieces in found.values()
        ],
        "faults": [[fault.start, fault.end, fault.reason] for fault in chain.faults],
    }


def crc(indices):
    return zlib.crc32(np.ascontiguousarray(indices, "<u2").tobytes())


def approximately(result):
    """With seconds to the microsecond; faults in any order, and without the unknown's name."""
    for fault in result.get("faults", []):
        fault[:2] = [round(seconds, 6) for seconds in fault[:2]]
    result.get("faults", []).sort()
    if "a feature unknown here" in result.get("error", ""):
        result["error"] = result["error"].partition(":")[0]
    return result


GOLDEN = sorted((HERE.parent / "golden").glob("*.pcx"))


def test_golden_files_are_read_as_python_reads_them(entropy_folder, tmp_path):
    streams = [path.read_bytes() for path in GOLDEN]
    read = by_javascript(streams, entropy_folder, tmp_path, size=100)
    for path, data, result in zip(GOLDEN, streams, read, strict=True):
        assert result == by_python(data, entropy_folder), path.name
        assert result["links"][0]["pieces"] and not result["faults"]


@pytest.mark.parametrize("size", [173, 1 << 20])
def test_damaged_streams_are_read_as_python_reads_them(entropy_folder, tmp_path, size):
    r = random.Random(size)
    originals = [path.read_bytes() for path in GOLDEN]
    originals += [originals[0] + originals[1], originals[0] + originals[4] + originals[0]]
    streams = [random_damage.mutate(r.choice(originals), r) for _ in range(300)]
    read = by_javascript(streams, entropy_folder, tmp_path, size)
    expected = [by_python(data, entropy_folder) for data in streams]
    kinds = {"error" in e or bool(e["faults"]) for e in expected}
    assert kinds == {True, False}
    for data, result, wanted in zip(streams, read, expected, strict=True):
        assert approximately(result) == approximately(wanted), data.hex()


def test_what_fuzzing_found_is_read_as_python_reads_it(entropy_folder, tmp_path):
    paths = sorted((HERE.parent / "fuzz" / "corpus").iterdir())
    streams = [path.read_bytes() for path in paths]
    read = by_javascript(streams, entropy_folder, tmp_path)
    for path, data, result in zip(paths, streams, read, strict=True):
        assert approximately(result) == approximately(by_python(data, entropy_folder)), path.name


def test_streams_are_written_as_python_writes_them():
    lengths = [1, 32, 40, 70]
    for columns, data in zip(lengths, node(HERE / "write_streams.js", *lengths), strict=True):
        out = io.BytesIO()
        writer = Writer(out, Header(44100, bytes(range(16)), serial=3))
        writer.tag({"title": "Grüße"})
        writer.write((np.arange(columns * 24) * 101 % 1024).astype(np.uint16).reshape(-1, 24))
        writer.finish(columns * 512 - 7, {"source_frames": columns * 1411})
        assert base64.b64decode(data) == out.getvalue()


def test_the_errors_have_the_names_of_pythons():
    import pcodec.errors

    script = f'import * as e from "{(ROOT / "web/src/errors.js").as_uri()}";'
    script += "const up = (c) => Object.getPrototypeOf(c).name;"
    script += "process.stdout.write(JSON.stringify(Object.values(e).map((c) => [c.name, up(c)])))"
    for name, above in node("--input-type=module", "-e", script):
        python = getattr(pcodec.errors, name)
        assert issubclass(python, PcodecError)
        assert above in ("Error", python.__bases__[0].__name__)
