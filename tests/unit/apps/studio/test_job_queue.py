"""The studio's line of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the studio's line was not tested: it needs Gradio (mien[studio])")

from mien.apps.studio import job_queue
from mien.apps.studio.job_queue import JobQueue, StudioJob
from mien.apps.studio.sessions import IDLE_SECONDS, Session, Sessions


def test_a_session_that_waits_in_line_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours in line: the session stays, and its job runs when it is its turn."""
    queue, sessions, before = JobQueue(), Sessions(tmp_path), object()
    queue.enter(before)
    session: Session = sessions.get("a", "a")
    now = [session.used]

    def sleep(seconds: float) -> None:
        now[0] += 600.0
        sessions.sweep(now[0])
        if now[0] > session.used + IDLE_SECONDS or now[0] > start + 2 * IDLE_SECONDS:
            queue.leave(before)

    start = now[0]
    monkeypatch.setattr(job_queue.time, "sleep", sleep)
    monkeypatch.setattr(job_queue.time, "monotonic", lambda: now[0])
    job = StudioJob(queue, session, lambda job: "done")
    list(job.run())
    assert job.result == "done" and sessions.find("a", "a") is session
