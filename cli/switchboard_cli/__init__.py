"""The command line: one entry for both planes and the tools around them."""
