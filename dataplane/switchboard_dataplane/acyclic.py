"""``@mypyc_attr(acyclic=True)``: no object of this class ever refers to itself, by whatever way.

Compiled, such objects are unknown to the garbage collector. Without that a collection looks at
every policy and endpoint that was edited since the start, and holds up the event loop for it. In
plain Python it says nothing.
"""

from typing import TYPE_CHECKING

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_):
        """Leave the class as it is."""
        return lambda kind: kind
