"""Everything works on a machine without a network: in these processes opening a connection or asking for a name is an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import CONFIG, SETTINGS, STORIES

BLOCK = """
import socket

def refuse(*arguments, **options):
    raise RuntimeError(f"the network was asked for: {arguments}")

class Blocked(socket.socket):
    connect = connect_ex = sendto = bind = refuse

socket.socket = socket.SocketType = Blocked
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = socket.gethostbyname_ex = refuse
"""
QUICK_START = """
import sys
from yuyan.cli import main

def yuyan(*words):
    sys.argv = ["yuyan", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code

config, text, out, rungs, *settings = sys.argv[1:]
yuyan("train", config, *settings, "--out", out + "/run")
yuyan("generate", out + "/run", "Anna", "--max-tokens", "5")
yuyan("evaluate", out + "/run", text)
yuyan("ladder", text, "--rungs", rungs, "--budget", "10s", "--out", out + "/ladder")
yuyan("generate", out + "/ladder/rungs/kn3", "Anna", "--max-tokens", "5")
yuyan("data", text)
"""


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process begins by giving up its sockets."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join([str(tmp_path / "blocked"), *(entry for entry in sys.path if entry)])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "0"}


def test_the_block_blocks(offline: dict[str, str]) -> None:
    for code in (
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.socket().connect(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
    ):
        done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, timeout=300)
        assert "the network was asked for" in done.stderr


def quick_start(folder: Path, environment: dict[str, str], rungs: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUICK_START, str(CONFIG), str(STORIES), str(folder), rungs, *SETTINGS],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ladder = json.loads((folder / "ladder" / "ladder.json").read_text())
    assert [rung["name"] for rung in ladder["rungs"]] == rungs.split(",")
    assert "http://" not in (page := (folder / "ladder" / "report.html").read_text()).replace("http://www.w3.org/", "")
    assert "https://" not in page, "the report needs no network either"


def test_the_quick_start(tmp_path: Path, offline: dict[str, str]) -> None:
    quick_start(tmp_path, offline, "unigram,kn3")


@pytest.mark.slow
def test_the_quick_start_with_a_network_of_neurons(tmp_path: Path, offline: dict[str, str]) -> None:
    quick_start(tmp_path, offline, "unigram,kn3,gpt")
