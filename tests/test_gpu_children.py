"""A failing part of experiments/gpu.py costs that part alone, and its error is kept."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "experiments"))

from gpu_parts.children import ChildError, call, forked  # noqa: E402
from gpu_parts.record import Record, Report, has_error  # noqa: E402


def add(one, other):
    return one + other


def fail():
    raise ValueError("no such number")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(7)


def sleep():
    time.sleep(60)


def count_and_sleep(send, file):
    for number in range(3):
        send(number)
    os.write(1, b"counted\n")  # print would go to what pytest captures
    call(write_pid_and_sleep, file)


def write_pid_and_sleep(file):
    file.write_text(str(os.getpid()))
    time.sleep(60)


def test_a_child_answers():
    assert call(add, 1, 2) == 3


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (fail, "ValueError: no such number"),
        (die, "signal.SIGKILL"),
        (leave, "exit code 7"),
        (sleep, "time limit"),
    ],
)
def test_what_goes_wrong_in_a_child_is_told(function, text):
    with pytest.raises(ChildError, match=text):
        call(function, seconds=1)


def collect(found, *args, **options):
    for value in forked(*args, **options):
        found.append(value)


def test_what_came_before_the_end_is_kept_and_nothing_goes_on(tmp_path):
    found = []
    with pytest.raises(ChildError, match="time limit"):
        collect(found, count_and_sleep, tmp_path / "pid", seconds=2, log=tmp_path / "log")
    assert found == [0, 1, 2]
    # A library with threads of its own may add lines, such as gRPC's about forks.
    assert (tmp_path / "log").read_text().splitlines().count("counted") == 1
    grandchild = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not alive(grandchild):
            return
        time.sleep(0.1)
    pytest.fail("the child's own child goes on")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_measurement_that_fails_leaves_the_others():
    sent = []
    record = Record(sent.append)
    record.measure(("one",), fail)
    record.measure(("two", "b"), dict)
    assert "no such number" in record.results["one"]["error"]
    assert "error" not in record.results["two"]["b"]
    assert has_error(record.results)
    assert not has_error(record.results["two"])
    assert len(sent) == 2


def test_the_report_is_whole_after_every_change(tmp_path):
    report = Report(tmp_path / "a" / "gpu.json", {"toy": True})
    report.begin("head")["results"] = {"x": 1}
    report.write()
    again = Report(tmp_path / "a" / "gpu.json", {"toy": True, "date": "later"})
    assert again.part("head")["results"] == {"x": 1}
    assert again.part("encode") == {}
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["gpu.json"]
