"""Model folders of Hugging Face's layout and ours: `read_model`, `write_model`, `family_of`."""

from yuyan.hub.families import family_of
from yuyan.hub.files import read_config, read_model, write_model

__all__ = ["family_of", "read_config", "read_model", "write_model"]
