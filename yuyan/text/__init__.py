"""From files to clean documents: read, repair, filter, deduplicate, split, and report what was done."""

from yuyan.text.document import Document, write_documents
from yuyan.text.pipeline import Prepared, open_prepared, prepare
from yuyan.text.read import read_documents
from yuyan.text.report import DataReport
from yuyan.text.settings import CleanConfig, DataConfig
from yuyan.text.split import NoSplit, OrderedSplit, RandomSplit, SplitConfig
from yuyan.text.stdlib import stdlib_documents

__all__ = [
    "CleanConfig",
    "DataConfig",
    "DataReport",
    "Document",
    "NoSplit",
    "OrderedSplit",
    "Prepared",
    "RandomSplit",
    "SplitConfig",
    "open_prepared",
    "prepare",
    "read_documents",
    "stdlib_documents",
    "write_documents",
]
