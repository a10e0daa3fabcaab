"""One error tree: drawn as it is, and every class of it says what to do."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

import broker
from broker import errors
from broker.errors import BrokerError, SettingsError, SettingsErrors


def derived(root: type[BrokerError]) -> list[type[BrokerError]]:
    """Those of the tree; what ``client.mcp`` mixes with the SDK's errors at run time is not."""
    return [each for each in root.__subclasses__() if each.__module__ == errors.__name__]


def tree(root: type[BrokerError], prefix: str = "") -> Iterator[str]:
    """The lines below ``root``, drawn as in the docstring of ``broker.errors``."""
    below = derived(root)
    for each in below:
        last = each is below[-1]
        yield f"{prefix}{'└──' if last else '├──'} {each.__name__}"
        yield from tree(each, prefix + ("    " if last else "│   "))


def classes(root: type[BrokerError] = BrokerError) -> list[type[BrokerError]]:
    return [root, *(each for below in derived(root) for each in classes(below))]


ALL = pytest.mark.parametrize("error", classes(), ids=lambda error: error.__name__)


def test_the_drawn_tree_is_the_real_one() -> None:
    """The docstring shows each class at its place, in the order of the file."""
    _, _, drawing = (errors.__doc__ or "").partition("::\n\n")
    drawn = [line.removeprefix("    ").rstrip() for line in drawing.rstrip().splitlines()]
    assert drawn == ["BrokerError", *tree(BrokerError)]


# A validator of pydantic must raise a ValueError; the schema's edge makes it a SettingsError.
WITHIN_PYDANTIC = ["broker.settings.units.Misfit"]


def test_no_error_grows_outside_the_tree() -> None:
    """No other module of the broker derives an exception, from the tree or beside it."""
    strangers = []
    for found in pkgutil.walk_packages(broker.__path__, "broker."):
        if found.name.startswith(("broker.demo", "broker.__main__")):
            continue
        module = import_module(found.name)
        strangers += [
            f"{found.name}.{name}"
            for name, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, BaseException)
            and kind.__module__ == found.name
            and found.name != errors.__name__
        ]
    assert strangers == WITHIN_PYDANTIC


def test_codes_are_unique_and_stable_words() -> None:
    """A code names one class, and looks like a code."""
    codes = [error.code for error in classes()]
    assert sorted(set(codes)) == sorted(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@ALL
def test_an_error_says_whether_to_retry_and_what_to_do(error: type[BrokerError]) -> None:
    """Each class has its own code, a verdict on retrying, and a remedy in a sentence."""
    assert "code" in vars(error)
    assert isinstance(error.retryable, bool)
    assert error.remedy.endswith(".")


@ALL
def test_an_error_explains_itself(error: type[BrokerError]) -> None:
    """Without a message of its own an error speaks its class's sentence; the remedy can be told."""
    assert (error.__doc__ or "").splitlines()[0].endswith(".")
    if issubclass(error, SettingsErrors):
        parts = [SettingsError("one", remedy="Do this."), SettingsError("two")]
        assert str(error(parts)) == "one; two"
        assert error(parts[:1]).remedy == "Do this."
        return
    given = ["text"] if issubclass(error, SettingsError) else []
    assert str(error(*given))
    assert error(*given, remedy="Do this.").remedy == "Do this."
