from __future__ import annotations

from tests.connecting import anyio_backend as anyio_backend
