"""Files sent to an agent, and media received from one."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Any

from .answer_events import ChatFailed, GeneratedMedia

MAX_BYTES = 10 * 2**20
"""Maximum size of an attached file, in bytes."""


def read_attachment(name: str, *, picture: bool) -> tuple[dict[str, Any], str]:
    """Return a file as a message part, and its description. Raises ChatFailed."""
    if not name:
        raise ChatFailed(f"Say which: {'/image' if picture else '/file'} PATH.")
    path = Path(name).expanduser()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if picture and not kind.startswith("image/"):
        raise ChatFailed(f"'{name}' is no picture by its name: /file sends it as it is.")
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise ChatFailed(f"'{name}' cannot be read: {error.strerror}.") from error
    if content is None:
        raise ChatFailed(f"'{name}' is larger than {MAX_BYTES // 2**20} MB.")
    data = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    told = f"{path.name} ({size_of(content)})"
    if picture:
        return {"type": "input_image", "image_url": data, "detail": "auto"}, told
    return {"type": "input_file", "filename": path.name, "file_data": data}, told


def size_of(content: bytes) -> str:
    """The size in human-readable form: `12 kB`."""
    return f"{-(-len(content) // 1024)} kB"


def write_new_file(path: Path, content: bytes) -> str:
    """Write a new file and return a confirmation. Raises ChatFailed, also if the file exists."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise ChatFailed(f"'{path}' is there already, and stays as it is.") from error
    except OSError as error:
        raise ChatFailed(f"'{path}' cannot be written: {error.strerror}.") from error
    return f"{path} written, {size_of(content)}"


def write_media(folder: Path, media: GeneratedMedia) -> str:
    """Write media to the first free file name and return a confirmation. Raises ChatFailed."""
    number = 1
    while (path := folder / f"{media.kind}-{number}.{media.suffix}").exists():
        number += 1
    return write_new_file(path, media.content)
