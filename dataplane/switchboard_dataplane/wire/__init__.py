"""The OpenAI dialect on the wire: requests, event streams, error bodies."""
