#!/usr/bin/env python3
"""Send a program to the server of warm_python.py and wait for it: the `python` of documentation blocks.

    warm_client.py -m MODULE WORDS...

The command line, folder, environment and streams are the caller's. A new interpreter runs what a fork would
run differently. This file imports little: it starts in milliseconds.
"""

import json
import os
import re
import socket
import sys

SERVER = "CSPLADE_WARM_PYTHON"
"""The environment variable that names the server's socket; unset: every program has a new interpreter."""
READ_LATE = re.compile(
    r"CSPLADE_(?!AUTOLOAD)\w+|SLURM_\w+|PYTEST_\w+|PATH|JAVA_HOME|CUDA_VISIBLE_DEVICES|IR_DATASETS_HOME|PYSERINI_CACHE"
    r"|PWD|OLDPWD|SHLVL|_"
)
"""Variables that no library reads while it is imported; a fork may have other values than its server."""


def is_same_in_fork(words: list[str], environment: dict[str, str]) -> bool:
    """Whether a fork of the server runs the program as a new interpreter would."""
    address = environment.get(SERVER)
    if not address or not words or (words[0].startswith("-") and words[0] not in ("-m", "-c")):
        return False
    with open(f"{address}.environment", encoding="utf-8") as file:
        there = json.load(file)
    names = there.keys() | environment.keys()
    return all(READ_LATE.fullmatch(name) or there.get(name) == environment.get(name) for name in names)


def send(
    words: list[str],
    folder: str,
    environment: dict[str, str],
    streams: list[int],
    *,
    new_group: bool = False,
    executable: str = "",
) -> socket.socket:
    """Have a program run. What comes back over the connection: its process id, then its exit code.

    executable: the `python` of the program's own commands, if another one than usual.
    """
    request = {"words": words, "folder": folder, "environment": environment, "new_group": new_group}
    request["executable"] = executable
    content = json.dumps(request).encode()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(environment[SERVER])
    socket.send_fds(connection, [len(content).to_bytes(8)], streams)
    connection.sendall(content)
    return connection


def main() -> None:
    """Run the command line's program, and exit with its code."""
    words, environment = sys.argv[1:], dict(os.environ)
    if not is_same_in_fork(words, environment):
        python = environment["CSPLADE_NEW_PYTHON"]
        os.execv(python, [python, *words])
    connection = send(words, os.getcwd(), environment, [0, 1, 2], executable=os.path.abspath(sys.argv[0]))
    with connection.makefile("r") as answer:
        answer.readline()
        code = int(answer.readline() or -9)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
