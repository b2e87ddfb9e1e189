"""From scores to text."""

from yuyan.generate.engine import Decoder, Done, Token, generate
from yuyan.generate.sampling import Sampling

__all__ = ["Decoder", "Done", "Sampling", "Token", "generate"]
