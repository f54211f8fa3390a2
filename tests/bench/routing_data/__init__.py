"""What the routing benchmark reads: per-query outcomes of public sets, and their originals."""
