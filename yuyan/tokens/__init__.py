"""From text to tokens and back: `Tokenizer`, `load_tokenizer`, `train_tokenizer`, `TokenizerConfig`, `TextStream`, `Special`."""

from yuyan.tokens.special import Special
from yuyan.tokens.stream import TextStream
from yuyan.tokens.tokenizer import Tokenizer, load_tokenizer
from yuyan.tokens.train import TokenizerConfig, train_tokenizer

__all__ = ["Special", "TextStream", "Tokenizer", "TokenizerConfig", "load_tokenizer", "train_tokenizer"]
