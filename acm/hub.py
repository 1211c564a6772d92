"""Fetches models from the Hugging Face hub, once, into the hub's own cache, and links them under the model's name."""

from __future__ import annotations

import re
from pathlib import Path

from acm.errors import UserError
from acm.paths import ROOT, RUNS

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name
BESIDE = ["*.json", "*.txt", "*.model", "*.jinja"]  # config and tokenizer
PATTERNS = ["*.safetensors", *BESIDE]  # no pickles, which can run code when read
SECONDS = 10  # to wait for the hub's answer


def is_hub(model: str) -> bool:
    """Whether the model of a profile is one of the hub: ``owner/name``, and no such path here."""
    return HUB_ID.fullmatch(model) is not None and not (ROOT / model).exists()


def link(model: str, revision: str | None) -> Path:
    """Where a fetched model is found: a link into the hub's cache, whose folders are named after commits."""
    owner, _, name = model.partition("/")
    return RUNS / "hub" / owner / (revision or "main") / name


def with_revision(name: str) -> tuple[str, str | None] | None:
    """Hub id and revision of ``owner/name`` or ``owner/name@revision``. None for what is neither."""
    model, _, revision = name.partition("@")
    return (model, revision or None) if HUB_ID.fullmatch(model) else None


def download(model: str, revision: str | None) -> Path:
    """The model's folder in the hub's own cache, fetched unless it is there. UserError with the remedy otherwise."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(model, revision=revision, allow_patterns=PATTERNS, etag_timeout=SECONDS))
    except Exception as error:  # of many kinds: network, hub, terms, cache, disk
        raise refusal(model, revision, error) from None
    if not any(found.glob("*.safetensors")):
        raise pickled(model)
    return found


def tokenizer(model: str, revision: str | None) -> Path:
    """A folder with the model's tokenizer, in the hub's own cache; no weights are fetched. UserError otherwise."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=BESIDE, etag_timeout=SECONDS))
    except Exception as error:  # as of download
        raise refusal(model, revision, error) from None


def fetch(model: str, revision: str | None) -> Path:
    """Download a model, and link it to where a profile finds it. Returns the link."""
    found, target = download(model, revision), link(model, revision)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(found)
    return target


def local(model: str, revision: str | None) -> Path | None:
    """Where the model is linked, or lies whole in the hub's cache; None where it does not. The hub is not asked."""
    from huggingface_hub import snapshot_download

    if link(model, revision).is_dir():
        return link(model, revision)
    try:
        found = Path(snapshot_download(model, revision=revision, allow_patterns=PATTERNS, local_files_only=True))
    except Exception:  # not there, incomplete, or no readable cache
        return None
    return found if any(found.glob("*.safetensors")) else None


def ask(model: str, revision: str | None) -> UserError | None:
    """What speaks against fetching a model: unknown, gated, pickled, or out of reach. None if nothing does.

    Nothing is downloaded.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        if constants.is_offline_mode():
            raise OfflineModeIsEnabled
        found = HfApi().model_info(model, revision=revision, timeout=SECONDS)
        HfApi().auth_check(model)
    except Exception as error:
        return refusal(model, revision, error)
    return None if any(file.rfilename.endswith(".safetensors") for file in found.siblings or []) else pickled(model)


def check_all(models: dict[str, str | None]) -> None:
    """UserError that names each model that is not here and cannot be fetched, one a line. models: hub id → commit."""
    absent = {model: revision for model, revision in models.items() if not local(model, revision)}
    if errors := [error for model, revision in absent.items() if (error := ask(model, revision))]:
        raise UserError("\n  ".join(map(str, errors)))


def require(model: str, revision: str | None, profile: str) -> None:
    """UserError where a model of the hub is not here yet. It says whether, and how, the model can be had.

    Nothing is downloaded. profile: name of the profile that asks.
    """
    if not link(model, revision).is_dir():
        raise ask(model, revision) or UserError(
            f"model {model} is on the hub but not here yet; fetch it with `python -m acm fetch --profile {profile}`."
        )


def pickled(model: str) -> UserError:
    """The refusal of a model whose weights are pickles."""
    return UserError(
        f"model {model} of the hub has no safetensors: its weights are pickles, which can run code when they are read. "
        "Convert it on a machine you trust it on "
        "(AutoModelForCausalLM.from_pretrained(…).save_pretrained('folder')) and name that folder."
    )


def refusal(model: str, revision: str | None, error: Exception) -> UserError:
    """What kept a model from being had, and what to do. error: what the hub's library raised."""
    from huggingface_hub import errors

    at = f" at revision {revision}" if revision else ""
    if isinstance(error, errors.GatedRepoError):
        return UserError(
            f"model {model} is gated: accept its terms at https://huggingface.co/{model}, then `hf auth login` "
            "(or set HF_TOKEN), and try again."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            f"model {model} has no revision {revision}; mend `revisions` of the profile, or `@…` in the recipe."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(
            f"no folder {model}, and the hub shows no model of this name: check the name; "
            "if it is private or gated, `hf auth login`."
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        why = "HF_HUB_OFFLINE forbids asking the hub"
    elif isinstance(error, OSError) and getattr(error, "errno", None) == 28:
        return UserError(
            f"no space left for model {model}: `python -m acm plan` says how much is needed; "
            "HF_HOME moves the hub's cache."
        )
    else:
        why = f"the hub cannot be reached ({type(error).__name__})"
    return UserError(
        f"model {model}{at} is not here and {why}: fetch it where there is network (`hf download {model}`, or for a "
        "profile `python -m acm fetch --profile NAME`), or name a local folder."
    )
