"""The pure decision: snapshot, request and signals in; a decision or a rejection out."""
