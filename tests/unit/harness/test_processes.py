"""Child processes of the test harness."""

from pathlib import Path

from clusters import processes


def test_a_restarted_process_runs_again_after_its_end_until_it_is_killed(tmp_path: Path) -> None:
    process = processes.Process(
        "program",
        ["/bin/sh", "-c", "echo started; exit 1"],
        log=tmp_path / "program.log",
        environment={},
        restarted=True,
    )
    process.start()
    try:
        processes.wait_for(
            "a second start", lambda: process.output().count("started") >= 2, seconds=20
        )
        assert process.alive
    finally:
        process.kill()
    assert not process.alive
