"""``switchboard report``: compares the arms of a policy by what its log of decisions says."""
