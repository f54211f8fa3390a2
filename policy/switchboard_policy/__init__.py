"""The pure middle of Switchboard: what was said, what it means, and how it is written down."""
