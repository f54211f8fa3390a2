"""Judging answers: what one says, whether it will do, which of several is best. Pure."""
