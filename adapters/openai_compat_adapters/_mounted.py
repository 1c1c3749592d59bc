"""Where an ASGI application is mounted, whoever mounts it."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import Scope


def split_path(scope: Scope) -> tuple[str, str]:
    """The mount point, and the path below it.

    By ASGI the path begins with `root_path`. It does not where a proxy has taken off the first part of that, which
    Starlette calls `app_root_path`. Litestar and others take the mount point off the path by themselves, and may
    not tell: `raw_path` is then longer than the path.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    below = "/" + path.strip("/") if path.strip("/") else ""
    raw: bytes = scope.get("raw_path") or b""
    whole = unquote(raw.partition(b"?")[0].decode("latin-1")).rstrip("/")
    if len(whole) > len(below) and whole.endswith(below):
        return root or whole[: len(whole) - len(below)], path if path.startswith("/") else f"/{path}"
    for mount in (root, root.removeprefix(scope.get("app_root_path", ""))):
        if mount and (path == mount or path.startswith(f"{mount}/")):
            return root, path[len(mount) :]
    return root, path if path.startswith("/") else f"/{path}"
