"""A run in bfloat16 with float32 master weights learns what one in float32 learns (row T20 of the fault list)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_runs import Toy, advance, begin, toy_corpus

from yuyan.train import AdamW

STEPS = 200
NEAR = {"gpt": 0.004, "lstm": 0.007}
"""How far the mean loss of ten updates may drift, as a share. Seen were 0.0013 and 0.0041, and 0.011 and 0.010 with masters that
are rounded to bfloat16 after each update. (At larger rates so small a text is learned by heart, along ways that part.)"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_corpus(tmp_path_factory.mktemp("toy") / "shards")


def losses(toy: Toy, model: str, dtype: torch.dtype) -> np.ndarray:
    """Of each update; nothing is dropped."""
    state = begin(toy, model, dtype, optimizer=AdamW(lr=5e-4))
    state.learner.eval()
    return np.array([update.loss for update in advance(state, STEPS, STEPS)])


@pytest.mark.parametrize("model", NEAR)
def test_two_hundred_updates_stay_together(toy: Toy, model: str) -> None:
    exact, fast = (losses(toy, model, dtype).reshape(-1, 10).mean(1) for dtype in (torch.float32, torch.bfloat16))
    assert exact[-1] < 0.9 * exact[0]  # something was learned
    assert not np.array_equal(exact, fast)
    drift = np.abs(fast / exact - 1)
    assert drift.max() < NEAR[model]
