"""The public port: what is served there, and the two thin forms of it that share one proxy."""
