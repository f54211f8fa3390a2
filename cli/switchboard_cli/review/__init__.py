"""What a change of policies does: ``switchboard diff``; what a set would do: ``simulate``."""
