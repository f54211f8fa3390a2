"""The data plane: decides which model answers a request, forwards it, and observes the outcome."""
