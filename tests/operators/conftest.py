from __future__ import annotations

from tests.interaction.conftest import anyio_backend as anyio_backend
from tests.interaction.conftest import connect as connect
from tests.interaction.conftest import http as http
from tests.interaction.conftest import transport as transport
