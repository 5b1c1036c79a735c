import os

os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # what the tests train is too short for it
# One test a core: threads of several tests on the same cores slow each other tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Models that this user has installed have no part in the tests.
os.environ["XDG_DATA_HOME"] = "/nonexistent"
os.environ.pop("PCODEC_MODELS", None)
# Not what counts the cores for its workers.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores, worker = sorted(os.sched_getaffinity(0)), os.environ["PYTEST_XDIST_WORKER"]
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import contextlib
import select
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

import pcodec
from pcodec.cli import main
from pcodec.config import CodecConfig

SMALL = CodecConfig(
    encoder_width=32,
    encoder_blocks=2,
    decoder_width=32,
    decoder_blocks=2,
    decoder_fine_width=16,
    decoder_fine_blocks=2,
    vocoder_width=32,
    vocoder_blocks=2,
    hifigan_width=32,
    concealment_width=32,
    concealment_blocks=2,
    entropy_width=16,
    entropy_hidden=16,
    entropy_dim=4,
)
"""Networks that take no time."""

TINY_CODEC = """[codec]
encoder_width = 32
encoder_blocks = 1
decoder_width = 32
decoder_blocks = 1
decoder_fine_width = 16
decoder_fine_blocks = 1
vocoder_width = 32
vocoder_blocks = 1
hifigan_width = 32
concealment_width = 32
concealment_blocks = 1
entropy_width = 16
entropy_hidden = 16
entropy_dim = 4
"""
"""The sizes of even smaller ones, for a recipe."""

SPEECH = Path(__file__).parent / "speech.flac"
WEB = Path(__file__).parent.parent / "web"


@pytest.fixture(scope="session")
def speech():
    """Real speech, 16 kHz mono float32."""
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    assert rate == 16000
    return samples


@pytest.fixture(scope="session")
def codec():
    return pcodec.load()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """The folder of a model of `SMALL` networks with random weights: it codes, to noise."""
    import torch

    from pcodec.networks.checkpoint import Networks

    torch.manual_seed(0)
    folder, networks = tmp_path_factory.mktemp("models") / "small", Networks(SMALL)
    networks.quantizer.codebook.normal_()
    networks.save(folder, tuple(Networks.PARTS))
    return folder


@pytest.fixture(scope="session")
def tokens(codec, speech):
    return codec.to_tokens(speech)


@pytest.fixture(scope="session")
def coded(speech):
    """The speech as a .pcx stream."""
    return pcodec.encode(speech, 16000)


@pytest.fixture
def coded_file(coded, tmp_path):
    path = tmp_path / "speech.pcx"
    path.write_bytes(coded)
    return path


@pytest.fixture(scope="session")
def web_packages():
    """The packages of web/package-lock.json."""
    if shutil.which("node") is None:
        pytest.skip("needs Node")
    if not (WEB / "node_modules" / "onnxruntime-web").exists():
        pytest.skip("needs the packages of web/: run `npm ci` there")


@pytest.fixture(scope="session")
def web_graphs(web_packages, tmp_path_factory):
    """The folder of the exported graphs of the shipped model."""
    from pcodec import models
    from pcodec.graphs.export import export

    folder = tmp_path_factory.mktemp("graphs")
    export(models.find(None), folder)
    return folder


@pytest.fixture(scope="session")
def web_page(web_graphs, tmp_path_factory):
    """The folder of the built page."""
    folder = tmp_path_factory.mktemp("page") / "dist"
    run = ["node", WEB / "build.js", web_graphs, folder]
    done = subprocess.run(run, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(autouse=True)
def _as_a_stranger_runs_it(monkeypatch):
    """Nothing in the environment may make the output unbuffered, or hide warnings."""
    for name in ("PYTHONUNBUFFERED", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pcodec_process():
    """Runs the command line in a process of its own; gives what it did."""

    def run(*arguments, input=None, cwd="."):
        return subprocess.run(
            [sys.executable, "-m", "pcodec", *map(str, arguments)],
            input=input,
            capture_output=True,
            timeout=120,
            cwd=cwd,
        )

    return run


@pytest.fixture
def pcodec_command(pcodec_process):
    """The same in this process, which need not start Python anew; with real pipes."""
    return run_here if os.name == "posix" else pcodec_process


def run_here(*arguments, input=None, cwd="."):
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr, Path.cwd()
    descriptors = [os.dup(number) for number in range(3)]
    written, threads, done = {1: bytearray(), 2: bytearray()}, [], threading.Event()

    def collect(read_end, number):
        # Not to the end of the pipe: a process that multiprocessing keeps may hold it open.
        while True:
            all_is_written = done.is_set()
            if select.select([read_end], [], [], 0.02)[0]:
                data = os.read(read_end, 1 << 16)
                if not data:
                    break
                written[number] += data
            elif all_is_written:
                break
        os.close(read_end)

    def feed(write_end):
        with os.fdopen(write_end, "wb", 0) as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(bytes(input))

    pipes = [os.pipe() for _ in range(3)]
    if input is None:
        os.close(pipes[0][1])  # nothing comes
    else:
        threads.append(threading.Thread(target=feed, args=(pipes[0][1],)))
    threads += [threading.Thread(target=collect, args=(pipes[n][0], n)) for n in (1, 2)]
    for number, end in enumerate((pipes[0][0], pipes[1][1], pipes[2][1])):
        os.dup2(end, number)
        os.close(end)
    for thread in threads:
        thread.start()
    try:
        sys.argv = ["pcodec", *map(str, arguments)]
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.chdir(cwd)
        with pytest.raises(SystemExit) as left:
            main()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr, folder = before
        os.chdir(folder)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        done.set()
        for thread in threads:
            thread.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    out, err = bytes(written[1]), bytes(written[2])
    return subprocess.CompletedProcess(arguments, left.value.code, out, err)


def of_no_model(coded):
    """A .pcx stream whose model is none that is installed."""
    foreign = bytearray(coded)
    foreign[36:52] = bytes(16)
    foreign[60:64] = zlib.crc32(foreign[:60]).to_bytes(4, "little")
    return bytes(foreign)


def snr(reference, other):
    """Signal-to-noise ratio in dB."""
    noise = np.asarray(reference, np.float64) - other
    return 10 * np.log10(
        np.sum(np.square(reference, dtype=np.float64)) / (np.sum(noise**2) + 1e-30)
    )


@pytest.fixture(scope="session")
def chromium():
    """The system's browser, one for all tests: two cannot be driven from one process."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "chrome")
    program = next(filter(None, map(shutil.which, names)))
    # Without --disable-gpu a machine that has none emulates one. The microphone is a fake.
    arguments = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    arguments += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()
