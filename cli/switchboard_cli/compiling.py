"""The compiler of the operator for manifests in files, as one gateway has it: only to look."""

from typing import Final

from switchboard_cli.folder import DEFAULT_NAMESPACE
from switchboard_policy import names
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.world import Gateway
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file

_KEY: Final = "files"


def compiler_of_files(
    name: str, *, platform_namespace: str, order: tuple[str, ...] = ()
) -> Compiler:
    """Return the compiler of a gateway that admits all namespaces; messages call it ``name``.

    ``order`` lists namespaces, the strongest first.
    """
    gateway = Gateway(
        name=name,
        namespace=DEFAULT_NAMESPACE,
        order=order,
        platform_namespace=platform_namespace,
        clients_from="All",
    )
    # Nothing that is sealed here is kept.
    keys = write_key_file(_KEY, {_KEY: bytes(KEY_BYTES)})
    return Compiler(gateway, read_keyring(names.gateway_scope(name), keys))
