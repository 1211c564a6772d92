"""Reads the files that users write, YAML and JSON, strictly: what such a file says twice, or no reader agrees on, is
refused.

The parsers would let it pass: of a key that comes twice they take the last one. Every error is a :class:`UserError` of
one sentence that names the file.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from acm.errors import UserError, os_reason

LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it
MAX_BYTES = 2 << 20  # the most bytes of a YAML file
MAX_NODES = 10_000  # the most values of a YAML file, counted with its aliases written out
MAX_DEPTH = 50  # how deep the values of a YAML file may lie
# What constructing YAML's values may raise. Those of YAML's own types, such as !!timestamp, add the last three.
UNREADABLE = (yaml.YAMLError, ValueError, KeyError, AttributeError)

OTHER_BASE = re.compile(r"[+-]?(0[0-9_]+|\d[\d_]*(:\d+)+)")  # `010` is 8, and `1:30` is 90
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file; UserError for a file that is none, is too large, or says a key twice."""
    documents = read_documents(path)
    if len(documents) > 1:
        raise UserError(f"{path} holds {len(documents)} documents, separated by `---`; keep one.")
    return documents[0]


def read_documents(path: Path) -> list[dict[str, Any]]:
    """The mappings of a YAML file, one for each of its documents (at least one); UserError as :func:`read_yaml`."""
    text = read_text(path, "YAML", MAX_BYTES)
    try:
        check_size(yaml.parse(text, Loader=LOADER))
        nodes, known = list(yaml.compose_all(text, Loader=LOADER)), dict[int, float]()
        for node in nodes:
            check_node(node, known)
        content = [document for document in yaml.load_all(text, Loader=LOADER) if document is not None]
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable YAML file: {explain_yaml(error, text)}.") from None
    if not content or not all(isinstance(document, dict) for document in content):
        raise UserError(f"{path} must hold `key: value` lines.")
    return content


def check_size(events: Iterable[yaml.Event]) -> None:
    """ValueError for a YAML file with too many values, or values that lie too deep. It reads no further than that."""
    depth = values = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_NODES:
            raise ValueError(f"it holds more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise ValueError(f"its values lie more than {MAX_DEPTH} levels deep")


def check_node(node: yaml.Node, known: dict[int, float]) -> float:
    """Number of nodes below and with this one, aliases written out.

    known: those of the nodes that were seen. ValueError for a key that comes twice, and for too many nodes.
    """
    if id(node) not in known:
        known[id(node)] = math.inf  # of a node that holds itself
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            check_keys([key for key, _ in children])
            children = [child for pair in children for child in pair]
        elif isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and OTHER_BASE.fullmatch(node.value):
            raise ValueError(f"line {node.start_mark.line + 1}: YAML does not read {node.value} as a decimal number")
        known[id(node)] = 1 + sum(check_node(child, known) for child in children)
    if known[id(node)] > MAX_NODES:
        raise ValueError(f"it expands to more than {MAX_NODES} values through its aliases; write them out")
    return known[id(node)]


def check_keys(keys: list[yaml.Node]) -> None:
    """ValueError for a key of a mapping that comes twice, in whatever spelling: `0` and `"0"` are one."""
    lines: dict[str, int] = {}
    for key in keys:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"line {line}: the key '{key.value}' stands in line {lines[key.value]} already")
            lines[key.value] = line


def explain_yaml(error: Exception, text: str) -> str:
    """What is wrong with a YAML text, with the line where it is known."""
    mark = getattr(error, "problem_mark", None)
    said = " ".join(str(getattr(error, "problem", None) or error).split()).rstrip(".")
    if mark is None:
        return f"{said:.300}"
    line = "".join(text.splitlines()[mark.line : mark.line + 1])
    tabs = " (indent with spaces, not tabs)" if "\t" in line else ""
    return f"line {mark.line + 1}, {line!r:.80}: {said:.300}{tabs}"


def read_json(path: Path, finite: bool = False) -> dict[str, Any]:
    """The object of a JSON file; UserError for a file that is none, or says a key twice.

    finite: refuse NaN, Infinity and numbers beyond the range of float64.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not readable JSON: it is not a file.")
    try:
        content = parse_json(read_text(path, "JSON"), finite)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON: {error!s:.300}; mend it, or fetch it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object; mend it, or fetch it again.")
    return content


def parse_json(text: str, finite: bool = False) -> Any:
    """The content of a JSON text, such as a line of a JSONL file; ValueError as :func:`read_json`."""
    options: dict[str, Any] = {"parse_constant": finite_number, "parse_float": finite_number} if finite else {}
    try:
        content = json.loads(text, object_pairs_hook=distinct_pairs, **options)
        if SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("its values lie too deep") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    return content


def finite_number(text: str) -> float:
    """A text as Python's float; ValueError for one that is not finite, or no number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text:.30} is not a finite number")
    return value


def distinct_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; ValueError for a key that comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {name!r:.80} comes twice")
    return found


def read_text(path: Path, kind: str, most: int = 1 << 30) -> str:
    """A file's text, UTF-8 (a byte order mark is skipped). UserError where it cannot be read, or is larger than most.

    kind: what the file should be, for the message. most: bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise UserError(f"{path} is too large for a {kind} file: it has more than {most >> 20} MiB.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8; save it as UTF-8, or fetch it again"
    except OSError as error:
        why = os_reason(error)
    except UserError:
        raise
    except ValueError:  # a NUL in the path
        why = "there is no such file"
    what = "readable JSON" if kind == "JSON" else f"a readable {kind} file"
    raise UserError(f"{path} is not {what}: {why}.")
