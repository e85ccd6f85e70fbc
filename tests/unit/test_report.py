"""Which losses a report names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mien import report
from mien.options import EncodeOptions
from mien.report import minimised


def test_features_are_named_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    unrefined = replace(EncodeOptions.mien(), refinement=None, refit=None)
    monkeypatch.setattr(report, "weights_file", lambda variant: Path("lite1.pth"))
    for options in (EncodeOptions.mien(), unrefined):
        assert "pyramid, perceptual and ImageNet-feature distance" in minimised(options)["weights"]
    assert "ImageNet" not in minimised(EncodeOptions.paper())["weights"], "its weight is 0"
    monkeypatch.setattr(report, "weights_file", lambda variant: None)
    for options in (EncodeOptions.mien(), unrefined):
        assert "pyramid and perceptual distance" in minimised(options)["weights"]


def test_the_pixel_loss_of_refinement_is_named() -> None:
    options = EncodeOptions.mien()
    assert options.refinement is not None
    squared = replace(options, refinement=replace(options.refinement, pixel_loss="l2"), refit=None)
    assert all(loss.startswith("L2") for loss in minimised(squared).values())
    assert all(loss.startswith("pyramid") for loss in minimised(replace(options, refit=None)).values())
