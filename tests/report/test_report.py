import base64
import copy
import hashlib
import importlib.util
import json
import re
import shutil
import zlib

import numpy as np
import pytest
import soundfile

import pcodec
from pcodec.cli import cli, error_line
from pcodec.errors import PcodecError
from pcodec.report import pictures, sound

RATE = 16000
MARKUP = "<script>alert(1)</script>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium and the package playwright",
)
METRICS = (("pesq", "PESQ-WB", "", "higher"), ("mcd", "MCD", "dB", "lower"))
# By how much each codec is quieter: so the tests can tell by ear.
VOLUMES = {"pcodec": 0.8, "low-4": 0.5, "low-16": 0.35, MARKUP: 0.2}
KBIT = {"pcodec": 7.5, "low-4": 4.0, "low-16": 16.0, MARKUP: 1.0}
PESQ = {"pcodec": 3.1, "low-4": 2.0, "low-16": 3.9, MARKUP: 1.5}


def of_codec(name):
    scores = {"pesq": PESQ[name], "mcd": 9 - PESQ[name]}
    return {
        "name": name, "about": f"about {name}", "absent": None,
        "kbit_s": KBIT[name], "kbit_s_container": KBIT[name] * 1.06, "delay_ms": 0.0,
        "encode_rtf": 0.009, "decode_rtf": 0.013,
        "codebook": {"entropy_bits": 9.8, "unused": 3, "entries": 1024},
        "scores": {
            m: {"mean": v, "low": v - 0.1, "high": v + 0.1, "files": 2}
            for m, v in scores.items()
            if (name, m) != (MARKUP, "mcd")
        },
    }  # fmt: skip


def of_file(name, seconds, number):
    return {
        "name": name, "path": "/home/somebody/secret.flac", "seconds": seconds,
        "speaker": "672", "language": "en",
        "codecs": {
            codec: {
                "payload_bits": int(1000 * KBIT[codec] * seconds), "container_bytes": 9000,
                "encode_seconds": 0.1, "decode_seconds": 0.1,
                "scores": {"pesq": PESQ[codec], "mcd": None},
            }
            for codec in VOLUMES
        },
        "refused": [{"codec": MARKUP, "metric": "mcd", "why": "no frame & nothing"}],
        "samples": {
            "reference": f"r.audio/{number}/reference.flac",
            "codecs": {c: f"r.audio/{number}/{i}.flac" for i, c in enumerate(VOLUMES)},
            "streams": {"pcodec": f"r.audio/{number}/0.pcx"},
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def measured(tmp_path_factory, speech, codec):
    """The path of a document with real audio of two files beside it."""
    folder = tmp_path_factory.mktemp("measured")
    clips = {MARKUP: speech, "b.flac": speech[: 2 * RATE]}
    for number, clip in enumerate(clips.values()):
        here = folder / "r.audio" / str(number)
        here.mkdir(parents=True)
        stream = pcodec.encode(clip, RATE)
        decoded, _ = pcodec.decode(stream)
        (here / "0.pcx").write_bytes(stream)
        soundfile.write(here / "reference.flac", clip, RATE)
        low = sound.low_pass(clip)
        for i, (name, volume) in enumerate(VOLUMES.items()):
            samples = decoded if name == "pcodec" else low
            soundfile.write(here / f"{i}.flac", volume * samples, RATE)
    gone = {"name": "gone-8", "about": "gone", "absent": "libgone is <not> installed"}
    document = {
        "format": "pcodec-eval/1", "created": "2026-11-23T14:00:00+00:00", "data": "dev.tsv",
        "software": {"pcodec-speech": "0.2.0", "pesq": "0.0.4"},
        "metrics": [
            {"name": n, "title": t, "unit": u, "better": b, "definition": f"What {t} is."}
            for n, t, u, b in METRICS
        ],
        "codecs": [*map(of_codec, VOLUMES), gone],
        "files": [of_file(n, len(c) / RATE, i) for i, (n, c) in enumerate(clips.items())],
    }  # fmt: skip
    path = folder / "r.json"
    path.write_text(json.dumps(document))
    return path


def report(*arguments):
    cli.main(["report", *map(str, arguments)], standalone_mode=False)


@pytest.fixture(scope="session")
def page_file(measured):
    report(measured)
    return measured.with_suffix(".html")


@pytest.fixture(scope="session")
def text(page_file):
    return page_file.read_text(encoding="utf-8")


# ---- the file


def test_names_that_are_markup_come_out_as_text(text):
    assert MARKUP not in text and "<not>" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    assert "libgone is &lt;not&gt; installed" in text and "no frame &amp; nothing" in text


def test_the_numbers_inside_are_the_document_without_the_paths_of_this_machine(text, measured):
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]
    assert not set("<>&") & set(inside)
    document = json.loads(measured.read_bytes())
    for file in document["files"]:
        del file["path"]
    assert json.loads(inside)["results"] == document
    assert "secret" not in text


def test_the_policy_lets_run_only_the_script_that_is_there(text):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for kind in ("script", "style"):
        content = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"\sstyle=|\son\w+=\"", text)


def test_nothing_outside_is_named(text):
    addresses = re.findall(r'(?:src|href|action|srcset)="([^"]{0,40})', text)
    assert len(addresses) > 20
    assert all(a.startswith(("data:", "#")) for a in addresses)
    assert not re.search(r"https?:|//\w+\.\w", re.sub(r"data:[^\"]*", "", text))


def test_absent_codecs_and_refused_scores_are_listed_with_their_reasons(text):
    assert "<b>gone-8</b>: libgone" in text
    assert "2 missing scores" in text and "b.flac</td>" in text


def test_a_document_without_audio_gives_a_page_without_players(measured, tmp_path):
    document = json.loads(measured.read_bytes())
    for file in document["files"]:
        file["samples"] = None
    path = tmp_path / "quiet.json"
    path.write_text(json.dumps(document))
    report(path, "-o", tmp_path / "q.html")
    page = (tmp_path / "q.html").read_text()
    assert "No audio was kept" in page and "<audio " not in page
    assert 'id="to-blind" hidden' in page


def test_an_existing_page_stays_unless_forced(measured, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(PcodecError, match=r"page\.html: exists; -f replaces it"):
        report(measured, "-o", page)
    assert page.read_text() == "mine"
    report(measured, "-o", page, "-f")
    assert page.read_text().startswith("<!doctype html>")


def broken(document, what):
    file = document["files"][1]
    if what == "missing audio":
        file["samples"]["codecs"]["low-4"] = "r.audio/1/no.flac"
        return "no.flac: no such file"
    if what == "audio elsewhere":
        file["samples"]["reference"] = "../../reference.flac"
        return "lies outside the folder"
    if what == "other length":
        file["samples"]["codecs"]["low-4"] = "r.audio/0/1.flac"
        return "0/1.flac: has 72880 samples, its reference 32000"
    if what == "no audio":
        file["samples"]["codecs"]["low-4"] = "r.audio/1/0.pcx"
        return "0.pcx: cannot be read as audio"
    if what == "no stream":
        file["samples"]["streams"]["pcodec"] = "r.audio/1/0.flac"
        return "0.flac: "
    if what == "other format":
        document["format"] = "pcodec-eval/9"
        return "r.json: is not a document of `pcodec eval`"
    if what == "no number":
        document["codecs"][0]["scores"]["pesq"]["mean"] = float("nan")
        return "r.json: results.codecs[0].scores.pesq.mean: is not a number"
    del document["codecs"][0]["kbit_s"]
    return "r.json: results.codecs[0].kbit_s: is missing"


@pytest.mark.parametrize(
    "what",
    [
        *("missing audio", "audio elsewhere", "other length", "no audio", "no stream"),
        *("other format", "no number", "missing field"),
    ],
)
def test_a_bad_document_is_one_line_that_names_the_file(measured, tmp_path, what):
    document = json.loads(measured.read_bytes())
    expected = broken(document, what)
    shutil.copytree(measured.parent / "r.audio", tmp_path / "r.audio")
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document))
    with pytest.raises(PcodecError) as caught:
        report(path)
    line = error_line(caught.value)
    assert expected in line and line.startswith(str(tmp_path)) and "\n" not in line
    assert not line.startswith(str(path.with_suffix(".html")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.audio", "r.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1]", b"null", b"[" * 200000])
def test_what_is_no_document_is_one_line_of_the_command(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(PcodecError, match=r"r\.json: is not "):
        report(path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_says_what_is_wrong(pcodec_command, tmp_path):
    (tmp_path / "r.json").write_text("{}")
    result = pcodec_command("report", tmp_path / "r.json")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and b"r.json: is not a document" in result.stderr


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_codecs_metrics_and_files_makes_a_page(measured, tmp_path, count):
    document = json.loads(measured.read_bytes())
    document["files"] = []
    codecs = [copy.deepcopy(document["codecs"][0]) for _ in range(count * 5 - 5)]
    for i, codec in enumerate(codecs):
        codec.update(name=f"c{i}-{i}", kbit_s=0.0 if i % 2 else 6.0, codebook=None)
    document["codecs"] = codecs
    document["software"] = {}
    document["created"] = "yesterday"
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document))
    report(path)
    assert "yesterday" in path.with_suffix(".html").read_text()


# ---- the pictures


def pixels(picture):
    """The palette places of a PNG of this package."""
    width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    start = picture.index(b"IDAT")
    size = int.from_bytes(picture[start - 4 : start], "big")
    lines = zlib.decompress(picture[start + 4 : start + 4 + size])
    return np.frombuffer(lines, np.uint8).reshape(height, width + 1)[:, 1:]


def test_a_picture_is_the_png_that_others_read(tmp_path):
    from matplotlib import image

    levels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 5
    data = pictures.png(levels, "000000 ffffff")
    assert np.array_equal(pixels(data), levels)
    (tmp_path / "p.png").write_bytes(data)
    read = image.imread(tmp_path / "p.png")[..., 0]
    assert np.allclose(read, levels / (pictures.STEPS - 1), atol=1 / 255)


def test_a_tone_stands_at_its_frequency():
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    spectrum = pictures.decibels(tone)
    assert spectrum.shape == (257, 125)
    assert (spectrum.argmax(0) == 2000 / RATE * 512).all()
    silence = pictures.decibels(np.zeros(RATE, np.float32))
    assert np.isfinite(silence).all()


def test_the_anchor_keeps_time_and_ends_at_three_and_a_half_kilohertz(speech):
    low = sound.low_pass(speech)
    assert len(low) == len(speech)
    before, after = (np.abs(np.fft.rfft(x)) for x in (speech, low))
    hertz = np.arange(len(before)) * RATE / len(speech)
    kept, gone = hertz < 3450, hertz > 3650
    assert np.linalg.norm((after - before)[kept]) < 0.01 * np.linalg.norm(before[kept])
    assert np.linalg.norm(after[gone]) < 0.003 * np.linalg.norm(before[gone])
    # In step with the original, not only of the same spectrum.
    difference = np.fft.rfft(speech) - np.fft.rfft(low)
    assert np.linalg.norm(difference[kept]) < 0.01 * np.linalg.norm(before[kept])


def test_the_patch_grid_is_the_streams_with_low_frequencies_below(
    coded_file, codec, tokens, speech
):
    decoded, _ = pcodec.decode(coded_file.read_bytes())
    grid, error = pictures.patch_pictures(coded_file, speech, decoded)
    wide = -(-len(speech) // 128)
    assert grid.shape == error.shape == (24, wide)
    at = (np.arange(len(tokens)) + 0.5) * 512 / len(speech) * wide
    shown = grid[::-1, at.astype(int).clip(max=wide - 1)].T
    # Phase rows have a colouring of their own.
    rows = codec.config.mel_rows
    for part in (np.s_[:, :rows], np.s_[:, rows:]):
        for index in np.unique(tokens[part])[:50]:
            assert len(set(shown[part][tokens[part] == index])) == 1
    assert len(np.unique(grid)) > 60
    _, none = pictures.patch_pictures(coded_file, decoded, decoded)
    assert not none.any() and error.mean() > 5


def test_lost_columns_are_grey_in_the_patch_grid(coded_file, speech):
    data = bytearray(coded_file.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 40):
        data[i] ^= 0x55
    coded_file.write_bytes(data)
    grid, _ = pictures.patch_pictures(coded_file, speech, speech)
    lost = (grid == pictures.STEPS).all(0)
    assert 0 < lost.sum() < grid.shape[1]


# ---- the page in a browser

LISTEN_IN = """
window.starts = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, offset) {
  window.starts.push({ source: this, when, offset });
  return start.call(this, when, offset);
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (this instanceof AudioBufferSourceNode) this.volume = to;
  return connect.call(this, to, ...rest);
};
"""
LOUDNESS = """({ source: { buffer } }) => Math.sqrt(
  buffer.getChannelData(0).reduce((sum, v) => sum + v * v, 0) / buffer.length)"""


class Opened:
    """The report in a context of its own, and what goes wrong in it."""

    def __init__(self, chromium, page_file, width=1280, **options):
        self.context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        self.troubles, self.requests = [], []
        self.page = page = self.context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self.troubles.append(message.text))
        page.on("dialog", lambda dialog: (self.troubles.append(dialog.message), dialog.accept()))
        page.on("request", lambda request: self.requests.append(request.url))
        page.add_init_script(LISTEN_IN)
        page.goto(page_file.as_uri())

    def check(self):
        """No error has come up, no request gone out."""
        assert not self.troubles
        assert self.requests
        assert all(url.startswith(("file:", "data:", "blob:")) for url in self.requests)


@pytest.fixture
def open_page(chromium, page_file):
    """Opens the report as one who was never there before."""
    opened = []

    def open_(**options):
        opened.append(Opened(chromium, page_file, **options))
        return opened[-1].page

    yield open_
    for one in opened:
        one.context.close()
        one.check()


@pytest.fixture(scope="session")
def shared_page(chromium, page_file):
    one = Opened(chromium, page_file)
    yield one
    one.context.close()


@pytest.fixture
def page(shared_page):
    """The report, open already: for tests that leave nothing behind which others look at."""
    yield shared_page.page
    shared_page.page.emulate_media(media="screen", color_scheme="light")
    shared_page.check()


def position(page, root="#sample-0"):
    return float(page.locator(f"{root} .seek").input_value())


def wait_until(page, true, seconds=20):
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("does not happen")


def volumes(page):
    """Of the versions that were started last, how loud each is."""
    return page.evaluate("starts.slice(-5).map((s) => s.source.volume.gain.value)")


@in_a_browser
def test_a_player_plays_and_a_switch_keeps_the_position(open_page):
    page = open_page()
    page.click("#sample-0 .play")
    wait_until(page, lambda: position(page) > 0.3)
    starts = page.evaluate("starts.map(({ when, offset }) => [when, offset])")
    assert len(starts) == 5 and len({tuple(s) for s in starts}) == 1
    assert volumes(page) == [1, 0, 0, 0, 0]
    before = position(page)
    page.locator("#sample-0 .choice label").nth(2).click()
    wait_until(page, lambda: volumes(page) == [0, 0, 1, 0, 0])
    assert before <= position(page) < before + 4
    assert len(page.evaluate("starts")) == 5  # nothing was started anew
    assert page.locator("#sample-0 .track.heard figcaption b").inner_text() == "low-4"
    assert page.locator("#sample-0 .track:visible").count() == 1
    page.click("#sample-0 .play")
    wait_until(page, lambda: page.locator("#sample-0 .play").inner_text() == "Play")
    page.wait_for_timeout(100)  # for a last picture
    paused = position(page)
    page.wait_for_timeout(300)
    assert position(page) == paused > 0
    lengths = page.evaluate("starts.map(({ source }) => source.buffer.length)")
    assert len(set(lengths)) == 1


@in_a_browser
def test_the_end_comes_and_a_loop_goes_on(open_page):
    page = open_page()
    page.locator("#sample-1 .seek").fill("1.8")
    page.click("#sample-1 .play")
    wait_until(page, lambda: page.locator("#sample-1 .play").inner_text() == "Play")
    assert position(page, "#sample-1") == 0
    page.locator("#sample-1 .seek").fill("1.8")
    page.locator("#sample-1 .transport").get_by_text("loop").click()
    page.click("#sample-1 .play")
    wait_until(page, lambda: 0.2 < position(page, "#sample-1") < 1.5)
    assert page.locator("#sample-1 .play").inner_text() == "Pause"
    page.click("#sample-0 .play")  # the other one falls silent
    wait_until(page, lambda: position(page) > 0.1)
    assert page.locator("#sample-1 .play").inner_text() == "Play"


@in_a_browser
def test_the_keyboard_does_all_that_the_mouse_does(open_page):
    page = open_page()
    page.locator("#sample-0 .choice input").first.focus()
    page.keyboard.press("Space")
    wait_until(page, lambda: position(page) > 0.2)
    page.keyboard.press("1")
    wait_until(page, lambda: volumes(page) == [0, 1, 0, 0, 0])
    page.keyboard.press("ArrowDown")
    wait_until(page, lambda: volumes(page) == [0, 0, 1, 0, 0])
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    wait_until(page, lambda: volumes(page) == [1, 0, 0, 0, 0])
    page.keyboard.press("Space")
    wait_until(page, lambda: page.locator("#sample-0 .play").inner_text() == "Play")
    page.locator("#sample-0 .seek").fill("2")
    page.locator("#sample-0 .play").focus()
    page.keyboard.press("ArrowRight")
    assert position(page) == pytest.approx(2.5)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert position(page) == pytest.approx(1.5)
    page.keyboard.press("Space")
    wait_until(page, lambda: position(page) > 1.6)
    assert page.locator("#sample-0 .play").inner_text() == "Pause"  # pressed once, not twice
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    wait_until(page, lambda: page.locator("#sample-0 .play").inner_text() == "Play")
    outline = "getComputedStyle(document.querySelector('#sample-0 .play')).outlineWidth"
    page.locator("#sample-0 .seek").focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(outline) == "3px"


@in_a_browser
def test_a_click_into_the_spectrogram_goes_there_and_the_cursor_moves(page):
    picture = page.locator("#sample-0 .track.heard .spectrogram")
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] / 2, "y": 20})
    middle = float(page.locator("#sample-0 .seek").get_attribute("max")) / 2
    assert position(page) == pytest.approx(middle, abs=0.05)
    cursor = page.locator("#sample-0 .track.heard .cursor").bounding_box()
    assert cursor["x"] == pytest.approx(box["x"] + box["width"] / 2, abs=3)
    page.locator("#sample-0 .transport").get_by_text("all pictures").click()
    assert page.locator("#sample-0 .track:visible").count() == 5
    page.locator("#sample-0 .track").nth(3).locator(".spectrogram").click(position={"x": 5, "y": 5})
    assert page.locator("#sample-0 .choice input").nth(3).is_checked()
    page.locator("#sample-0 .transport").get_by_text("all pictures").click()
    assert page.locator("#sample-0 .track:visible").count() == 1


@in_a_browser
def test_a_header_sorts_both_ways_with_what_is_missing_last(page):
    names = page.locator("table.results tbody th")
    header = page.locator("table.results th", has_text="PESQ-WB").first
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"  # the best first
    assert names.all_inner_texts() == ["low-16", "pcodec", "low-4", MARKUP]
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert names.all_inner_texts() == [MARKUP, "low-4", "pcodec", "low-16"]
    for order in ("ascending", "descending"):
        page.locator("table.results th", has_text="MCD").locator("button").press("Space")
        assert page.locator(f"[aria-sort={order}]").inner_text().startswith("MCD")
        assert names.all_inner_texts()[-1] == MARKUP
    page.locator("table.results th button").first.click()
    assert names.all_inner_texts()[1:] == ["low-4", "low-16", "pcodec"]


@in_a_browser
def test_the_blind_part_hides_names_and_saves_them_with_the_scores(open_page, measured):
    page = open_page()
    page.click("#to-blind")
    seen = page.locator("body").inner_text()
    for name in ("low-4", "low-16", "pcodec", "script", "b.flac"):
        assert name not in seen
    assert not page.locator("img:visible, svg:visible").count()
    page.click("#save-answers")  # not without a listener
    assert "who listens" in page.locator("#status").inner_text()
    page.fill("#listener", "L 07")
    given, loud = {}, {}
    for trial in (1, 2):
        assert page.locator("#trial").inner_text() == f"Sample {trial} of 2"
        assert page.locator(".stimuli li").count() == 6
        page.click("#blind .play")
        wait_until(page, lambda: position(page, "#blind") > 0.1)
        levels = page.evaluate(f"starts.slice(-7).map({LOUDNESS})")
        for i in range(6):
            slider = page.locator(".stimuli input").nth(i)
            slider.focus()
            assert page.locator(".choice input[name=blind]").nth(i + 1).is_checked()
            if (trial, i) != (2, 5):
                slider.fill(str(10 * trial + i))
                given[trial, "ABCDEF"[i]] = 10 * trial + i
            loud[trial, "ABCDEF"[i]] = levels[i + 1]
        page.click("#blind .play")
        if trial == 1:
            page.click("#next")
    page.click("#previous")  # and back: nothing is forgotten
    assert page.locator(".stimuli output").all_inner_texts() == [str(10 + i) for i in range(6)]
    assert page.locator("#status").inner_text() == "11 of 12 rated"
    with page.expect_download() as download:
        page.click("#save-answers")
    assert re.fullmatch(r"listening-L-07-\d+\.json", download.value.suggested_filename)
    saved = json.loads(download.value.path().read_text())
    assert saved["listener"] == "L 07" and saved["format"] == "pcodec-listening/1"
    assert len(saved["answers"]) == 12 and isinstance(saved["seed"], int)
    document = json.loads(measured.read_bytes())
    for answer in saved["answers"]:
        key = answer["trial"], answer["letter"]
        assert answer["score"] == given.get(key)
        assert (answer["rated"] is None) == (key not in given)
        # What was heard under the letter is what the answers say.
        file = next(f for f in document["files"] if f["name"] == answer["file"])
        audio = {n: measured.parent / p for n, p in file["samples"]["codecs"].items()}
        reference, _ = soundfile.read(measured.parent / file["samples"]["reference"])
        known = {n: soundfile.read(p)[0].std() for n, p in audio.items()}
        known |= {"reference": reference.std(), "anchor": sound.low_pass(reference).std()}
        assert min(known, key=lambda n: abs(known[n] - loud[key])) == answer["codec"]
    for trial in (1, 2):
        letters = [a for a in saved["answers"] if a["trial"] == trial]
        assert {a["codec"] for a in letters} == {*VOLUMES, "reference", "anchor"}
    page.click("#leave")
    assert page.locator("#open").is_visible() and not page.locator("#blind").is_visible()


@in_a_browser
def test_a_listener_who_comes_back_finds_the_scores_and_the_order(open_page):
    page = open_page()
    page.click("#to-blind")
    page.fill("#listener", "L1")
    page.locator(".stimuli input").nth(2).fill("77")
    page.reload()
    page.click("#to-blind")
    assert page.locator("#listener").input_value() == "L1"
    assert page.locator(".stimuli output").nth(2).inner_text() == "77"


@in_a_browser
def test_the_page_never_scrolls_sideways(open_page):
    page = open_page(width=360)

    def fits():
        for width in (360, 768):
            page.set_viewport_size({"width": width, "height": 800})
            if page.evaluate("document.documentElement.scrollWidth") != width:
                return False
        return True

    assert fits()
    assert page.evaluate("(b => b.scrollWidth > b.clientWidth)(document.querySelector('.scroll'))")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for box in page.get_by_text("all pictures").all():
        box.click()
    assert fits()
    page.click("#to-blind")
    assert fits()


@in_a_browser
def test_dark_is_dark_and_text_stands_out_in_both(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        style = page.evaluate(
            "(() => { const s = getComputedStyle(document.body), r = getComputedStyle(document"
            ".documentElement); return [s.backgroundColor, s.color, ...['--soft', '--accent', "
            "...[0,1,2,3,4,5,6,7].map((i) => `--f${i}`)].map((n) => r.getPropertyValue(n))]; })()"
        )
        back, *fronts = map(luminance, style)
        assert (back < 0.05) == (scheme == "dark")
        for front in fronts:
            low, high = sorted((back, front))
            assert (high + 0.05) / (low + 0.05) > 4.5  # WCAG AA


def luminance(colour):
    parts = re.findall(r"\d+", colour) if colour.startswith("rgb") else bytes.fromhex(colour[1:])
    linear = [c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in
              (int(p) / 255 for p in parts)]  # fmt: skip
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@in_a_browser
def test_on_paper_everything_is_open_and_nothing_to_press(page):
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("#sample-0 .track:visible").count() == 5
    assert not page.locator(".transport:visible, .choice:visible, #to-blind:visible").count()
    assert page.get_by_text("What MCD is.").is_visible()
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert luminance(back) > 0.9
    page.evaluate("dispatchEvent(new Event('afterprint'))")


@in_a_browser
def test_without_scripts_there_is_all_to_read_and_to_hear(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#sample-0 audio[controls]:visible").count() == 5
    assert page.locator("#sample-0 .track:visible").count() == 5
    assert not page.locator("button:visible:not(.sort)").count()


@in_a_browser
def test_everything_to_press_has_a_name(page):
    nameless = """[...document.querySelectorAll('button, input, img, svg[role=img], [role=region]')]
      .filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.alt
        || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length))
      .map((e) => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(nameless) == []
    page.click("#to-blind")
    assert page.evaluate(nameless) == []
    page.click("#leave")
