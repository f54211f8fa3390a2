"""Who calls: a request's headers and its peer become a client, or a refusal."""
