"""What is trained: networks and n-gram models behind the same three methods."""
