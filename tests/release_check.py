"""Check a release before its upload: the contents and the metadata of the sdist and the wheel.

    python tests/release_check.py FOLDER AGAIN

Both folders hold a wheel and an sdist, built one after the other from the same tree.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST = 4_000_000
"""Size limit of each file, in bytes."""


def the_only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def files_of_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def check_sdist(sdist: Path) -> None:
    """The sdist has every file of the repository, so that packagers can run the tests and build the documentation."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    others = files_of_sdist(sdist) ^ {*tracked.split("\0")[:-1], "PKG-INFO"}
    assert others == set(), f"either in git or in the sdist: {sorted(others)}"


def check_wheel(wheel: Path, version: str) -> Message:
    """The wheel has the two packages exactly as in the repository and, apart from its metadata, nothing else."""
    about = f"openai_compat-{version}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"{about}/")}
        metadata = message_from_bytes(archive.read(f"{about}/METADATA"))
        entry_points = archive.read(f"{about}/entry_points.txt").decode()
        assert f"{about}/licenses/LICENSE" in archive.namelist()
    packages = {"openai_compat": ROOT, "openai_compat_adapters": ROOT / "adapters"}
    wanted = {
        path.relative_to(above).as_posix()
        for package, above in packages.items()
        for path in (above / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == wanted, f"either in the repository or in the wheel: {sorted(names ^ wanted)}"
    assert "openai-compat = " in entry_points
    assert "[pytest11]" in entry_points
    return metadata


def check_metadata(metadata: Message, version: str) -> None:
    assert metadata["Version"] == version
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    needed = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert sorted(one.partition(">")[0] for one in needed) == ["anyio", "pydantic"], needed
    assert {"cli", "serve", "client", "all"} <= set(metadata.get_all("Provides-Extra", []))
    assert [one for one in metadata.get_all("Classifier", []) if one.startswith("Private ::")] == []
    readme = metadata.get_payload()
    assert isinstance(readme, str)
    assert "openai-compat demo" in readme
    # PyPI has none of the repository's files: a relative link would be broken there.
    assert re.findall(r'\]\((?!https:)|src(?:set)?="(?!https:)', readme) == []


def main(folder: Path, again: Path) -> None:
    wheel, sdist = the_only(folder, "*.whl"), the_only(folder, "*.tar.gz")
    version = sdist.name.removeprefix("openai_compat-").removesuffix(".tar.gz")
    check_sdist(sdist)
    check_metadata(check_wheel(wheel, version), version)
    for built in (wheel, sdist):
        assert built.stat().st_size < MOST, f"{built.name} is large"
        assert built.read_bytes() == (again / built.name).read_bytes(), f"{built.name} is another one each time"
    print(f"openai-compat {version} could be released")


main(*map(Path, sys.argv[1:]))
