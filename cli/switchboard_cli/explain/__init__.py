"""``switchboard explain``: why a request goes where it goes, from files or from a live pod."""
