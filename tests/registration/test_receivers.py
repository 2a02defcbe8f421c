"""Java's methods, called on many objects by many threads at once."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.jvm
THREADS = 4
ROUNDS = 3_000


@pytest.fixture
def autoclass(monkeypatch):
    """The function that finds Java classes, with threads that take turns as often as they can."""
    from pyserini.pyclass import autoclass

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield autoclass
    sys.setswitchinterval(interval)


def together(work) -> list:
    """Return the results of `work(number)` in threads that start at once."""
    start = threading.Barrier(THREADS)

    def run(number: int):
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_each_call_is_made_on_its_own_object(autoclass):
    """HashMap was loaded before the patch, StringBuilder after it. Some methods have several signatures."""
    maps = [autoclass("java.util.HashMap")() for _ in range(THREADS)]
    texts = [autoclass("java.lang.StringBuilder")() for _ in range(THREADS)]

    def work(number: int) -> int:
        mixed = 0
        for _ in range(ROUNDS):
            maps[number].put("number", number)
            mixed += maps[number].get("number") != number
            texts[number].append(str(number))
        return mixed

    assert together(work) == [0] * THREADS
    assert [text.toString() for text in texts] == [str(number) * ROUNDS for number in range(THREADS)]


def test_classes_are_loaded_by_several_threads(autoclass):
    names = ("java.util.TreeMap", "java.util.LinkedList", "java.util.TreeSet", "java.util.ArrayDeque")
    assert together(lambda _: [autoclass(name)().size() for name in names]) == [[0] * len(names)] * THREADS


def test_a_call_inside_the_arguments_of_a_call_has_its_own_object(autoclass):
    one = autoclass("java.util.HashMap")()
    other = autoclass("java.util.HashMap")()
    one.put("outer", other.put("inner", "text"))
    assert one.keySet().toArray() == ["outer"]
    assert other.keySet().toArray() == ["inner"]


def test_static_methods_overloads_errors_and_signatures_are_as_pyjnius_has_them(autoclass):
    from jnius import JavaException

    assert autoclass("java.lang.Integer").parseInt("7") == 7
    assert autoclass("java.lang.String").valueOf(3) == "3"
    builder = autoclass("java.lang.StringBuilder")("a")
    assert builder.append("b").append(1).toString() == "ab1"
    assert (["java/lang/Object"], "java/lang/Object") in autoclass("java.util.HashMap")().get.signatures()
    with pytest.raises(JavaException, match="IndexOutOfBounds"):
        autoclass("java.util.ArrayList")().get(0)
    with pytest.raises(JavaException, match="No static methods"):
        autoclass("java.util.HashMap").isEmpty()
    assert autoclass("java.util.HashMap")().isEmpty() is True
