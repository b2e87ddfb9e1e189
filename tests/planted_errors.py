"""A suite that cannot fail is no test: one-line errors are planted in a copy of the package, and tests must notice.

    python tests/planted_errors.py            # all of them, some minutes
    python tests/planted_errors.py bos rotary # those whose names hold one of the words

`tests/test_planted_errors.py` checks that every error can still be planted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Planted(NamedTuple):
    """In `file` of the package, `right` becomes `wrong`; some test in `tests` must then fail."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


RESUME, CUT = "laws/test_resume.py", "laws/test_cut.py"
PARITY = "parity/test_transformers.py"
ERRORS = [
    Planted("mean of means", "train/step.py", "loss.total.sum().backward()", "(loss.total.sum() / loss.count.sum()).backward()", (CUT,)),
    Planted("gradients of the last micro-batch only", "train/precision.py", "master.grad += working.grad", "master.grad = working.grad.float()", (CUT, "units/train")),
    Planted("optimizer forgotten", "train/state.py", "for key, tensor in tensors.items() if key.startswith(prefix)", "for key, tensor in tensors.items() if key.startswith(prefix) and key.endswith('step')", (RESUME,)),
    Planted("random state forgotten", "train/state.py", 'torch.set_rng_state(tensors["random/cpu"])', "pass", (RESUME,)),
    Planted("data position off by one", "corpus/batch.py", 'self._consumed = int(state["rows"])', 'self._consumed = int(state["rows"]) + 1', (RESUME, "laws/test_order.py")),
    Planted("manifest not checked", "store.py", "if (found := sha256(file)) != digest:", "if (found := sha256(file)) != digest and False:", ("units/test_store.py",)),
    Planted("causal mask off by one", "nn/mask.py", "return key <= query\n", "return key <= query + 1\n", ("units/nn/test_formulas.py",)),
    Planted("blocked mask off by one", "nn/attend.py", ".triu(1)", ".triu(2)", ("units/nn/test_attend.py",)),
    Planted("rotary sign", "nn/rotary.py", "(heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin)", "(heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin, value=-1)", ("units/nn/test_formulas.py", "units/nn/test_fast_paths.py")),
    Planted("wrong GELU", "nn/ffn.py", '"gelu": F.gelu,', '"gelu": gelu_tanh,', ("units/nn/test_formulas.py", PARITY)),
    Planted("norm on the wrong side", "nn/residual.py", "x + self.dropout(self.inner(self.norm(x), *args))", "self.norm(x) + self.dropout(self.inner(self.norm(x), *args))", ("units/nn/test_formulas.py",)),
    Planted("ignored labels scored", "nn/linear_cross_entropy.py", "d_scores *= (scored if scale is None else scored * scale[part])[:, None]", "d_scores *= 1.0 if scale is None else scale[part][:, None]", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("labels not shifted", "objectives/next_token.py", '"labels": item[1:]', '"labels": item[:-1]', ("units/objectives", "contracts/test_objectives.py")),
    Planted("bos scored", "evaluate/likelihood.py", "-total(each[a + 1 : b])", "-total(each[a:b])", ("units/evaluate", "laws/test_same_everywhere.py")),
    Planted("window scores a token twice", "evaluate/likelihood.py", "_Window(document, stop - context, stop, scored_from - (stop - context))", "_Window(document, stop - context, stop, scored_from - (stop - context) - 1)", ("units/evaluate",)),
    Planted("Kneser-Ney discount", "models/kneser_ney.py", "2 - 3 * y * n3 / n2", "2 - 2 * y * n3 / n2", ("units/models/test_ngram.py",)),
    Planted("top-p drops the token that reaches p", "generate/sampling.py", "before >= p", "before >= p - 0.2", ("units/generate/test_sampling.py",)),
    Planted("warm-up forgotten", "train/schedule.py", "return 1.0 if progress >= warmup else progress / warmup", "return 1.0", ("units/train/test_schedule.py",)),
    Planted("unknown keys allowed", "config.py", 'extra="forbid"', 'extra="ignore"', ("units/test_config.py",)),
    Planted("an import that points up", "nn/norm.py", "from yuyan.config import Config", "from yuyan.config import Config\nfrom yuyan.train import schedule as _up  # noqa: F401", ("test_layers.py",)),
]  # fmt: skip


def plant(error: Planted, package: Path) -> None:
    """Change the file in `package`. Raises ValueError if the right line is not there exactly once."""
    file = package / error.file
    text = file.read_text(encoding="utf-8")
    if text.count(error.right) != 1:
        raise ValueError(f"{error.name}: {error.file} holds {error.right!r} {text.count(error.right)} times, not once")
    file.write_text(text.replace(error.right, error.wrong), encoding="utf-8")


def caught(error: Planted) -> bool:
    """Whether a named test fails once the error is planted in a copy of the project."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for name in ("yuyan", "tests", "configs", "bench", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "README.zh.md"):
            shutil.copy(ROOT / name, copy / name)
        plant(error, copy / "yuyan")
        tests = [str(copy / "tests" / name) for name in error.tests if (copy / "tests" / name).exists()]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode == 1


def main() -> None:
    """Plant what was asked for, one after the other; exit 1 if one goes unnoticed."""
    chosen = [e for e in ERRORS if not sys.argv[1:] or any(word in e.name for word in sys.argv[1:])]
    missed = []
    for error in chosen:
        found = caught(error)
        print(f"{'caught' if found else 'MISSED'}  {error.name}", flush=True)
        missed += [] if found else [error.name]
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
