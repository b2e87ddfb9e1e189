"""What a run says to try next: something that its model can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from yuyan.commands.outcome import Trained, next_command
from yuyan.evaluate.held_out import HeldOut


@pytest.mark.parametrize(
    ("measure", "prompt", "writes", "command"),
    [
        ("masked_token_loss", "The sun was", False, "yuyan fill runs/a 'The sun was ___'"),
        ("masked_token_loss", "小明在河边", False, "yuyan fill runs/a '小明在河边___'"),
        ("replaced_token_loss", "The sun was", False, "yuyan evaluate runs/a MORE-DATA"),
        ("span_corruption_loss", "The sun was", True, "yuyan fill runs/a 'The sun was ___'"),
        ("bits_per_byte", "The sun was", True, "yuyan generate runs/a 'The sun was'"),
    ],
)
def test_the_next_command(measure: str, prompt: str, writes: bool, command: str) -> None:
    score = HeldOut(measure=measure, value=1.0, interval=(0.9, 1.1), others={}, unit="tokens", counted=10, examples=2)
    made = Trained(Path("runs/a"), score, None, 1, 1, 1.0, 1.0, "tokens", writes, prompt, [])
    assert next_command(made) == command
