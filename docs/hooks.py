"""Makes the generated part of the documentation while MkDocs builds it.

Pages about settings, the command line and the messages come from their sources; figures in double braces and plots come
from `benchmarks/results/`; the start page, the changelog, the contributor's page and the model card are the files of
the repository. Nothing that is generated is kept under version control.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from generators import causes, commands, messages, plots, settings  # noqa: E402

from benchmarks.tables import fill  # noqa: E402

MODEL_CARD = "config/checkpoints/libero_small/README.md"
# Page of the site -> file of the repository that it shows.
REPOSITORY = {
    "index.md": "README.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "reference/model-card.md": MODEL_CARD,
}


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and plots."""
    pages = {page: repository_page(page) for page in REPOSITORY}
    pages |= settings.pages() | messages.pages() | commands.pages()
    for uri, content in {**pages, **plots.pictures()}.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put the figures, and the meanings of the causes, into a page."""
    return causes.fill(fill(markdown))


def repository_page(page: str) -> str:
    """A file of the repository as a page: links that lead into `docs/`, or to another such page, are made to fit."""
    source = ROOT / REPOSITORY[page]
    shown = {(ROOT / path).resolve(): place for place, path in REPOSITORY.items()}
    up = "../" * page.count("/")

    def fitted(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = (source.parent / target).resolve()
        if path in shown:
            return f"[{label}]({up}{shown[path]}{anchor})"
        if path.is_relative_to(ROOT / "docs"):
            return f"[{label}]({up}{path.relative_to(ROOT / 'docs')}{anchor})"
        return label  # a file that is in the repository only

    return re.sub(r"\[((?:[^\[\]]|!\[[^\]]*\])*)\]\((?!https?:)([^)#]+)(#[^)]*)?\)", fitted, source.read_text("utf-8"))
