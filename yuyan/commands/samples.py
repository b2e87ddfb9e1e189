"""What a trained model writes: continuations of held-out beginnings, for the reports."""

from __future__ import annotations

from yuyan.commands.corpus import Corpus
from yuyan.generate import Sampling
from yuyan.tasks.language_model import LanguageModel

SAMPLES, SAMPLE_TOKENS = 3, 200


def samples(model: LanguageModel, corpus: Corpus, sampling: Sampling) -> list[dict[str, str]]:
    """Three continuations of the beginnings of held-out documents, the same beginnings for every model of a corpus.

    Their seeds are that of `sampling` and the two after it; a text ends where the model's context does.
    """
    texts = []
    for number, prompt in enumerate(corpus.prompts(SAMPLES)):
        most = sampling.max_tokens or SAMPLE_TOKENS
        room = most if model.context is None else model.context - len(model.tokenizer.encode(prompt))
        chosen = sampling.model_copy(update={"seed": sampling.seed + number, "max_tokens": max(1, min(most, room))})
        texts.append({"prompt": prompt, "text": model.generate(prompt, chosen) if room > 0 else ""})
    return texts
