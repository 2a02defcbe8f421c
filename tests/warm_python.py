"""A server that runs Python programs in forks of an interpreter whose slow imports are done.

    python warm_python.py SOCKET OWNER        serves until the process OWNER ends

A fork is a process of its own, with the arguments, folder, environment and streams that it is sent. It
imports our package and Pyserini anew, starts its own JVM, and runs what programs leave for their exit. It
saves only the imports of other people's libraries: most of the time of a short command. Linux only (pidfds).
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import types
from pathlib import Path

LIBRARIES = (
    "accelerate",
    "faiss",
    "filelock",
    "multiprocessing.spawn",
    "numpy",
    "openai",
    "pandas",
    "peft",
    "requests",
    "safetensors.torch",
    "sklearn.preprocessing",
    "tiktoken",
    "tokenizers",
    "torch",
    "torch.utils.data",
    "tqdm",
    "transformers",
    "transformers.integrations.peft",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "transformers.models.auto.processing_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.clip.modeling_clip",
    "transformers.models.dpr.modeling_dpr",
    "transformers.models.roberta.modeling_roberta",
    "yaml",
)
"""Libraries that Pyserini and this package import. Neither is among them: the hook acts while Pyserini loads.

Libraries that start threads, such as onnxruntime, cannot be here: a fork has their locks, not the threads.
Nor can ir_datasets: it reads its environment variable while it is imported.
"""
STREAMS = 3


def main() -> None:
    """Serve; a fork comes back from `serve` with its program, and runs it."""
    request = serve(sys.argv[1], int(sys.argv[2]))
    if request is None:
        return
    try:
        run(request)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        sys.last_exc = error
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    leave(code)


def leave(code: object) -> None:
    """End as an interpreter does, but free no objects: those of the libraries alone would take a second."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 255)


def serve(address: str, owner: int) -> dict | None:
    """Answer requests until the owner ends. Return a request in the fork that has to run it."""
    watched = os.pidfd_open(owner)
    for name in LIBRARIES:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    unsafe = [name for name in threads if name != "jemalloc_bg_thd"]  # pyarrow's; jemalloc knows forks
    assert len(unsafe) == 1, f"threads {threads}: a fork would wait for locks that nobody opens"
    gc.freeze()  # the collector of a fork leaves shared pages alone
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(f"{address}.new")
    server.listen(64)
    os.rename(f"{address}.new", address)  # whoever sees it can connect
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the monitors
    while True:
        ready, _, _ = select.select([server, watched], [], [])
        if server not in ready:
            return None
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        server.close()
        os.close(watched)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, streams = receive(connection)
        pid = os.fork()
        if pid:
            monitor(connection, pid)
            os._exit(0)
        connection.close()
        if request["new_group"]:
            os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        open_streams()
        return request


def open_streams() -> None:
    """Open the three streams anew: those of the server remember whether its own could seek."""
    for number, name, mode, errors in (
        (0, "stdin", "r", "strict"),
        (1, "stdout", "w", "strict"),
        (2, "stderr", "w", "backslashreplace"),
    ):
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        stream.reconfigure(line_buffering=name == "stderr")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """A request: its length in eight bytes, with the three streams, then JSON."""
    head, streams, _, _ = socket.recv_fds(connection, 8, STREAMS)
    with connection.makefile("rb") as file:
        return json.loads(file.read(int.from_bytes(head))), streams


def monitor(connection: socket.socket, pid: int) -> None:
    """Send the program's process id, then its exit code. Kill the program when nobody waits any more."""
    connection.sendall(f"{pid}\n".encode())
    watched = os.pidfd_open(pid)
    ready, _, _ = select.select([connection, watched], [], [])
    if watched not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if connection not in ready:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def run(request: dict) -> None:
    """Run `-m MODULE`, `-c CODE` or `FILE` with its arguments, as the interpreter's command line does."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable = request["executable"] or sys.executable
    sys.orig_argv = [sys.executable, *request["words"]]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main  # processes that multiprocessing spawns load it again
    first, *words = request["words"]
    if first == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        return
    if first == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *words[1:]]
        code = compile(words[0], "<string>", "exec")
    else:
        file = Path(first).absolute()
        sys.path[0] = str(file.parent)
        sys.argv = request["words"]
        main.__file__ = str(file)
        code = compile(file.read_bytes(), file, "exec")
    exec(code, vars(main))


if __name__ == "__main__":
    main()
