"""Java methods that any thread may call at any time.

A method of pyjnius keeps the object that it was last looked up on, its receiver, and all threads share the
method. Between one thread's look-up and its call, another thread may look the method up on its own object:
then a query, a hit or a document of one thread ends up in another's answer. Here each call takes a copy of
the method that no other call uses, so no lock is needed and searches run side by side.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from csplade_pyserini.registration.patches import after_loading, missing_symbols, relies_on
from csplade_pyserini.registration.programs import say

_REFLECT = "jnius.reflect"
_FRESH = 2
"""Value of autoclass's `include_private` that means the same as True, and has classes made anew."""

relies_on(_REFLECT, "JavaClass", "JavaMethod", "JavaMultipleMethod", "MetaJavaClass", "autoclass")


@after_loading("pyserini.pyclass")
def give_each_call_its_method(_: ModuleType) -> None:
    """Replace the methods of all Java classes: of those loaded from now on, and of those loaded already."""
    reflect: Any = sys.modules[_REFLECT]
    if isinstance(reflect.JavaMethod, _Maker):
        return
    missing = missing_symbols(reflect)
    if missing:
        say(f"this pyjnius is not one we know, it has no {', '.join(missing)}: search from one thread only")
        return
    loaded = reflect.JavaClass.__subclasses__()
    stock_methods = (reflect.JavaMethod, reflect.JavaMultipleMethod)
    reflect.JavaMethod = _Maker(reflect.JavaMethod)
    reflect.JavaMultipleMethod = _Maker(reflect.JavaMultipleMethod)
    for java_class in loaded:
        _replace_methods(reflect, java_class, stock_methods)


def _replace_methods(reflect: Any, java_class: Any, stock_methods: tuple[type, ...]) -> None:
    """Replace the methods of a loaded class by those of the same class, made anew."""
    anew = vars(reflect.autoclass(java_class.__javaclass__.replace("/", "."), True, _FRESH))
    for name, method in list(vars(java_class).items()):
        if type(method) in stock_methods and isinstance(anew.get(name), JavaMethod):
            setattr(java_class, name, anew[name])


class _Maker:
    """Stand-in for one of pyjnius's classes of methods: makes a JavaMethod over it."""

    def __init__(self, stock: type) -> None:
        self._stock = stock

    def __call__(self, *args: Any, **kwargs: Any) -> "JavaMethod":
        return JavaMethod(lambda: self._stock(*args, **kwargs))


class JavaMethod:
    """A method of a Java class, found on the class or on an object as pyjnius's own methods are."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._free: list[Any] = []
        """Classes of one method that no call uses. A list's pop and append are atomic."""
        self._unbound: list[Any] = []
        """Class of one method, never bound, for calls on the class. Any number of calls may use it."""
        self._owner: Any = None
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name

    def __get__(self, receiver: Any, owner: type | None = None) -> Any:
        if receiver is not None:
            return _BoundMethod(self, receiver)
        if not self._unbound:
            self._unbound.append(self._copy())
        return vars(self._unbound[0])[self._name].__get__(None, self._owner)

    def call(self, receiver: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call the method on an object."""
        try:
            java_class = self._free.pop()
        except IndexError:
            java_class = self._copy(receiver)
        method = vars(java_class)[self._name]
        try:
            return method.__get__(receiver)(*args, **options)
        finally:
            method.__get__(None, self._owner)  # lets go of the object
            self._free.append(java_class)

    def _copy(self, receiver: Any = None) -> Any:
        """Make a class with a copy of the method alone, which is of no use once its class is gone.

        Pyjnius resolves static methods with the class, and the others with an object of it.
        """
        from jnius import cast

        reflect: Any = sys.modules[_REFLECT]
        java_class = reflect.MetaJavaClass.__new__(
            reflect.MetaJavaClass,
            self._owner.__name__,
            (reflect.JavaClass,),
            {"__javaclass__": self._owner.__javaclass__, self._name: self._make()},
            classparams=("a copy of one method",),
        )
        if receiver is not None:
            cast(java_class, receiver)
        return java_class


class _BoundMethod:
    """A Java method with its receiver."""

    __slots__ = ("_method", "_receiver")

    def __init__(self, method: JavaMethod, receiver: Any) -> None:
        self._method = method
        self._receiver = receiver

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._method.call(self._receiver, args, options)

    def signatures(self) -> Any:
        """Signatures of the method, as pyjnius's methods tell them."""
        return self._method.__get__(None).signatures()
