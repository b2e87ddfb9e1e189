"""From scores to text: strategies (`Greedy`, `Sampling`, `Beam`, `Contrastive`) and the `Engine` that runs them."""

from yuyan.generate.beam import Beam
from yuyan.generate.contrastive import Contrastive
from yuyan.generate.engine import Engine, Request
from yuyan.generate.forward import PlainForward
from yuyan.generate.sampling import Greedy, Sampling
from yuyan.generate.search import Done, Event, Token
from yuyan.generate.strategy import decoding

__all__ = [
    "Beam", "Contrastive", "Done", "Engine", "Event", "Greedy", "PlainForward", "Request", "Sampling", "Token",
    "decoding",
]  # fmt: skip
