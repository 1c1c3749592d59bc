from __future__ import annotations

from tests.conftest import anyio_backend as anyio_backend
