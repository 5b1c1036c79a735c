"""The npm package as its users get it."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

import pcodec

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "web"


def run(*command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(web_graphs, tmp_path_factory):
    """A folder in which the packed package is installed."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    work = tmp_path_factory.mktemp("package")
    source, target = work / "web", work / "user" / "node_modules"
    left = shutil.ignore_patterns("node_modules", "dist", "graphs", "types")
    shutil.copytree(WEB, source, ignore=left)
    shutil.copytree(web_graphs, source / "graphs")
    shutil.copy(WEB.parent / "LICENSE", work)
    (source / "node_modules").symlink_to(WEB / "node_modules")
    (packed,) = json.loads(run("npm", "pack", "--json", cwd=source))
    with tarfile.open(source / packed["filename"]) as archive:
        archive.extractall(target, filter="data")
    (target / "package").rename(target / "pcodec-speech")
    for other in (WEB / "node_modules").iterdir():
        if not other.name.startswith("."):
            (target / other.name).symlink_to(other)
    return work / "user"


def test_the_package_says_the_version_of_python():
    about = json.loads((WEB / "package.json").read_text())
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert about["version"] == lock["version"] == pcodec.__version__
    pinned = {**about["dependencies"], **about["devDependencies"]}
    assert all(version[0].isdigit() for version in pinned.values())


def test_the_policy_that_the_docs_give_to_servers_is_that_of_the_page():
    page = (WEB / "page" / "index.html").read_text()
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]+)"', page)
    docs = (WEB.parent / "docs" / "howto" / "web.md").read_text()
    assert f'add_header Content-Security-Policy "{policy}";' in docs


def test_what_the_readme_shows_runs_and_gives_what_python_gives(installed, coded, speech):
    (installed / "speech.pcx").write_bytes(coded)
    (installed / "use.mjs").write_text(
        """
        import { readFile, writeFile } from "node:fs/promises";
        import { decode, encode } from "pcodec-speech";

        const { samples, rate } = await decode(await readFile("speech.pcx"));
        await writeFile("speech.f32", samples);
        await writeFile("again.pcx", new Uint8Array(await encode(samples, rate)));
        """
    )
    run("node", "use.mjs", cwd=installed)
    samples = np.fromfile(installed / "speech.f32", np.float32)
    assert len(samples) == len(speech)
    assert (installed / "again.pcx").read_bytes() == pcodec.encode(samples, 16000)


def test_a_package_whose_files_could_not_be_read_reads_them_at_the_next_call(installed, coded):
    (installed / "speech.pcx").write_bytes(coded)
    (installed / "again.mjs").write_text(
        """
        import { readFile, rename } from "node:fs/promises";
        import { decode } from "pcodec-speech";

        const graphs = "node_modules/pcodec-speech/graphs";
        const speech = await readFile("speech.pcx");
        await rename(graphs, "away");
        console.log(await decode(speech).catch((error) => `${error.name}: ${error.message}`));
        await rename("away", graphs);
        console.log((await decode(speech)).samples.length);
        """
    )
    missing, length = run("node", "again.mjs", cwd=installed).splitlines()
    assert missing.startswith("PcodecError: file:///") and "pcodec.json: ENOENT" in missing
    assert int(length) > 70000


def test_the_package_has_its_licence_and_types_that_a_strict_program_can_use(installed):
    package = installed / "node_modules" / "pcodec-speech"
    assert "Apache License" in (package / "LICENSE").read_text()
    (installed / "use.ts").write_text(
        """
        import { decode, load, type Codec } from "pcodec-speech";
        const codec: Codec = await load({ graphs: "https://example.org/graphs/" });
        const column: Float32Array = await codec.streamDecoder().push([1, 2, 3]);
        const { samples, rate, damages } = await decode(new ArrayBuffer(3));
        const all: [Float32Array, Float32Array, number, string] = [
          column, samples, rate, damages[0].reason,
        ];
        // @ts-expect-error a file is no array of numbers
        await decode([1, 2, 3]);
        export default all;
        """
    )
    options = ["--strict", "--noEmit", "--skipLibCheck", "--target", "es2022", "--types", ""]
    options += ["--module", "esnext", "--moduleResolution", "bundler"]
    run("node", WEB / "node_modules/typescript/bin/tsc", *options, "use.ts", cwd=installed)


def test_a_folder_that_is_no_page_is_not_replaced(web_packages, tmp_path):
    graphs, out = tmp_path / "graphs", tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("of years")
    run_build = ["node", WEB / "build.js", graphs, out]
    assert subprocess.run(run_build, capture_output=True).returncode != 0  # no graphs
    graphs.mkdir()
    (graphs / "pcodec.json").write_text("{}")
    done = subprocess.run(run_build, capture_output=True, text=True)
    wanted = f"{out}: holds something else than a page; name a new or empty folder\n"
    assert (done.returncode, done.stderr) == (1, wanted)
    assert (out / "thesis.txt").read_text() == "of years"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_the_player_begins_when_enough_is_there_and_says_when_it_ran_dry():
    result = json.loads(run("node", HERE / "play.js"))
    silence, played = [0] * 256, result["played"]
    assert played[:256] == silence
    assert played[256:556] == list(range(1, 301))
    # Two blocks and a part of the third were there; it waits until there is enough again.
    assert not any(played[556:768])
    assert played[768:1152] == [*range(301, 601), *[0] * 84]
    # The end of a stream is played, however short, and is not told as running dry.
    assert played[1152:] == [*[0] * 128, *range(601, 651), *[0] * 78]
    assert result["told"] == [{"dry": 1}, {"dry": 2}]
