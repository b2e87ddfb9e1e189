"""Several processes of a test, on this machine: forked from one that has imported everything, each with its rank.

    python tests/processes.py OUT 2 toy_processes.trained '{"model": "gpt"}'

calls `trained(world-size-2 world, model="gpt")` in two processes; each writes what it returns to OUT/<rank>.json.
Exit codes are the last line of standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Ended(NamedTuple):
    """Exit codes by rank, what was returned (None by a process that failed), and what was said."""

    codes: list[int]
    results: list[Any]
    said: str


def together(out: Path, size: int, work: str, **arguments: object) -> Ended:
    """`work`, a function `module.name` of the tests, in `size` processes."""
    return all_together(out, [(size, work, arguments)])[0]


def all_together(out: Path, jobs: Sequence[tuple[int, str, dict[str, Any]]], timeout: float = 600) -> list[Ended]:
    """Several such jobs, one after the other; the interpreter starts but once."""
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), str(out), json.dumps(jobs)],
        capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    ended = []
    for number, (size, _, _) in enumerate(jobs):
        files = [out / f"{number}.{rank}.json" for rank in range(size)]
        codes = json.loads(done.stdout.splitlines()[number])
        ended.append(Ended(codes, [json.loads(f.read_text()) if f.exists() else None for f in files], done.stderr))
    return ended


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _child(out: Path, number: int, rank: int, size: int, port: int, work: str, arguments: dict[str, Any]) -> int:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    module, _, name = work.rpartition(".")
    result = getattr(importlib.import_module(module), name)(**arguments)
    (out / f"{number}.{rank}.json").write_text(json.dumps(result))
    return 0


def _main(out: Path, jobs: list[tuple[int, str, dict[str, Any]]]) -> None:
    for number, (size, work, arguments) in enumerate(jobs):
        importlib.import_module(work.rpartition(".")[0])
        port, children = free_port(), []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                try:
                    code = _child(out, number, rank, size, port, work, arguments)
                except SystemExit as error:
                    code = int(error.code or 0)
                except BaseException as error:
                    traceback.print_exc()
                    print(f"rank {rank}: {error}", file=sys.stderr)
                    code = getattr(error, "exit_code", 70)
                sys.stderr.flush()
                os._exit(code)
            children.append(child)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    import torch

    torch.set_num_threads(1)
    _main(Path(sys.argv[1]), json.loads(sys.argv[2]))
