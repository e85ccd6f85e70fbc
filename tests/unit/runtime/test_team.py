"""Threads that share a step: order, shares, errors, gradient mode, and PyTorch's own threads."""

from __future__ import annotations

from collections.abc import Iterator
from threading import current_thread

import pytest
import torch

from mien.runtime.team import Team, team

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_shares_are_even_and_as_many_for_each_thread() -> None:
    assert [(p.start, p.stop) for p in Team(2).split(20, 16)] == [(0, 10), (10, 20)]
    assert [p.stop - p.start for p in Team(2).split(100, 16)] == [12, 13] * 4
    assert [p.stop - p.start for p in Team(1).split(20, 16)] == [16, 4]
    assert [(p.start, p.stop) for p in Team(4).split(2, 16)] == [(0, 1), (1, 2)]
    assert Team(2).split(0, 16) == []


@pytest.mark.usefixtures("three_threads")
def test_what_comes_back_is_in_order_and_torch_takes_one_thread_meanwhile() -> None:
    with team(CPU) as threads, torch.no_grad():
        assert threads.size == 3 and torch.get_num_threads() == 1

        def work(number: int) -> tuple[int, bool, int, bool]:
            away = current_thread().name.startswith("team")
            return number, torch.is_grad_enabled(), torch.get_num_threads(), away

        assert list(threads.map(work, range(7))) == [(n, False, 1, True) for n in range(7)]
        with team(CPU) as inner:
            assert inner.size == 3
        assert torch.get_num_threads() == 1, "the outer team goes on"
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_errors_come_out_and_threads_are_given_back() -> None:
    def fail(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        return number

    with pytest.raises(ValueError, match="one"), team(CPU) as threads:
        list(threads.map(fail, range(3)))
    assert torch.get_num_threads() == 3


def test_other_devices_have_a_team_of_one() -> None:
    before = torch.get_num_threads()
    with team(torch.device("meta")) as threads:
        assert threads.size == 1 and torch.get_num_threads() == before
        assert list(threads.map(str, [1, 2])) == ["1", "2"]
