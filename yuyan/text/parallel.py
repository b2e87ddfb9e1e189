"""Several processes that clean batches, in order and without surprises.

A worker is `worker.py` run by the same Python: it reads a batch from its standard input, cleans it, and writes the
result to its standard output. So nothing depends on how the caller was started (a script, a notebook, an interpreter),
nothing is pickled, and libraries with threads of their own are never forked. Results come back in the order of the
batches, whatever the number of workers.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import IO

from yuyan.config import dump
from yuyan.errors import YuyanError
from yuyan.text.clean import Cleaned, clean_batch, pack_batch, unpack_cleaned
from yuyan.text.document import Document
from yuyan.text.settings import CleanConfig

_LENGTH = struct.Struct("<Q")


def clean_all(
    batches: Iterable[Sequence[Document]], config: CleanConfig, *, seed: int, drop: bool, processes: int
) -> Iterator[Cleaned]:
    """Each batch cleaned, in order. At most two batches a process are held. Raises YuyanError if a process dies."""
    if processes == 1 or not sys.executable:
        yield from (clean_batch(batch, config, seed=seed, drop=drop) for batch in batches)
        return
    with _Workers(config, seed=seed, drop=drop, processes=processes) as workers:
        waiting: deque[Future[Cleaned]] = deque()
        for batch in batches:
            waiting.append(workers.submit(batch))
            if len(waiting) >= 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Workers:
    """The processes, and a thread for each that talks to it."""

    def __init__(self, config: CleanConfig, *, seed: int, drop: bool, processes: int):
        order = json.dumps({"config": dump(config), "seed": seed, "drop": drop})
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "yuyan.text.worker", order]
        self.processes: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(processes):
                self.processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                        start_new_session=True,  # Ctrl-C is the caller's to handle
                    )
                )  # fmt: skip
        except BaseException:
            self._end(kill=True)
            raise
        self.idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self.processes:
            self.idle.put(process)
        self.threads = ThreadPoolExecutor(processes)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            for process in self.processes:
                process.kill()  # a thread that waits for it wakes up with the end of its output
        self.threads.shutdown(cancel_futures=True)
        self._end(kill=kind is not None)

    def _end(self, *, kill: bool) -> None:
        for process in self.processes:
            if kill:
                process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            process.wait()

    def submit(self, batch: Sequence[Document]) -> Future[Cleaned]:
        return self.threads.submit(self._ask, batch)

    def _ask(self, batch: Sequence[Document]) -> Cleaned:
        process = self.idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            send(process.stdin, [pack_batch(batch)])
            answer = receive(process.stdout)
        except BrokenPipeError:
            answer = None
        finally:
            self.idle.put(process)  # a dead one too: whoever waits for it must wake up
        if answer is None:
            code = process.wait()
            why = "killed, perhaps for want of memory" if code < 0 else f"exit code {code}"
            raise YuyanError(f"a cleaning process ended early ({why}); try data.processes=1")
        return unpack_cleaned(answer)


def send(pipe: IO[bytes], pieces: Sequence[bytes]) -> None:
    """Write one message: pieces of bytes, their lengths before them."""
    pipe.write(_LENGTH.pack(len(pieces)) + b"".join(_LENGTH.pack(len(piece)) for piece in pieces))
    for piece in pieces:
        pipe.write(piece)
    pipe.flush()


def receive(pipe: IO[bytes]) -> list[bytes] | None:
    """The pieces of a message, or None if the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    lengths = pipe.read(_LENGTH.size * _LENGTH.unpack(head)[0])
    pieces = [pipe.read(length) for (length,) in _LENGTH.iter_unpack(lengths)]
    complete = all(len(piece) == length for piece, (length,) in zip(pieces, _LENGTH.iter_unpack(lengths), strict=True))
    return pieces if complete else None
