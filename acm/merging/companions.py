"""Reads what lies beside a model's weights: tokenizer, chat templates, generation and processor settings.

Tokenizer files are read as JSON; no tokenizer is loaded. Files of text are not trusted, and the merged model gets some
of them. So a link among them must not lead out of the model's folder, unless into the hub's cache: a folder from
elsewhere could otherwise carry a private file into a result.
"""

from __future__ import annotations

import os
import reprlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from acm.checkpoints import Checkpoint, has_tokenizer
from acm.errors import UserError
from acm.files import digest
from acm.reading import read_json, read_text

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
GENERATION = "generation_config.json"
ADDED = "added_tokens.json"
VOCABULARY_FILES = (  # which tokens there are, and how text is split into them
    TOKENIZER, "tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "merges.txt", "vocab.txt", ADDED,
)  # fmt: skip
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
PLAIN = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)  # how its tokens are read
TEMPLATE, OLD_TEMPLATE = "chat_template.jinja", "chat_template.json"
TEMPLATES = "additional_chat_templates"  # a folder of templates, each named after its file
COPIED = (*VOCABULARY_FILES, TOKENIZER_CONFIG, "special_tokens_map.json", TEMPLATE, OLD_TEMPLATE, *PROCESSOR_FILES)
MAX_BYTES = 64 << 20  # of one file; the largest tokenizers have 35 MB


@dataclass
class Vocabulary:
    """Tokens of one model. ids: token → id. added: the entries of those that were added to the trained vocabulary."""

    ids: dict[str, int]
    added: dict[str, dict[str, Any]] = field(default_factory=dict)


class Companions:
    """The files beside the weights of one model. Each is read once, when it is asked for.

    parsed: what models whose tokenizer.json is the same share, by its digest.
    """

    def __init__(self, model: Checkpoint, parsed: dict[str, dict[str, Any]]) -> None:
        self.name, self.home, self.folder, self.parsed = model.name, model.home, model.tokenizer, parsed

    @cached_property
    def files(self) -> dict[str, Path]:
        """What a merged model takes over from its source, by path within the folder; UserError for a bad link."""
        more = sorted(path.name for path in (self.folder / TEMPLATES).glob("*.jinja"))
        places = dict.fromkeys((*COPIED, *(f"{TEMPLATES}/{name}" for name in more)), self.folder)
        places |= dict.fromkeys(("config.json", GENERATION), self.home)
        return {name: folder / name for name, folder in places.items() if is_text(folder, name)}

    @cached_property
    def has_tokenizer(self) -> bool:
        """Whether the folder holds a tokenizer's vocabulary."""
        return has_tokenizer(self.folder)

    @cached_property
    def vocabulary_files(self) -> dict[str, str]:
        """Digest of each file that decides the vocabulary."""
        return {name: digest(self.files[name]) for name in VOCABULARY_FILES if name in self.files}

    @cached_property
    def tokenizer(self) -> dict[str, Any] | None:
        """The content of tokenizer.json; None without one."""
        if TOKENIZER not in self.files:
            return None
        key = self.vocabulary_files[TOKENIZER]
        if key not in self.parsed:
            self.parsed[key] = read_json(self.files[TOKENIZER])
        return self.parsed[key]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """tokenizer_config.json, and what special_tokens_map.json adds to it."""
        return self.json("special_tokens_map.json") | self.json(TOKENIZER_CONFIG)

    @cached_property
    def templates(self) -> dict[str, str]:
        """Chat templates by name, wherever they are written; a template's last line break does not count."""
        found = self.json(OLD_TEMPLATE).get("chat_template") or {}
        inline = self.settings.get("chat_template") or found
        if isinstance(inline, list):  # of {"name": …, "template": …}
            inline = {each.get("name"): each.get("template") for each in inline if isinstance(each, dict)}
        elif not isinstance(inline, dict):
            inline = {"default": inline}
        for name, path in self.files.items():
            if path.suffix == ".jinja":
                text = read_text(path, "chat template")
                inline = inline | {"default" if name == TEMPLATE else path.stem: text}
        return {str(name): str(text).removesuffix("\n") for name, text in inline.items()}

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Its tokens, as :func:`read_vocabulary` finds them."""
        return read_vocabulary(self)

    def special(self, name: str) -> str | None:
        """The text of a special token, such as ``eos_token``; None without one."""
        token = self.settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        return token if isinstance(token, str) else None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file's content; empty without the file."""
        return read_json(self.files[name], finite=True) if name in self.files else {}


def companions_of(models: list[Checkpoint]) -> list[Companions]:
    """What lies beside the weights of each model. A model that comes twice has the same twice."""
    parsed: dict[str, dict[str, Any]] = {}
    found = {model: Companions(model, parsed) for model in models}
    return [found[model] for model in models]


def read_vocabulary(companions: Companions) -> Vocabulary | None:
    """The vocabulary in a model's tokenizer files; None where these are no JSON (a model with sentencepiece alone).

    UserError for a token whose id is no whole number.
    """
    path, content = companions.folder / TOKENIZER, companions.tokenizer
    if content is None:
        if "vocab.json" not in companions.files:
            return None
        path = companions.folder / "vocab.json"
        content = {"model": {"vocab": companions.json(path.name)}}
    try:
        listed = content["model"]["vocab"]
        trained = dict(listed) if isinstance(listed, dict) else {token: i for i, (token, *_) in enumerate(listed)}
        added = {entry["content"]: entry for entry in content.get("added_tokens") or []}
        vocabulary = Vocabulary(trained | {token: entry["id"] for token, entry in added.items()}, added)
        check_tokens(path, vocabulary.ids)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a tokenizer as the tokenizers library writes it; fetch it again.") from None
    taken = set(vocabulary.ids.values())
    for entry in later_tokens(companions):
        if entry["content"] not in vocabulary.ids and entry["id"] not in taken:
            vocabulary.added[entry["content"]] = entry
            vocabulary.ids[entry["content"]] = entry["id"]
    return vocabulary


def check_tokens(path: Path, ids: dict[str, int]) -> None:
    """UserError for a token whose id is no whole number."""
    for token, i in ids.items():
        if not isinstance(token, str) or type(i) is not int or i < 0:
            found = f"the token {reprlib.repr(token)} has the id {reprlib.repr(i)}"
            raise UserError(f"{path}: {found}, which is not a whole number; fetch it again.")


def later_tokens(companions: Companions) -> list[dict[str, Any]]:
    """Entries of the tokens that were added beside the vocabulary's file."""
    listed = companions.settings.get("added_tokens_decoder") or {}
    try:
        found = [entry | {"id": int(i)} for i, entry in listed.items()]
        ids = {entry["content"]: entry["id"] for entry in found}
    except (KeyError, TypeError, ValueError, AttributeError):
        path = companions.folder / TOKENIZER_CONFIG
        raise UserError(f"{path}: added_tokens_decoder is not a mapping of ids to tokens; fetch it again.") from None
    check_tokens(companions.folder / TOKENIZER_CONFIG, ids)
    check_tokens(companions.folder / ADDED, plain := companions.json(ADDED))
    return found + [PLAIN | {"content": token, "id": i} for token, i in plain.items()]


def is_text(folder: Path, name: str) -> bool:
    """Whether a folder has this file of text.

    UserError for a link to nothing or out of the folder, and for a file that cannot be read or is far too large.
    """
    path = folder / name
    if not path.is_file():
        if path.is_symlink():
            raise UserError(f"{path} is a link to nothing that can be read; put the file itself there.")
        return False
    if not within(path.resolve(), folder.resolve()):
        raise UserError(
            f"{path} is a link to {path.resolve()}, outside its folder and the hub's cache, so it is not copied into a "
            "result; put the file itself there."
        )
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read by you; change its permissions.")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{path} has {size >> 20} MB, and such a file has {MAX_BYTES >> 20} at most; fetch it again.")
    return True


def within(path: Path, folder: Path) -> bool:
    """Whether a file lies in a model's folder, or in the hub's cache. Both are resolved.

    The cache's own folder may hold an access token beside its models.
    """
    from huggingface_hub import constants

    blobs = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder
    cache = Path(constants.HF_HUB_CACHE).resolve()
    cached = path.is_relative_to(cache) and path.relative_to(cache).parts[0].startswith("models--")
    return path.is_relative_to(folder) or path.is_relative_to(blobs) or cached
