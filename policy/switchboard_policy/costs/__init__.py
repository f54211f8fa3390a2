"""What a condition may cost: a bound that is known when it is compiled, in nanoseconds.

Whoever writes policies has conditions run over texts of callers, in the process that routes for
everybody. So each condition is told by its tree how long it takes at worst for each character of
the texts that it reads, and is not evaluated where that comes to more than a request has.
"""
