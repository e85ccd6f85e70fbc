"""`mien doctor`: what is here and what is not, and its exit codes."""

from __future__ import annotations

import json

from factories.commands import Run
from mien.apps.diagnosis import Check, Diagnosis


def test_here_everything_that_is_needed_is_found(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["ok"]
    checks = {check["name"]: check for check in facts["checks"]}
    assert checks["torch"]["found"] and checks["pack mini"]["needed"] and "mediapipe (face mesh)" in checks
    assert all(check["found"] or check["remedy"] for check in facts["checks"])


def test_the_text_names_each(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0 and "ready." in out and "camera" in out and "compiler" in out


def test_only_what_is_needed_decides() -> None:
    here, missing, wished = Check("a", True, "1.0", ""), Check("b", True, "", "install b"), Check("c", False, "", "")
    assert Diagnosis((here, wished)).ok
    assert not Diagnosis((here, missing)).ok and Diagnosis((missing,)).facts()["checks"][0]["remedy"] == "install b"
