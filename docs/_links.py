"""Links of pages that leave docs/, as links of the site: a hook of mkdocs, see mkdocs.yml."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace links to files at the top of the repository by those of the pages made of them.

    Such a page includes its file, whose own links begin with docs/.
    """
    for target, page in PAGES.items():
        markdown = re.sub(rf"\]\((\.\./)?{target}", f"]({page}", markdown)
    return markdown


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made of files at the top of the repository."""
    for target, page in PAGES.items():
        path = Path(config.config_file_path).parent / target
        text = re.sub(r"\]\(docs/", "](", path.read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files
