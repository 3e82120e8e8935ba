"""Static files are collected as they are quickest to load."""

import gzip
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles.finders import FileSystemFinder

from admin_console.static_files import StaticFiles

SOURCE = Path(settings.BASE_DIR) / "static" / "css"
NOT_OF_EVERY_PAGE = {"console.css", "admin.css", "styleguide.css"}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the console's own files were collected."""
    folder = tmp_path_factory.mktemp("static")
    storage = StaticFiles(location=folder, base_url="/static/")
    found = {path: (source, path) for path, source in FileSystemFinder().list([])}
    for path, (source, _path) in found.items():
        storage.save(path, source.open(path))
    problems = [result for *_names, result in storage.post_process(found) if isinstance(result, Exception)]
    assert problems == []
    return folder


def test_a_page_loads_one_stylesheet_that_holds_all_in_their_order(collected: Path):
    [styles] = collected.glob("css/console.????????????.css")
    whole = styles.read_text()

    imported = re.findall(r'"(.+)"', (SOURCE / "console.css").read_text())
    assert "@import" not in whole
    assert set(imported) == {sheet.name for sheet in SOURCE.glob("*.css")} - NOT_OF_EVERY_PAGE
    begin = [whole.index((SOURCE / name).read_text()[:200].partition("url(")[0]) for name in imported]
    assert begin == sorted(begin)
    assert re.search(r'url\("\.\./img/chevron\.[0-9a-f]{12}\.svg"\)', whole)


def test_what_is_sent_is_compressed(collected: Path):
    for name in ("css/console", "js/console"):
        [small] = collected.glob(f"{name}.????????????.*.gz")
        whole = small.with_suffix("").read_bytes()
        assert gzip.decompress(small.read_bytes()) == whole
        assert small.stat().st_size < len(whole) / 2


def test_layers_alone_decide_which_style_holds():
    sheets = {sheet: sheet.read_text() for sheet in SOURCE.glob("*.css") if sheet.name not in ("console.css", "admin.css")}
    templates = (Path(settings.BASE_DIR) / "templates").rglob("*.html")
    # Emails, and what stands in the place of one, bring their styles along.
    pages = [page for page in templates if page.parent.name != "emails" and page.name != "email_mistakes.html"]

    assert [sheet.name for sheet, text in sheets.items() if "@layer" not in text or "!important" in text] == []
    assert [page.name for page in pages if re.search(r"<\w[^>]*\sstyle=|<style", page.read_text())] == []
