"""What a model is worth on held-out text, and the pages and tables that say so."""
