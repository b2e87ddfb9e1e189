"""yuyan: from raw text to a language model that works at your task."""
