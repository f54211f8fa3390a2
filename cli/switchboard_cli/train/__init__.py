"""``switchboard train``: fits a router to recorded outcomes, says how good it is, writes it."""
