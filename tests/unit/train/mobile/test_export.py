"""What has to be there before the file that ships is written."""

from pathlib import Path

import pytest

from mien.errors import InputError
from mien.train.mobile.__main__ import export


def test_a_step_that_was_not_run_is_named_and_no_untrained_network_is_written(tmp_path: Path) -> None:
    for name in ("head256", "flow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint.pt").touch()
    out = tmp_path / "out.safetensors"
    with pytest.raises(InputError, match=r"head512 holds no checkpoint.pt"):
        export(tmp_path / "a.whl", tmp_path / "card.json", out, tmp_path)
    assert not out.exists()
