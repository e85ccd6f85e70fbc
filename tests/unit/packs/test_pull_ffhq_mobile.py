"""`mien models pull ffhq-mobile`: what is said where the wheel cannot be had or is another."""

import pytest

from mien.packs import pull_ffhq_mobile
from mien.packs.pull_ffhq_mobile import WHEEL


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    return tmp_path


def test_the_licence_is_shown_and_has_to_be_accepted(run, home):
    code, out, err = run("models", "pull", "ffhq-mobile")
    assert code == 1 and "not accepted" in err and "non-commercial" in out and "Apache-2.0" in out
    assert not (home / "packs" / "ffhq-mobile.safetensors").exists()


def test_offline_is_one_sentence(run, home, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(home))
    code, _, err = run("models", "pull", "ffhq-mobile", "--yes")
    assert (
        code == 1
        and err.count("\n") == 1
        and "No matching distribution found for random-face==2021.7.21.1" in err
        and WHEEL.name in err
    )


def test_a_wheel_with_another_hash_is_refused(run, home):
    folder = home / "downloads" / "ffhq-mobile"
    folder.mkdir(parents=True)
    (folder / WHEEL.name).write_bytes(b"not that wheel")
    code, _, err = run("models", "pull", "ffhq-mobile", "--yes")
    assert code == 1 and err.count("\n") == 1 and "hash differs" in err
    assert not (home / "packs" / "ffhq-mobile.safetensors").exists()


def test_it_is_listed(run):
    code, out, _ = run("models", "list")
    assert code == 0 and "ffhq-mobile" in out and pull_ffhq_mobile.NAME == "ffhq-mobile"
