"""Sends an attempt to one endpoint and names whatever goes wrong with it."""
