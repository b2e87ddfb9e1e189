"""Model folders of Hugging Face's layout and ours: `read_model`, `write_model`, `family_of`; adapters in PEFT's format."""

from yuyan.hub.families import family_of
from yuyan.hub.files import read_config, read_model, write_model
from yuyan.hub.peft import Base, base_of, read_adapter, write_adapter

__all__ = [
    "Base",
    "base_of",
    "family_of",
    "read_adapter",
    "read_config",
    "read_model",
    "write_adapter",
    "write_model",
]
