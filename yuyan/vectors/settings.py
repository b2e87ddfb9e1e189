"""What a set of word vectors is made of: the units of the text, the vocabulary, and the model with its numbers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from yuyan.config import Config, Seed


class WordUnits(Config):
    """Words: letters and digits that stand together, in small letters; Chinese as the jieba segmenter cuts it."""

    kind: Literal["words"] = "words"
    lowercase: bool = True
    """Write everything in small letters first."""
    punctuation: bool = False
    """Whether punctuation marks are units too; else they are left out."""


class CharacterUnits(Config):
    """Single characters, without white space: for Chinese poems and other text in which a character is a word."""

    kind: Literal["characters"] = "characters"
    punctuation: bool = False
    """Whether punctuation marks are units too; else they are left out."""


class SpacedUnits(Config):
    """What stands between white space, as it is: for text that was cut into words before."""

    kind: Literal["spaces"] = "spaces"
    lowercase: bool = False
    """Write everything in small letters first."""


Units = Annotated[WordUnits | CharacterUnits | SpacedUnits, Field(discriminator="kind")]


class Subwords(Config):
    """A word's vector is the mean of its own and of those of its character n-grams (Bojanowski et al. 2017)."""

    shortest: int = Field(3, ge=1, le=20)
    """Characters of the shortest n-grams; the word is written between < and >, which count. 1 for Chinese words."""
    longest: int = Field(6, ge=1, le=20)
    """Characters of the longest n-grams."""
    buckets: int = Field(2_000_000, ge=1, lt=2**31)
    """N-grams are told apart by a hash with so many values."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest < self.shortest:
            raise ValueError("longest must not be less than shortest")
        return self


class Negatives(Config):
    """A pair is told from pairs with words that are drawn (Mikolov et al. 2013b, section 2.2)."""

    kind: Literal["negatives"] = "negatives"
    count: int = Field(5, ge=1, le=1000)
    """Words drawn against each word that was there."""
    power: float = Field(0.75, ge=0, le=2)
    """They are drawn by their counts to this power."""


class Tree(Config):
    """Hierarchical softmax: a word is found down a binary tree, the frequent ones near its root (Huffman's)."""

    kind: Literal["tree"] = "tree"


Output = Annotated[Negatives | Tree, Field(discriminator="kind")]


class _Predictive(Config):
    window: int = Field(5, ge=1, le=1000)
    """The farthest word that counts as near; each place draws its reach from 1 to this."""
    output: Output = Negatives()
    """How a word is predicted: against words that are drawn, or down a tree."""
    subsample: float = Field(1e-3, ge=0, le=1)
    """Words with a larger share of the text are thinned out towards it; 0 keeps all."""
    epochs: int = Field(5, ge=1)
    """Passes over the text."""
    subwords: Subwords | None = None
    """Whether words are made of pieces, so that unknown words have vectors too; null for no."""


class SkipGram(_Predictive):
    """A word predicts each word around it (Mikolov et al. 2013b); with `subwords`, fastText's model."""

    kind: Literal["skipgram"] = "skipgram"
    learning_rate: float = Field(0.025, gt=0, le=1)
    """At the start; it falls to a ten-thousandth of itself along a line."""


class Cbow(_Predictive):
    """The words around a place predict the word there (Mikolov et al. 2013a): faster, a little worse for rare words."""

    kind: Literal["cbow"] = "cbow"
    learning_rate: float = Field(0.05, gt=0, le=1)
    """At the start; it falls to a ten-thousandth of itself along a line."""


class Glove(Config):
    """Vectors whose products are the logarithms of how often two words stand together (Pennington et al. 2014)."""

    kind: Literal["glove"] = "glove"
    window: int = Field(10, ge=1, le=1000)
    """The farthest word that counts as near; at distance d it counts 1/d."""
    epochs: int = Field(25, ge=1)
    """Passes over the counts."""
    learning_rate: float = Field(0.1, gt=0, le=1)
    """Of AdaGrad (0.05 in the paper, with more epochs)."""
    most: float = Field(5.0, gt=0)
    """Counts from here on have the full weight (x_max in the paper, 100 there, for billions of words)."""
    power: float = Field(0.75, ge=0, le=2)
    """Smaller counts weigh by their share of `most` to this power."""
    memory_megabytes: int = Field(1000, ge=1)
    """Memory for the counts while they are made and read; more than fits there goes through files."""


VectorModel = Annotated[SkipGram | Cbow | Glove, Field(discriminator="kind")]


class VectorsConfig(Config):
    """A set of word vectors: what a word is, which words count, and how their vectors are found."""

    units: Units = WordUnits()
    """What a word is."""
    min_count: int = Field(5, ge=1)
    """Words that occur less often are left out of the text."""
    max_words: int | None = Field(None, ge=1)
    """At most so many words, the most frequent ones; null for all."""
    dimensions: int = Field(100, ge=1, le=10_000)
    """Numbers of a vector."""
    model: VectorModel = SkipGram()
    """How the vectors are found."""
    seed: Seed = 0
    """Fixes the first vectors and everything drawn."""
    threads: int | None = Field(None, ge=1)
    """Threads to compute with; by default one a core. Only with one are two runs the same, bit for bit."""
