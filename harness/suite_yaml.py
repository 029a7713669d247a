"""YAML as plain values together with the line every key stands on.

PyYAML's own loaders follow YAML 1.1, in which `2e-4` is text, `010` is eight and `no` is a truth value. A suite file
is read by the YAML 1.2 core rules instead, as editors do: only true/false, decimal numbers, null and text.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from harness.errors import Fault, InvalidInput
from harness.suite_paths import siblings

KeyPath = tuple[str | int, ...]
Value = dict[str, "Value"] | list["Value"] | str | int | float | bool | None

_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = {"", "~", "null", "Null", "NULL"}
_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Place:
    """Where a value came from: a file and a line in it, or the command line (without a line)."""

    file: str
    line: int | None


@dataclass
class Document:
    """A YAML file whose top is a mapping. `places` has every key path; `faults` collects what is wrong so far.

    `origins` maps key paths that a sweep made to those that the user wrote, which faults name.
    """

    data: dict[str, Value]
    places: dict[KeyPath, Place]
    faults: list[Fault] = field(default_factory=list)
    origins: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def written(self, path: KeyPath) -> KeyPath:
        """The key path as the user wrote it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return (*self.origins[path[:length]], *path[length:])
        return path

    def place(self, path: KeyPath) -> Place:
        """Place of the key path, or of the nearest enclosing one that was written down."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.places[()]

    def keys(self, section: str) -> list[str]:
        """Names given under a top-level key, faulty entries included."""
        values = self.data.get(section)
        return list(values) if isinstance(values, dict) else []

    def add_fault(self, path: KeyPath, problem: str, nearest: str | None = None) -> None:
        """Note that something is wrong with the value at this key path."""
        path = self.written(path)
        place = self.place(path)
        fault = Fault(place.file, place.line, dotted(path), problem, nearest)
        if fault not in self.faults:
            self.faults.append(fault)


def dotted(path: KeyPath) -> str:
    """The key path as it is written in an override, e.g. models.base.path."""
    return ".".join(str(part) for part in path)


def is_printable(text: str) -> bool:
    """Whether the text has neither control characters nor lone surrogates, which no file name or JSON can hold."""
    return _UNPRINTABLE.search(text) is None


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The valid name that looks most like the one given, else one that begins with it, or None where none does.

    Hangul is compared letter by letter, so that a syllable with one wrong letter is nearly right.
    """
    given, by_letters = _letters(name), {_letters(valid): valid for valid in names}
    matches = difflib.get_close_matches(given, list(by_letters), n=1, cutoff=0.6)
    longer = (letters for letters in by_letters if given and letters.startswith(given))
    match = matches[0] if matches else next(longer, None)
    return None if match is None else by_letters[match]


def _letters(name: str) -> str:
    return unicodedata.normalize("NFD", name.casefold())


def shown(path: Path) -> str:
    """The path as a person would type it: relative to the current folder where it lies inside it."""
    resolved = path.resolve()
    here = Path.cwd()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(resolved)


def read_text(path: Path) -> str:
    """The file's UTF-8 text, without a byte order mark; raises InvalidInput where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem, close = "there is no such file.", nearest(path.name, siblings(path))
    except IsADirectoryError:
        problem, close = "this is a folder, not a file.", None
    except UnicodeDecodeError as error:
        problem, close = f"the file is not UTF-8 text (byte {error.start}).{_as_cp949(error.object)}", None
    except OSError as error:
        problem, close = f"the file cannot be read: {error.strerror}.", None
    raise InvalidInput([Fault(shown(path), None, "", problem, close)])


def _as_cp949(content: bytes) -> str:
    """What to do with a file in the old Korean encoding, which Excel's plain "CSV" still writes."""
    try:
        content.decode("cp949")
    except UnicodeDecodeError:
        return ""
    return " It reads as CP949: save it as 'CSV UTF-8', or convert it with iconv -f CP949 -t UTF-8."


def read_document(path: Path) -> Document:
    """Read a YAML file whose top is a mapping. Syntax errors raise; doubled keys are noted in `faults`."""
    file = shown(path)
    try:
        node = yaml.compose(read_text(path), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise InvalidInput([_syntax_fault(file, error)]) from None
    if not isinstance(node, yaml.MappingNode):
        raise InvalidInput([Fault(file, 1, "", "the file must hold 'key: value' lines.")])
    document = Document({}, {})
    value = _Builder(file, document).build(node, ())
    assert isinstance(value, dict)
    document.data = value
    return document


def parse_value(text: str) -> Value:
    """One YAML value, such as the right-hand side of an override; raises ValueError where it is not YAML."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(getattr(error, "problem", None) or str(error)) from None
    if node is None:
        return None
    document = Document({}, {})
    value = _Builder("", document).build(node, ())
    if document.faults:
        raise ValueError(document.faults[0].problem)
    return value


def _syntax_fault(file: str, error: yaml.YAMLError) -> Fault:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" (column {mark.column + 1})" if mark else ""
        return Fault(file, mark.line + 1 if mark else None, "", f"not valid YAML: {error.problem}{where}.")
    return Fault(file, None, "", f"not valid YAML: {error}.")


class _Builder:
    """Turns YAML nodes into values and notes in a document where each came from."""

    def __init__(self, file: str, document: Document) -> None:
        self.file = file
        self.document = document
        self.open_nodes: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: KeyPath) -> Value:
        """The value of a node; `path` is where it stands in the file."""
        self.document.places.setdefault(path, Place(self.file, node.start_mark.line + 1))
        if node in self.open_nodes:
            self.document.add_fault(path, "an anchor must not contain itself.")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.open_nodes.append(node)
        value: Value
        if isinstance(node, yaml.SequenceNode):
            value = [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            value = self._mapping(node, path)
        self.open_nodes.pop()
        return value

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Value:
        text: str = node.value
        if not is_printable(text):
            self.document.add_fault(path, "the text holds a control character or half a character.")
            return ""
        if not node.tag.endswith(":str"):
            self.document.add_fault(path, f"YAML tags such as {node.tag} are not read here.")
            return text
        if node.style is not None:
            return text
        if text in _NULL:
            return None
        if text in _TRUTH:
            return _TRUTH[text]
        if _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        return float(text) if _NUMBER.fullmatch(text) else text

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or not is_printable(key_node.value):
                problem = "a key must be a plain word."
                self.document.faults.append(Fault(self.file, line, dotted(path), problem))
                continue
            key: str = key_node.value
            key_path = (*path, key)
            if key in values:
                problem = f"the key is given twice (first on line {self.document.places[key_path].line})."
                self.document.faults.append(Fault(self.file, line, dotted(key_path), problem))
                continue
            self.document.places[key_path] = Place(self.file, line)
            values[key] = self.build(value_node, key_path)
        return values
