"""The store between the planes: its contract, what writers and readers share, an in-process form.

- ``contract``: the types and the two Protocols; import these names from the package.
- ``signing``: what the signatures cover, and how a reader checks them.
- ``ledger``: a writer's memory of a channel, and the steps that it derives from it.
- ``layout``: keys, encodings and addresses in Redis.
- ``memory``: the in-process form, for ``switchboard dev``.

docs/adr/0004-store-layout.md says why it is built like this.
"""

from switchboard_policy.store.contract import (
    CHANNELS,
    CONTINUES,
    MORE_REFUSED,
    POLICY_REFUSED,
    SILENT_MS,
    WORDS_KEPT_MS,
    ZERO,
    Channel,
    Field,
    Head,
    Heard,
    Line,
    Manifest,
    Pod,
    PodSeen,
    Record,
    Recorded,
    Registered,
    Retention,
    Revision,
    StoreReader,
    StoreRefused,
    StoreWriter,
    Word,
)

__all__ = [
    "CHANNELS",
    "CONTINUES",
    "MORE_REFUSED",
    "POLICY_REFUSED",
    "SILENT_MS",
    "WORDS_KEPT_MS",
    "ZERO",
    "Channel",
    "Field",
    "Head",
    "Heard",
    "Line",
    "Manifest",
    "Pod",
    "PodSeen",
    "Record",
    "Recorded",
    "Registered",
    "Retention",
    "Revision",
    "StoreReader",
    "StoreRefused",
    "StoreWriter",
    "Word",
]
