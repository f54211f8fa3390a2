"""What is read of the API server's long answers, and no more.

The greater part of an object is ``managedFields``, which nobody asks for here: to make objects of
it took as long as all else that is done with a list.
"""

from typing import Any, Final, Required, TypedDict

import msgspec

from switchboard_operator.resources import Listed
from switchboard_policy.compiler.world import Name


class Meta(TypedDict, total=False):
    """An object's metadata."""

    namespace: str
    name: Required[str]
    uid: Required[str]
    resourceVersion: Required[str]
    generation: int
    creationTimestamp: str | None
    labels: dict[str, str] | None
    ownerReferences: list[dict[str, Any]] | None


class Object(TypedDict, total=False):
    """An object of any kind that is listed, or whose status is written."""

    metadata: Required[Meta]
    spec: Any
    status: Any
    data: Any
    addressType: Any
    endpoints: Any
    ports: Any


class _Continued(msgspec.Struct, rename={"continued": "continue"}):
    continued: str = ""


class Page(msgspec.Struct):
    """A page of a list."""

    metadata: _Continued
    items: list[Object] | None = None


class _Meta(msgspec.Struct, rename={"version": "resourceVersion"}):
    name: str
    uid: str
    version: str
    namespace: str = ""


class _Named(msgspec.Struct):
    metadata: _Meta


class _Version(msgspec.Struct, rename={"version": "resourceVersion"}):
    version: str


class Names(msgspec.Struct):
    """A list of objects, by their metadata alone."""

    metadata: _Version
    items: list[_Named] | None = None

    def listed(self) -> list[Listed]:
        """Return every object's name, uid and version."""
        found = [item.metadata for item in self.items or ()]
        return [
            Listed(Name(each.namespace, each.name), each.uid, int(each.version)) for each in found
        ]


OBJECT: Final = msgspec.json.Decoder(Object)
PAGE: Final = msgspec.json.Decoder(Page)
NAMES: Final = msgspec.json.Decoder(Names)
