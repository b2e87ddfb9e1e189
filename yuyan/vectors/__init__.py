"""Word vectors: skip-gram, CBOW (by negatives or a tree), subwords, GloVe; their files, their neighbours and analogies.

`fit` loads the compiler, which takes a second; so it is imported from `yuyan.vectors.train` where it is needed.
"""

from yuyan.vectors.folder import load_vectors, save_vectors
from yuyan.vectors.settings import Cbow, Glove, Negatives, SkipGram, Subwords, Tree, VectorsConfig
from yuyan.vectors.space import Vectors
from yuyan.vectors.word2vec import read_word2vec, write_word2vec

__all__ = [
    "Cbow",
    "Glove",
    "Negatives",
    "SkipGram",
    "Subwords",
    "Tree",
    "Vectors",
    "VectorsConfig",
    "load_vectors",
    "read_word2vec",
    "save_vectors",
    "write_word2vec",
]
