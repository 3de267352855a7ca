"""The cause of an engine's death, picked out of lines that vLLM 0.32 and Ray 2.60 really wrote."""

from __future__ import annotations

from spanwise.lab.logs import exceptions

# Recorded from a gang that asked for more memory than the host had.
RECORDED = """
(EngineCore pid=460) INFO 11-24 03:54:31 [core.py:101] Initializing a V1 LLM engine (v0.32.0)
(RayWorkerProc pid=505) ERROR 11-24 03:54:40 [worker.py:190] ValueError: Available memory on node 0 (9.2/13.71 GiB) on startup is less
(EngineCore pid=460) ERROR 11-24 03:54:41 [core.py:880]     raise ValueError(
(EngineCore pid=460) ERROR 11-24 03:54:41 [core.py:880] ValueError: Available memory on node 0 (9.2/13.71 GiB) on startup is less
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
ray.exceptions.RayTaskError(RuntimeError): ray::ServeReplica
"""


def test_the_cause_without_its_echoes() -> None:
    assert exceptions(RECORDED.splitlines()) == [
        "ValueError: Available memory on node 0 (9.2/13.71 GiB) on startup is less"
    ]


def test_nothing_to_say_about_a_healthy_log() -> None:
    assert exceptions(["(EngineCore pid=1) INFO 11-24 03:54:31 [core.py:1] 0 Errors: none so far", "all well"]) == []
