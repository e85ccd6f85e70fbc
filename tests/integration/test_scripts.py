"""Every script beside the package can be imported: what it takes from the package is there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "suites", "tools")
SCRIPTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_scripts_can_be_imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(script.parent)
    try:
        module = importlib.import_module(script.stem)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("atheris", "grimp", "openvino", "playwright"):
            raise
        pytest.skip(str(error))
    assert Path(str(module.__file__)) == script
