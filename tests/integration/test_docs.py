"""What the documentation names exists: commands and their options, modules and names, files behind links."""

from __future__ import annotations

import importlib
import re
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("research/*.md"), *ROOT.glob("examples/*.md")]
)
README_LINES = 120
PROGRAMS = {"mien": "mien.apps.cli.cli", "mien.train": "mien.train.__main__"}
_NAME = re.compile(r"(?<![\w./-])mien(?:\.\w+)+")
_LINK = re.compile(r"\]\(([^)#\s]+)?(#[^)\s]+)?\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of each `mien ...` and `python -m mien.train ...` line in fenced blocks and in inline code."""
    lines = [line for kind, block in _FENCE.findall(text) if kind != "python" for line in block.split("\n")]
    lines += re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    found = []
    for line in lines:
        for part in re.split(r"[|;]", line.split(" #")[0]):
            words = part.strip().removeprefix(".venv/bin/").removeprefix("python -m ").split()
            if len(words) > 1 and words[0] in PROGRAMS:
                found.append(words)
    return found


@cache
def program(name: str) -> Any:
    """The parser of a command line."""
    return typer.main.get_command(importlib.import_module(PROGRAMS[name]).app)


def unknown(words: list[str]) -> str:
    """What of a command line does not exist; empty if all of it does."""
    command, words = program(words[0]), words[1:]
    while hasattr(command, "commands") and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        if words[0] not in command.commands:
            return words[0]
        command, words = command.commands[words[0]], words[1:]
    options = {"--help"} | {name for p in command.params for name in [*p.opts, *p.secondary_opts]}
    given = re.findall(r"(?<!\S)--?[a-z][\w-]*", " ".join(words).replace("[", " ").replace("=", " "))
    return next((f"{command.name} {option}" for option in given if option not in options), "")


@cache
def exists(name: str) -> bool:
    """Whether a dotted name is a module of ours, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part) and part not in getattr(value, "__annotations__", {}):
                return False
            value = getattr(value, part, None)
        return True
    return False


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    assert [problem for words in commands(page.read_text(encoding="utf-8")) if (problem := unknown(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_exist(page: Path) -> None:
    names = set(_NAME.findall(page.read_text(encoding="utf-8")))
    names = {n for n in names if not n.endswith((".mien", ".person"))}
    assert sorted(n for n in names if not exists(n)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    broken = []
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target + anchor)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_exist(page: Path) -> None:
    """Files of the repository that are named in code."""
    named = re.findall(
        r"`?((?:src|tests|benchmarks|suites|tools|examples|docs|research)/[\w/.-]+\.\w+)",
        page.read_text(encoding="utf-8"),
    )
    assert sorted({n for n in named if not (ROOT / n).exists()}) == []


def test_a_name_that_is_not_there_is_found() -> None:
    assert not exists("mien.method.nowhere") and not exists("mien.api.nothing") and exists("mien.api.encode")
    assert unknown(["mien", "encode", "clip.mp4", "--nonsense", "1"]) and unknown(["mien", "walk", "clip.mp4"])
    assert not unknown(["mien", "encode", "clip.mp4", "-o", "x.mien", "--seed", "1"])


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= README_LINES


def test_docs_named_in_code_exist() -> None:
    """A page that a docstring or a message names is there."""
    missing = []
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")]:
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            if not (ROOT / name).exists():
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


def has_option(kind: Any, path: list[str]) -> bool:
    """Whether a dataclass, or one of a union of them, has the nested field."""
    kinds = [k for k in (kind, *get_args(kind)) if is_dataclass(k)]
    if not path:
        return True
    return any(path[0] in (h := get_type_hints(k)) and has_option(h[path[0]], path[1:]) for k in kinds)


def test_switches_are_options() -> None:
    """The fields that docs/method.md sets to leave a layer out."""
    switches = re.findall(r"`([a-z_.]+)=[^`]+`", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"))
    options = importlib.import_module("mien.options").EncodeOptions
    assert len(switches) > 10 and [s for s in switches if not has_option(options, s.split("."))] == []
