"""The adaptive softmax against its formula, PyTorch's own, and the rules of a probability."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from yuyan.config import build
from yuyan.errors import ConfigError, InputError
from yuyan.models.classic import Lstm
from yuyan.models.cost import flops_per_token, parameter_count
from yuyan.nn.head import AdaptiveHead, AdaptiveHeadModule
from yuyan.nn.linear_cross_entropy import IGNORE, PLAIN, CrossEntropy
from yuyan.nn.sampled_softmax import SampledSoftmax
from yuyan.objectives import Distil, NextToken, ObjectiveConfig
from yuyan.objectives.fit import check_network

WORDS, WIDTH, CUTOFFS = 30, 12, (4, 11)


def head() -> AdaptiveHeadModule:
    torch.manual_seed(0)
    made = AdaptiveHead(cutoffs=CUTOFFS, reduction=2).build(WORDS, WIDTH, WIDTH)
    assert isinstance(made, AdaptiveHeadModule)
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return made


def texts() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    labels = torch.randint(0, WORDS, (40,))
    labels[7] = IGNORE
    return torch.randn(40, WIDTH), labels


def test_nothing_to_score() -> None:
    made = head()
    losses = made.token_losses(torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.int64), torch.empty(0), PLAIN)
    assert losses.shape == (0,)
    losses.sum().backward()


def test_the_formula_written_out() -> None:
    """p(w) = p(w | first) for a likely word, else p(class | first) p(w | class), each a softmax (Grave et al. 2017, section 4)."""
    made, (hidden, labels) = head(), texts()
    losses = made.token_losses(hidden, labels, torch.empty(0), PLAIN)
    for x, y, loss in zip(hidden, labels.tolist(), losses, strict=True):
        if y == IGNORE:
            assert loss == 0
            continue
        first = torch.softmax(made.first.weight @ x, 0)
        if y < 4:
            p = first[y]
        else:
            number = 0 if y < 11 else 1
            inside = torch.softmax(made.classes[number].weight @ (made.narrow[number].weight @ x), 0)
            p = first[4 + number] * inside[y - CUTOFFS[number]]
        torch.testing.assert_close(loss, -p.log())


def test_scores_are_probabilities_of_all_words_and_agree_with_the_losses() -> None:
    made, (hidden, labels) = head(), texts()
    scores = made.scores(hidden, torch.empty(0))
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(40))
    known = labels != IGNORE
    losses = made.token_losses(hidden, labels, torch.empty(0), PLAIN)
    torch.testing.assert_close(losses[known], -scores[known].gather(1, labels[known, None])[:, 0])


def test_it_is_what_pytorch_has_with_its_gradients() -> None:
    made, (hidden, labels) = head(), texts()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(WIDTH, WORDS, list(CUTOFFS), div_value=2.0)
    with torch.no_grad():
        theirs.head.weight.copy_(made.first.weight)
        for number, part in enumerate(theirs.tail):
            part[0].weight.copy_(made.narrow[number].weight)  # type: ignore[index, operator]
            part[1].weight.copy_(made.classes[number].weight)  # type: ignore[index, operator]
    known = labels != IGNORE
    expected = -theirs(hidden[known], labels[known]).output
    found = made.token_losses(hidden, labels, torch.empty(0), PLAIN)
    torch.testing.assert_close(found[known], expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(made.first.weight.grad, theirs.head.weight.grad)
    torch.testing.assert_close(made.narrow[1].weight.grad, theirs.tail[1][0].weight.grad)  # type: ignore[index, union-attr]
    torch.testing.assert_close(made.classes[1].weight.grad, theirs.tail[1][1].weight.grad)  # type: ignore[index, union-attr]


def test_a_batch_without_rare_words_leaves_no_parameter_without_a_gradient() -> None:
    made, (hidden, _) = head(), texts()
    made.token_losses(hidden, torch.zeros(40, dtype=torch.long), torch.empty(0), PLAIN).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_counts_are_those_of_the_network() -> None:
    network = Lstm(hidden_size=24, classes=AdaptiveHead(cutoffs=(10, 20))).network(WORDS)
    made = network.build(0)
    assert parameter_count(network) == sum(p.numel() for p in made.parameters())
    assert flops_per_token(network, 16) > 2 * sum(p.numel() for p in made.head.parameters())


@pytest.mark.parametrize("cutoffs", [(11, 4), (4, 4), (30,), (40,)])
def test_cutoffs_ascend_below_the_vocabulary(cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"cutoffs.*30"):
        Lstm(classes=AdaptiveHead(cutoffs=cutoffs)).network(WORDS).build(0)
    with pytest.raises(ConfigError):
        build(AdaptiveHead, {"cutoffs": [0]})


def test_it_has_no_one_last_product_and_no_smoothing() -> None:
    made, (hidden, labels) = head(), texts()
    with pytest.raises(InputError, match="language_model"):
        made.output_projection(torch.empty(0))
    with pytest.raises(InputError, match="label_smoothing"):
        made.token_losses(hidden, labels, torch.empty(0), CrossEntropy(label_smoothing=0.1))


@pytest.mark.parametrize(
    ("objective", "key"),
    [
        (NextToken(softmax=SampledSoftmax()), "softmax"),
        (NextToken(cross_entropy=CrossEntropy(z_loss=1e-4)), "cross_entropy"),
        (Distil(base=NextToken(), teacher=Path("teacher")), "kind"),
    ],
)
def test_what_needs_one_product_is_refused_before_any_work(objective: ObjectiveConfig, key: str) -> None:
    network = Lstm(hidden_size=8, classes=AdaptiveHead(cutoffs=(4,))).network(WORDS)
    check_network(NextToken(), network)
    with pytest.raises(ConfigError, match=rf"objective\.{key}: not with a head of classes"):
        check_network(objective, network)
