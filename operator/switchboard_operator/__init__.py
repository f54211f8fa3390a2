"""The control plane: watches custom resources, compiles them, publishes, and reports what is so."""
