"""Settings of providers that are changed at runtime: kept in the store, and used by all processes.

Only changes are stored, so that a server's startup settings stay its own. Keys are sealed (`state.sealed_secrets`); if there
is no secret to seal them with, they are refused where the store outlives the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import Conflict, NotFound, Unavailable
from ..state.sealed_secrets import VARIABLE, CannotUnseal, Seal
from ..stores.port import Store
from ..stores.schema import UnusableStore
from ..wire.json import from_stored_json, stored_json
from .services import ChosenProvider, logger

if TYPE_CHECKING:  # servers without providers never import the package
    from ..providers.port import ProviderControl, ProviderSettings

KIND = "provider"
DEFAULT = ""
"""The name under which the choice of the default provider is stored."""

POLL_INTERVAL = 0.5
"""Seconds between two checks for changes by another process."""


class StoredProviders:
    """Changes the providers of one server in all processes that share its store.

    Raises ValueError for an invalid key in the environment.
    """

    def __init__(self, store: Store, control: ProviderControl, choice: ChosenProvider, owned_by: str) -> None:
        self._store = store
        self._control = control
        self._choice = choice
        self._owned_by = owned_by
        self._seal = Seal.from_environment() if store.shared else None
        self._seen: dict[str, str] = {}
        self._started_with: dict[str, ProviderSettings] = {}

    async def change(self, name: str, given: Mapping[str, Any]) -> None:
        """Change some settings of a provider. Raises NotFound, and Conflict (409 `secrets_not_stored`)."""
        self._started_with.setdefault(name, self._control.settings(name))
        kept: dict[str, Any] = from_stored_json((await self._store.settings(KIND)).get(name, "{}"))
        kept |= given
        secret = given.get("api_key")
        if secret is not None and self._store.shared:
            if self._seal is None:
                text = (
                    f"Keys are not stored here: {VARIABLE} is not set. Put the key into the environment of the server."
                )
                raise Conflict(text, code="secrets_not_stored", param="apiKey", should_retry=False)
            kept["api_key"] = self._seal.seal(secret, name)
        await self._store.put_setting(KIND, name, stored_json(kept))
        await self.refresh()

    async def choose(self, name: str) -> None:
        """Make a provider the default one. Raises NotFound."""
        if name != self._owned_by:
            self._control.settings(name)
        await self._store.put_setting(KIND, DEFAULT, stored_json(name))
        await self.refresh()

    async def begin(self) -> None:
        """Load the stored settings. Raises UnusableStore if keys cannot be unsealed; an unavailable store is no error."""
        try:
            await self.refresh()
        except UnusableStore:
            raise
        except Unavailable as error:
            logger.warning("settings of providers are not read yet: %s", error.code)

    async def follow(self) -> None:
        """Load the changes of other processes, until cancelled."""
        while self._store.shared:
            await anyio.sleep(POLL_INTERVAL)
            try:
                await self.refresh()
            except Unavailable as error:
                logger.info("settings of providers: %s", error.code)
            except Exception as error:
                logger.error("settings of providers", exc_info=error)

    async def refresh(self) -> None:
        """Load the stored settings that have changed. Raises UnusableStore for keys that cannot be unsealed."""
        found = await self._store.settings(KIND)
        for name, body in found.items():
            if self._seen.get(name) == body:
                continue
            self._seen[name] = body  # first, so that an invalid setting is logged only once
            try:
                self._apply(name, from_stored_json(body))
            except NotFound:  # from another version of the library, or another server
                logger.warning("the provider %s of the store is not known here", name or "that is the default")

    def _apply(self, name: str, kept: Any) -> None:
        if name == DEFAULT:
            if kept != self._owned_by:
                self._control.set_default(kept)
            self._choice.provider = kept
            return
        self._started_with.setdefault(name, self._control.settings(name))
        key = kept.get("api_key")
        if key is not None and self._store.shared:
            kept = {**kept, "api_key": self._unseal(key, name)}
        started = self._started_with[name]
        # A newer version that shares the store may have stored more fields.
        known = {field: value for field, value in kept.items() if hasattr(started, field)}
        self._control.configure(name, replace(started, **known))

    def _unseal(self, sealed: str, name: str) -> str:
        if self._seal is None:
            raise UnusableStore(f"The store has a sealed key of the provider {name}, and {VARIABLE} is not set.")
        try:
            return self._seal.unseal(sealed, name)
        except CannotUnseal:
            text = (
                f"The store has a sealed key of the provider {name}, which {VARIABLE} does not open: it is another one."
            )
            raise UnusableStore(text) from None
