"""``switchboard export``: the log of decisions with their ratings, as JSON lines."""
