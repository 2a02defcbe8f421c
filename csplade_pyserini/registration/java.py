"""A Java that Pyserini can run on."""

import sys
from types import ModuleType
from typing import Any

from csplade_pyserini.lucene.java import OPTIONAL_MODULE, has_module, prepare_java
from csplade_pyserini.registration.patches import Function, after_loading, replaces
from csplade_pyserini.registration.programs import one_sentence

_ADD_OPTIONAL_MODULE = f"--add-modules={OPTIONAL_MODULE}"


@replaces("jnius_config", "add_options")
def add_options(stock: Function, *options: str) -> Any:
    """Leave out the option for a module that the runtime image lacks: the JVM would refuse to start.

    Other users of pyjnius are left alone: only Pyserini asks for this option.
    """
    with one_sentence():
        is_unknown = _ADD_OPTIONAL_MODULE in options and not has_module(prepare_java(), OPTIONAL_MODULE)
    kept = [option for option in options if not (is_unknown and option == _ADD_OPTIONAL_MODULE)]
    if kept:
        stock(*kept)


@after_loading("jnius_config")
def find_java(_: ModuleType) -> None:
    """Find a Java if it is Pyserini that is being imported."""
    if "pyserini" in sys.modules:
        prepare_java()
