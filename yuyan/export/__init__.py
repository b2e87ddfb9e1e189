"""Other engines' formats, each checked against the engine itself: `export_model`."""

from yuyan.export.export import FORMATS, export_model

__all__ = ["FORMATS", "export_model"]
