"""The page in a real browser."""

import contextlib
import functools
import http.server
import importlib.util
import io
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import pcodec

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium and the package playwright",
)
LOADED = 240
"""Seconds in which the slowest machine has loaded or coded something."""


class Files(http.server.SimpleHTTPRequestHandler):
    """A server of static files that says nothing."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """The address of a folder's files."""
    handler = functools.partial(Files, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def address(web_page):
    with served(web_page) as address:
        yield address


@pytest.fixture(scope="module")
def page(chromium, address):
    """The page, ready; at the end nothing may have gone wrong, or to another machine."""
    context = chromium.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    troubles, requests = [], []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    wait_for_status(page, "Ready.")
    yield page
    context.close()
    assert not troubles
    assert all(url.startswith((address, "blob:")) for url in requests)


def wait_until(page, true, seconds=LOADED):
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"does not happen; {page.inner_text('#status')}")


def wait_for_status(page, start):
    wait_until(page, lambda: page.inner_text("#status").startswith(start))


def open_file(page, name, data):
    # The status of the file before must not count.
    page.evaluate("document.getElementById('status').textContent = ''")
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
    wait_for_status(page, "Decoded")


def saved(page, button):
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes(), download.value.suggested_filename


def set_loss(page, percent):
    page.locator("#loss").fill(str(percent))


@pytest.fixture
def example(page):
    """The page with the example open."""
    if page.inner_text("#name") != "Example":
        page.click("#example")
        wait_until(page, lambda: page.inner_text("#name") == "Example")
        wait_for_status(page, "Decoded")
    return page


def test_the_example_becomes_the_file_that_python_writes(example, coded):
    data, name = saved(example, "#save")
    assert (data, name) == (coded, "Example.pcx")
    facts = example.inner_text("#facts")
    assert "7.50 kbit/s" in facts and "143 \u00d7 24 indices" in facts


def test_what_one_hears_is_what_python_decodes(example, coded, speech):
    decoded, _ = pcodec.decode(coded)
    for number, wanted in ((1, decoded), (0, speech)):
        example.locator("input[name=heard]").nth(number).check()
        data, _ = saved(example, "#save-wav")
        given, rate = soundfile.read(io.BytesIO(data), dtype="float32")
        assert rate == 16000 and given.shape == wanted.shape
        # The file has 16 bits; a rounding of the decoder may be another one in WebAssembly.
        error = np.abs(given - wanted)
        assert error.max() < (2e-2 if number else 1e-9) and np.median(error) < 2e-5


def test_lost_packets_are_concealed_and_shown(example):
    whole, _ = saved(example, "#save-wav")
    # What is not decoded yet cannot be saved.
    assert example.evaluate(
        """() => {
            const [loss, save] = ["loss", "save-wav"].map((id) => document.getElementById(id));
            loss.value = 20;
            loss.dispatchEvent(new Event("input"));
            return save.disabled;
        }"""
    )
    lost = re.compile(r"20 %: (\d+) of 143 columns")
    wait_until(example, lambda: lost.match(example.inner_text("#lost")))
    assert 15 < int(lost.match(example.inner_text("#lost"))[1]) < 45
    assert example.locator("input[name=heard]").nth(1).is_checked()
    wait_until(example, lambda: saved(example, "#save-wav")[0] != whole)
    before = example.inner_text("#lost")
    example.click("#shake")
    wait_until(example, lambda: example.inner_text("#lost") != before)
    set_loss(example, 0)
    wait_until(example, lambda: example.inner_text("#lost") == "none")
    assert example.locator("#shake").is_disabled()


def position(page):
    return float(page.locator("#seek").input_value())


def test_keys_play_switch_and_seek(example):
    example.locator("#seek").focus()
    example.keyboard.press("Home")
    assert position(example) == 0
    example.keyboard.press("Space")
    assert example.inner_text("#play") == "Pause"
    wait_until(example, lambda: position(example) > 0.2)
    example.keyboard.press("1")
    assert example.locator("input[name=heard]").nth(0).is_checked()
    assert example.inner_text("#shown") == "original"
    example.keyboard.press("2")
    assert example.locator("input[name=heard]").nth(1).is_checked()
    example.keyboard.press("Space")
    assert example.inner_text("#play") == "Play"
    paused = position(example)
    example.wait_for_timeout(300)
    assert position(example) == paused > 0.2


def test_every_control_has_a_name_and_can_be_reached_by_the_keyboard(example):
    for role, names in {
        "button": ["Open a file", "Record", "Try an example", "Play", "Save .pcx"],
        "radio": ["Original", "Decoded"],
        "slider": ["Position", "Lost packets"],
    }.items():
        for name in names:
            control = example.get_by_role(role, name=name, exact=True)
            assert control.count() == 1, name
            control.focus()
            assert control.evaluate("element => element === document.activeElement"), name
    assert example.get_by_role("group", name="What you hear").count() == 1
    assert example.get_by_role("status").first.inner_text() == "Decoded."
    for picture in ("Mel spectrogram", "20 mel rows", "4 phase rows"):
        assert example.get_by_role("img", name=picture).count() == 1


def test_a_damaged_file_is_opened_and_says_what_is_lost(page, coded):
    damaged = bytearray(coded)
    for i in range(len(damaged) // 2, len(damaged) // 2 + 40):
        damaged[i] ^= 0x55
    open_file(page, "broken.pcx", bytes(damaged))
    assert page.inner_text("#status") == "Decoded. The file is damaged; what is lost is concealed."
    assert "a block's checksum does not match" in page.inner_text("#damages")
    assert page.inner_text("#lost") == "32 of 143 columns"
    assert page.locator("input[name=heard]").nth(0).is_disabled()


def test_a_compact_file_is_opened(page, speech):
    open_file(page, "small.pcx", pcodec.encode(speech, 16000, compact=True))
    assert page.inner_text("#status") == "Decoded." and not page.locator("#damages li").count()


def test_a_file_without_samples_is_opened(page, speech):
    open_file(page, "nothing.pcx", pcodec.encode(speech[:0], 16000))
    facts = page.inner_text("#facts")
    assert "24 indices" in facts and facts.endswith("0.2 kB")
    page.hover("#grid")
    assert page.inner_text("#cell") == ""
    decoded, _ = soundfile.read(io.BytesIO(saved(page, "#save-wav")[0]))
    assert not len(decoded)


def test_what_was_opened_last_stays_though_a_sound_was_still_coded(page, address, speech):
    # The page asks in this order if a recording ends while a sound is coded.
    answers = page.evaluate(
        """async ([address, samples, pcx]) => {
            const worker = new Worker(`${address}worker.js`, { type: "module" });
            const ask = (id, what) =>
                new Promise((resolve) => {
                    worker.addEventListener("message", ({ data }) => {
                        if (data.id === id || data.event === id) resolve(data);
                    });
                    worker.postMessage({ id, ...what });
                });
            const sound = { samples: Float32Array.from(samples), rate: 16000 };
            const coded = ask(1, { do: "encode", ...sound });
            const open = await ask(2, { do: "open", pcx: Uint8Array.from(pcx).buffer });
            const { error } = await coded;
            const { mask } = await ask("mask", { do: "decode", loss: 0, seed: 1, from: 0 });
            worker.terminate();
            return [error, open.result.columns, mask.length];
        }""",
        [address, speech.tolist(), list(pcodec.encode(speech[:5120], 16000))],
    )
    assert answers == ["something else was opened meanwhile", 10, 10]


def test_what_is_no_sound_is_refused_in_one_line(page):
    page.set_input_files("#file", {"name": "x.wav", "mimeType": "", "buffer": b"no sound"})
    wait_for_status(page, "x.wav: this browser cannot read it as sound")
    page.set_input_files("#file", {"name": "x.pcx", "mimeType": "", "buffer": b"RIFF"})
    wait_for_status(page, "x.pcx: not a .pcx speech stream: this looks like a WAV file")
    assert page.locator("#open").is_enabled()


def test_another_rate_is_converted_as_python_does(page):
    seconds = np.arange(44100) / 44100
    tone = (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone, tone], 1), 44100, format="WAV", subtype="PCM_16")
    open_file(page, "tone.wav", file.getvalue())
    data, _ = saved(page, "#save")
    decoded, rate = pcodec.decode(data)
    assert (rate, len(decoded)) == (44100, 44100)
    page.locator("input[name=heard]").nth(0).check()
    original, _ = soundfile.read(io.BytesIO(saved(page, "#save-wav")[0]), dtype="float32")
    wanted = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    middle = slice(1000, -1000)
    assert np.abs(original[middle] - wanted[middle]).max() < 2e-4


def test_the_microphone_is_recorded(page):
    page.click("#record")
    wait_for_status(page, "Recording …")
    assert page.inner_text("#record") == "Stop"
    wait_until(page, lambda: re.match(r"0:0[1-9]", page.inner_text("#recorded")))
    page.evaluate("for (const _ of [1, 2]) document.getElementById('record').click()")
    wait_for_status(page, "Decoded.")
    assert page.inner_text("#name") == "Recording" and page.inner_text("#record") == "Record"
    decoded, _ = pcodec.decode(saved(page, "#save")[0])
    assert np.abs(decoded).max() > 0.01  # the browser's false microphone beeps
    assert page.locator("#recorded").is_hidden()


def test_the_microphone_is_let_go_if_it_cannot_be_recorded(page):
    page.evaluate(
        """() => {
            const open = navigator.mediaDevices.getUserMedia;
            navigator.mediaDevices.getUserMedia = async function (wanted) {
                return (window.microphone = await open.call(this, wanted));
            };
            window.AudioContext = class { constructor() { throw new Error("no device"); } };
        }"""
    )
    page.click("#record")
    wait_for_status(page, "The microphone cannot be used: no device")
    assert page.evaluate("microphone.getTracks().map((track) => track.readyState)") == ["ended"]
    assert page.inner_text("#record") == "Record" and page.locator("#level").is_hidden()
    page.reload()
    wait_for_status(page, "Ready.")


def test_the_page_works_if_its_files_cannot_be_kept(chromium, web_page, tmp_path):
    shutil.copytree(web_page, tmp_path / "dist", copy_function=os.link)
    (tmp_path / "dist" / "example.flac").unlink()
    with served(tmp_path / "dist") as address, chromium.new_context() as context:
        page = context.new_page()
        page.goto(address)
        wait_for_status(page, "Ready.")
        assert page.inner_text("#offline") == ""


def test_a_phone_in_the_dark_without_a_network_codes_speech(chromium, address, coded):
    context = chromium.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, color_scheme="dark"
    )
    page = context.new_page()
    page.goto(address)
    wait_for_status(page, "Ready.")
    assert page.inner_text("#offline") == "This page also works without a network."
    context.set_offline(True)
    page.reload()
    wait_for_status(page, "Ready.")
    page.tap("#example")
    wait_for_status(page, "Decoded")
    assert saved(page, "#save")[0] == coded
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", paper))) < 64
    context.close()
