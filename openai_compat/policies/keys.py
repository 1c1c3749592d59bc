"""API keys: their sources and their principals."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, cast

from ..agent_request import Principal

HASH_PREFIX = "sha256:"
"""Prefix of a key's SHA-256 in hexadecimal, which can be configured instead of the key itself."""

STABLE_AGE = 2.0
"""Seconds after a file change during which another change may leave time and size the same."""

_DIGEST = re.compile(rf"{HASH_PREFIX}([0-9a-f]{{64}})")
_MODELS = re.compile(r"(?:(?:^|\s+)model=\S+)+$")
_TOKEN = re.compile(r"\S+", re.ASCII)


class KeyTable:
    """Principals by the digest of their keys: a lookup takes the same time for any number of keys.

    Timing reveals no key, since the sender cannot choose the digest of the sent key. Digests need no salt and no
    stretching: these only help for keys chosen by people, and API keys are random.

    Raises TypeError, without quoting a key, for an invalid key or principal. Empty keys are skipped.
    """

    __slots__ = ("_principals",)

    def __init__(self, keys: Keys) -> None:
        pairs = [(_digest(key), principal) for key, principal in _to_pairs(keys)]
        self._principals = {digest: principal or Principal(_derived_id(digest)) for digest, principal in pairs}

    def find(self, sent: bytes) -> Principal | None:
        """Return the principal of a key; None for a wrong or an empty one."""
        # A list of hashed keys may contain the digest of the empty string.
        return self._principals.get(sha256(sent).digest()) if sent else None

    def __len__(self) -> int:
        return len(self._principals)


Keys: TypeAlias = str | Iterable[str] | Mapping[str, Principal | str | None] | KeyTable | None
KeySource: TypeAlias = Callable[[], Keys | Awaitable[Keys]]


def key_from_env(name: str) -> KeySource:
    """Read keys from an environment variable, separated by commas. Unset or empty disables the server, never opens it.

    After a key and a space, a name is the id of its principal, and each `model=NAME` is a model that it may use:
    "sk-1 ann, sk-2 bob model=helper". `sha256:HEX` stands for a key that is not written down.
    """
    return lambda: _parse_entries(os.environ.get(name, "").split(","))


def key_from_file(path: str | Path) -> KeySource:
    """Read keys from a file, one per line; empty lines and lines that begin with # are skipped.

    After a key and a space, a name is the id of its principal, and each `model=NAME` is a model that it may use.
    `sha256:HEX` stands for a key that is not written down. The file is read again after each change.
    """
    kept: tuple[object, KeyTable] | None = None

    def read() -> KeyTable:
        nonlocal kept
        try:
            about = os.stat(path)  # noqa: PTH116  (a third of the time of Path's)
            state = (about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino)
            if kept is not None and kept[0] == state:
                return kept[1]
            lines = Path(path).read_text("utf-8").splitlines()
        except FileNotFoundError:
            # No key at all, which disables the server: a missing file must not open it.
            return KeyTable(())
        table = KeyTable(_parse_entries([line for line in lines if not line.lstrip().startswith("#")]))
        kept = (state, table) if time.time() - about.st_mtime > STABLE_AGE else None
        return table

    return read


def _parse_entries(entries: Iterable[str]) -> dict[str, Principal | str | None]:
    """Parse entries into keys and principals."""
    named: dict[str, Principal | str | None] = {}
    for entry in entries:
        key, _, rest = entry.strip().partition(" ")
        models = _MODELS.search(rest)
        name = (rest if models is None else rest[: models.start()]).strip()
        if models is None:
            named[key] = name or None
        else:
            allowed = frozenset([word.removeprefix("model=") for word in models[0].split()])
            named[key] = Principal(name or _derived_id(_digest(key)), allowed)
    return named


def new_key() -> str:
    """Return a new random API key."""
    return f"sk-{secrets.token_hex(24)}"


def hash_key(key: str) -> str:
    """Return the digest of a key, which can be stored instead of the key."""
    return f"{HASH_PREFIX}{sha256(key.encode()).hexdigest()}"


def check_keys(keys: Keys) -> None:
    """Raise ValueError for keys that no client can send because they contain spaces, TypeError for other invalid keys."""
    for key, _ in () if isinstance(keys, KeyTable) else _to_pairs(keys):
        if _TOKEN.fullmatch(key) is None:
            raise ValueError("an API key cannot have spaces in it")


def _digest(key: str) -> bytes:
    hashed = _DIGEST.fullmatch(key)
    return sha256(key.encode()).digest() if hashed is None else bytes.fromhex(hashed[1])


def _derived_id(digest: bytes) -> str:
    """Return the id of a key without a name: twelve digits of the hash, since ids are logged and must not reveal the key."""
    return f"key-{digest.hex()[:12]}"


def _to_pairs(keys: Keys) -> list[tuple[str, Principal | None]]:
    if isinstance(keys, Mapping):
        named = [*cast("Mapping[str, Principal | str | None]", keys).items()]
        found = [(key, Principal(who) if isinstance(who, str) else who) for key, who in named]
    elif keys is None or isinstance(keys, str):
        found = [(keys or "", None)]
    elif isinstance(cast("Any", keys), Iterable):
        found = [(key, None) for key in cast("Iterable[str]", keys)]
    else:
        found = [(cast("str", keys), None)]
    for key, principal in found:
        if not isinstance(cast("Any", key), str) or not isinstance(cast("Any", principal), Principal | None):
            raise TypeError("keys are strings, or a mapping from strings to principals or their ids")
        if principal is not None and not principal.id:
            raise TypeError("the id of a key's principal is not empty")
    # An empty key would match a request without a key.
    return [(key, principal) for key, principal in found if key]
