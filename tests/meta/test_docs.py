"""The documentation speaks of what is there: links, commands, settings, metrics, targets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
REFERENCE = ROOT / "docs" / "reference"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_make_targets_exist(page):
    named = set(re.findall(r"`make ([a-z][a-z-]*)", page.read_text()))
    assert named - makefile_targets() == set()


def test_promised_make_targets_exist():
    promised = "install demo test check bench bench-peers chaos handbook handbook-models loans bench-http"
    assert set(promised.split()) | {"faust-agrees"} <= makefile_targets()


def test_every_page_is_reached_from_the_readme():
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        local = [target for target in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:", target)]
        pending.extend((page.parent / target.partition("#")[0]).resolve() for target in local)
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached] == []


def test_every_command_is_documented():
    from typer.main import get_command

    from stream.cli.app import app

    text = (REFERENCE / "cli.md").read_text()
    assert [path for path in command_paths(get_command(app), "riskstream") if path not in text] == []


def command_paths(command: object, path: str) -> list[str]:
    """`riskstream model list` and so on: every command that can be given."""
    nested = getattr(command, "commands", {})
    return [deep for name, sub in nested.items() for deep in command_paths(sub, f"{path} {name}")] or [path]


def test_every_extra_is_documented():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "README.md").read_text()
    assert [extra for extra in extras if f"`{extra}`" not in text] == []


def test_no_file_names_a_registry_or_a_private_place():
    hosts = re.compile(
        r"pypi\.org|files\.pythonhosted|repo1?\.maven|registry\.npmjs|deb\.debian|index-url|/opt/wheels"
    )
    suffixes = {".py", ".md", ".toml", ".txt", ".sh", ".yml", ".yaml", ".xml", ".json", ""}
    found = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.is_file()
        and path != Path(__file__)
        and path.suffix in suffixes
        and not {".git", ".venv", "build", "__pycache__"} & set(path.relative_to(ROOT).parts)
        and not path.relative_to(ROOT).parts[0].startswith(".")
        and hosts.search(path.read_text(errors="replace"))
    ]
    assert found == []


def test_the_map_names_every_folder():
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = [
        str(path.parent.relative_to(ROOT))
        for package in ("features", "models", "stream")
        for path in (ROOT / package).glob("*/__init__.py")
    ]
    assert [folder for folder in folders if f"`{folder}/`" not in text] == []


def test_commands_in_pages_exist():
    from typer.main import get_command

    from stream.cli.app import app

    known = {path.removeprefix("riskstream ") for path in command_paths(get_command(app), "riskstream")}
    groups = {command.split()[0] for command in known}
    wrong = []
    for page in PAGES:
        code = re.findall(r"`(?:[\w./]*/)?riskstream ([a-z]+)\b(?: ([a-z-]+))?", page.read_text())
        code += re.findall(
            r"^ {4,}(?:[\w./]*/)?riskstream ([a-z]+)\b(?: ([a-z-]+))?", page.read_text(), re.MULTILINE
        )
        for group, sub in code:
            nested = {command.split()[1] for command in known if command.startswith(f"{group} ")}
            if group not in groups or (nested and sub and sub not in nested):
                wrong.append(f"{page.name}: riskstream {group} {sub}")
    assert wrong == []


def test_files_that_the_architecture_names_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(
        re.findall(r"\b((?:features|models|stream|riskstream|tests|docs)/[\w/.]+?\.(?:py|md))\b", text)
    )
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
