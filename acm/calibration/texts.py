"""Reads calibration texts from a file or the Hugging Face hub, and chooses a diverse subset of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acm.calibration import defaults
from acm.errors import UserError, listed
from acm.hub import with_revision
from acm.reading import parse_json

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

JSON_LINES = (".jsonl", ".ndjson", ".json")  # endings of files that hold an object on each line
TABLES = (".csv", ".tsv")


def read_texts(path: str | Path, field: str = defaults.FIELD) -> list[str]:
    """Calibration texts: the lines of a text file, a field of a JSONL file, or a field of a hub dataset (split train).

    path: the file; or ``owner/name`` of the dataset, with ``@`` and a commit or tag where not the newest is meant.
    field: one name, or several joined by ``+``, whose texts are then joined by a space. (The paper does not say which
    fields of s1K it used.) A field that holds a list of texts is joined too.

    Raises UserError for a file or dataset that cannot be read, a missing field, and where there is no text or an
    empty one.
    """
    path = Path(path)
    if not path.is_file():
        on_hub = with_revision(str(path))
        if on_hub and not Path(on_hub[0]).suffix[1:].isalpha():  # s1K-1.1 is a dataset, questions.jsonl a file
            rows = hub_rows(*on_hub)
            return check_texts([field_of(row, field, f"{path}, row {i}") for i, row in enumerate(rows)], str(path))
        raise UserError(f"calibration file {path} does not exist; mend --texts, or `calibration.texts` of the profile.")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"calibration file {path} is not readable as UTF-8 text (byte {error.start}); convert it."
        ) from None
    numbered = enumerate(content.split("\n"), 1)  # splitlines would split at separators that JSON may hold
    lines = [(f"{path}, line {i}", line) for i, line in numbered if line.strip()]
    if path.suffix.lower() in JSON_LINES:
        return check_texts([field_of(parsed(line, place), field, place) for place, line in lines], str(path))
    if path.suffix.lower() in TABLES or (lines and lines[0][1].lstrip().startswith(('{"', "[{"))):
        raise UserError(
            f"{path} holds a table or JSON, not one text a line; save it as JSONL, in a file named *.jsonl."
        )
    return check_texts([line for _, line in lines], str(path))


def hub_rows(name: str, revision: str | None = None) -> list[dict[str, Any]]:
    """The rows of a hub dataset's train split. revision: None is the newest. UserError where it cannot be had."""
    from datasets import load_dataset

    try:
        return list(load_dataset(name, split="train", revision=revision))
    except Exception as error:  # whatever network, hub or cache raise
        at = f" at revision {revision}" if revision else ""
        raise UserError(
            f"calibration texts {name}: no such file here, and the hub gives no dataset of that name{at} "
            f"({type(error).__name__}). Download it once where there is network, save it as JSONL and name that file."
        ) from None


def parsed(line: str, place: str) -> object:
    """A line of JSON. place: for the UserError of a line that is none."""
    try:
        return parse_json(line)
    except ValueError as error:
        raise UserError(f"{place} is not JSON: {error}.") from None


def field_of(row: object, field: str, place: str) -> str:
    """The text of a row: its field, or its fields joined by a space. place: for the UserError where one is missing."""
    if not isinstance(row, dict):
        raise UserError(f'{place} is not a JSON object such as {{"{field}": "…"}}.')
    found = []
    for name in map(str.strip, field.split("+")):
        value = row.get(name)
        value = " ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
        if not isinstance(value, str):
            raise UserError(f"{place}: no field '{name}' that is text; it has {listed(row)}.")
        found.append(value)
    return " ".join(found)


def check_texts(texts: Sequence[str], source: str) -> list[str]:
    """The texts as they came. UserError, which names their source, where there is none or one is empty."""
    if not texts:
        raise UserError(f"{source} holds no calibration text; give at least one.")
    for number, text in enumerate(texts, 1):
        if not str(text).strip():
            raise UserError(f"{source}: calibration text {number} is empty; remove it or fill it.")
    return list(texts)


def texts_hash(texts: Sequence[str]) -> str:
    """SHA-256 of texts in their order, as hexadecimal digits.

    Another edition of a dataset changes the hash where it changes a text.
    """
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def select_texts(
    texts: Sequence[str],
    clusters: int = defaults.CLUSTERS,
    per_cluster: int = defaults.PER_CLUSTER,
    seed: int = defaults.TEXT_SEED,
    encoder: str | None = None,
) -> list[str]:
    """A diverse subset: K-means sorts the texts into ``clusters``, and ``per_cluster`` texts are drawn from each.

    The paper sorts s1K into 20 clusters and takes 5 texts of each, with an encoder that it does not name. encoder: a
    model of sentence-transformers, where that package is installed; None: TF-IDF, which needs no download. Where a
    cluster has too few texts, the missing ones are drawn from the other texts. The same seed gives the same texts, in
    the order of the input.
    """
    from sklearn.cluster import KMeans

    if len(texts) <= clusters * per_cluster:
        return list(texts)
    label = KMeans(clusters, random_state=seed, n_init=10).fit_predict(features(texts, encoder))
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(label == c))[:per_cluster] for c in range(clusters)])
    rest = rng.permutation(np.setdiff1d(np.arange(len(texts)), chosen))[: clusters * per_cluster - len(chosen)]
    return [texts[i] for i in sorted([*chosen, *rest])]


def features(texts: Sequence[str], encoder: str | None) -> np.ndarray | spmatrix:
    """(texts, features): sentence embeddings, or sparse TF-IDF weights of the words. UserError without the encoder."""
    if encoder is None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(token_pattern=r"(?u)\S+").fit_transform(texts)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        remedy = "install it, or leave the encoder out for TF-IDF"
        raise UserError(f"encoder {encoder} needs the package sentence-transformers; {remedy}.") from None
    try:
        model = SentenceTransformer(encoder, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    except Exception as error:  # whatever network, hub or files raise
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"encoder {encoder} cannot be loaded ({reason}); leave it out for TF-IDF.") from None
    return model.encode(list(texts))
