"""What the benchmark of live choices is made of."""
