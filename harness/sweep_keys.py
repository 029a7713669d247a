"""Keys of the `sweep` section, written with dots or as nested mappings, brought into one form."""

from __future__ import annotations

from harness.suite_yaml import Document, KeyPath, Value


def nest_sweeps(document: Document) -> None:
    """Rewrite dotted keys of the `sweep` section as nested ones, so that an override finds them by its own dots."""
    sweep = document.data.get("sweep")
    for name, keys in sweep.items() if isinstance(sweep, dict) else ():
        if not isinstance(keys, dict):
            continue
        written = list(keys.items())
        keys.clear()  # and filled again, so that the order stays the written one
        for key, value in written:
            *outer, last = key.split(".")
            values = mapping_at(keys, tuple(outer))
            if values is None or not last or last in values:
                problem = "the key is given twice, or the part before its last dot is a list."
                document.add_fault(("sweep", name, key), problem)
            else:
                values[last] = value
                if outer:
                    _move_places(document, ("sweep", name, key), ("sweep", name, *outer, last))


def mapping_at(values: dict[str, Value], path: KeyPath) -> dict[str, Value] | None:
    """The mapping at a path, made where there is none; None where something else is in the way."""
    for part in path:
        inner = values.setdefault(str(part), {})
        if not part or not isinstance(inner, dict):
            return None
        values = inner
    return values


def _move_places(document: Document, old: KeyPath, new: KeyPath) -> None:
    for path in [path for path in document.places if path[: len(old)] == old]:
        document.places[(*new, *path[len(old) :])] = document.places.pop(path)
