"""The mount point of an ASGI application, in any framework."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import Scope


def split_path(scope: Scope) -> tuple[str, str]:
    """Split a scope's path into the mount point and the path below it.

    In ASGI the path begins with `root_path`, except where a proxy has removed its first part, which Starlette calls
    `app_root_path`. Litestar and others remove the mount point from the path without setting `root_path`; `raw_path`
    is then longer than the path.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    raw: bytes = scope.get("raw_path") or b""
    if not root and raw.decode("latin-1") == path:  # not mounted, as in most servers
        return "", path
    below = "/" + path.strip("/") if path.strip("/") else ""
    whole = unquote(raw.partition(b"?")[0].decode("latin-1")).rstrip("/")
    if len(whole) > len(below) and whole.endswith(below):
        return root or whole[: len(whole) - len(below)], path if path.startswith("/") else f"/{path}"
    for mount in (root, root.removeprefix(scope.get("app_root_path", ""))):
        if mount and (path == mount or path.startswith(f"{mount}/")):
            return root, path[len(mount) :]
    return root, path if path.startswith("/") else f"/{path}"
