"""Reads and writes beyond 4 GiB in every container: by name and through a pipe. large_inputs.py

The files are sparse, and of many channels one is read; that takes some minutes all the same.
"""

import importlib.util
import io
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from pcodec.audio import Reader, Writer
from pcodec.errors import AudioError

ROOT = Path(__file__).parent.parent
CHANNELS, FRAMES = 1000, 1_100_000
SIZE = CHANNELS * FRAMES * 4
STATED = {
    "WAV": (0, 0x7FFFF000, 0xFFFFFFFF),
    "AIFF": (0, 0x7F000000, 0xFFFFFFFF),
    "AU": (0, 0xFFFFFFFF),
    "W64": (0, SIZE),
    "RF64": (0, SIZE),
    "BW64": (0, SIZE),
    "CAF": (0, SIZE),
}


def load(path):
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Sparse(io.FileIO):
    """A file in which zeros take no room."""

    def write(self, data):
        view = memoryview(data).cast("B")
        if any(view[:64]) or np.frombuffer(view, np.uint8).any():
            return super().write(view)
        self.seek(len(view), os.SEEK_CUR)
        return len(view)


def check(source):
    """The frames that are read, and the last sample."""
    reader = Reader(source, channel=0)
    last = 0.0
    for block in reader.blocks(0.2):
        last = float(block[-1])
    reader.close()
    return reader.taken, last, "; ".join(reader.damages + reader.remarks)


def read_all(containers, folder):
    """A line for each container, length that it states, and way in."""
    for kind, sizes in STATED.items():
        data = containers.coded(np.full((1, CHANNELS), 0.5), kind, "FLOAT")
        head, last = len(data) - 4 * CHANNELS, bytes(data[-4 * CHANNELS :])
        path = folder / f"large.{kind.lower()}"
        for stated in sizes:
            with path.open("wb") as file:
                file.write(containers.with_size(data, stated)[:head])
                file.seek(head + SIZE - len(last))
                file.write(last)
            for way in ("name", "pipe"):
                started = time.perf_counter()
                source, sender = path, None
                if way == "pipe":
                    read_end, write_end = os.pipe()
                    sender = threading.Thread(target=send, args=(path, write_end), daemon=True)
                    sender.start()
                    source = os.fdopen(read_end, "rb", buffering=0)
                frames, end, said = check(source)
                verdict = "whole" if (frames, end) == (FRAMES, 0.5) else "NOT WHOLE"
                took = time.perf_counter() - started
                print(f"{kind:5} {stated:12x} {way:5} {verdict} {took:6.1f} s  {said}", flush=True)
        path.unlink()


def send(path, descriptor):
    """What is in a file into a pipe."""
    with path.open("rb") as file, os.fdopen(descriptor, "wb", buffering=0) as out:
        while data := file.read(1 << 20):
            out.write(data)


def write_all(folder):
    """A line for each container."""
    samples = (1 << 32) // 8 + 1_000_000
    for kind in ("WAV", "AIFF", "AU", "W64", "RF64", "CAF"):
        path = folder / f"written.{kind.lower()}"
        try:
            with Sparse(path, "w+") as file, Writer(file, 16000, kind, "DOUBLE") as writer:
                block = np.zeros(1_000_000, np.float32)
                for _ in range(samples // len(block)):
                    writer.write(block)
                writer.write(np.full(1, 0.5, np.float32))
        except AudioError as error:
            print(f"{kind:5} written: refused: {error}", flush=True)
        else:
            reader = Reader(path)
            last = [float(block[-1]) for block in reader.blocks(60)][-1]
            reader.close()
            whole = reader.taken == samples // len(block) * len(block) + 1 and last == 0.5
            print(f"{kind:5} written: read back {'whole' if whole else 'NOT WHOLE'}", flush=True)
        path.unlink()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        read_all(load(ROOT / "tests" / "audio" / "containers.py"), Path(name))
        write_all(Path(name))
