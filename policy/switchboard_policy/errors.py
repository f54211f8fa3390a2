"""The exception tree of the policy package.

PolicyError
├─ EntryRefused          an entry from the store that must not be used; the last good stays
│  ├─ UnknownFormat      written by a newer (or much older) operator
│  ├─ DigestMismatch     the bytes are not the ones that the manifest names
│  ├─ BadSignature       not written by a holder of the scope's key
│  ├─ BadSeal            a credential that this key, scope or origin cannot open
│  └─ Malformed          bytes that are no entry
├─ ExpressionError       a CEL expression that does not compile (carries the caret)
└─ Deposed               a newer leader holds the scope: this writer must stop

Problems of custom resources are values in the ``CompileReport``, never exceptions.
"""


class PolicyError(Exception):
    """The root of what this package raises."""


class EntryRefused(PolicyError):
    """An entry from the store must not be used."""


class UnknownFormat(EntryRefused):
    """The entry's format number is not one that this version reads."""


class DigestMismatch(EntryRefused):
    """The bytes do not hash to the digest that names them."""


class BadSignature(EntryRefused):
    """The signature does not belong to these fields under the scope's key."""


class BadSeal(EntryRefused):
    """The sealed credential does not open under this key, scope, backend and origin."""


class Malformed(EntryRefused):
    """The bytes are no entry."""


class ExpressionError(PolicyError):
    """A CEL expression does not compile; the text names the place and the reason."""


class Deposed(PolicyError):
    """A writer with a newer epoch holds the scope.

    ``epoch`` is the one that the store holds.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the store holds epoch {epoch}: another leader has taken over")
        self.epoch = epoch
