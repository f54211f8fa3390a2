"""What became of each request: outcomes, and the metrics and spans that are made of them."""
