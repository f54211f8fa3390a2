"""What was decided and what came of it: the log of decisions, their ratings, who learns of them."""
