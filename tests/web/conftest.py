import os
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parent.parent.parent / "web"


@pytest.fixture(scope="session")
def packages():
    """The packages of web/package-lock.json."""
    if shutil.which("node") is None:
        pytest.skip("needs Node")
    if not (WEB / "node_modules" / "onnxruntime-web").exists():
        pytest.skip("needs the packages of web/: run `npm ci` there")


@pytest.fixture(scope="session")
def graphs(packages, tmp_path_factory):
    """The folder of the exported graphs of the shipped model."""
    from pcodec import models
    from pcodec.graphs.export import export

    folder = tmp_path_factory.mktemp("graphs")
    export(models.find(None), folder)
    return folder


@pytest.fixture(scope="session")
def dist(graphs, tmp_path_factory):
    """The folder of the built page."""
    folder = tmp_path_factory.mktemp("page") / "dist"
    run = ["node", WEB / "build.js", graphs, folder]
    done = subprocess.run(run, capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    return folder
