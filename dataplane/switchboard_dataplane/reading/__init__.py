"""What is read out of a request beyond its cheap facts: pure, bounded, linear in the text."""
