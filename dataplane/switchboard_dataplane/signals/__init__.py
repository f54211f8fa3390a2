"""What is true now of each endpoint: requests in flight and latency, each with its age."""
