"""What is learned about models: artifacts, predictions, thresholds, neighbours. Pure; no I/O."""
