"""Where compiled policy comes from: Redis, the in-process store, the last good snapshot on disk."""
