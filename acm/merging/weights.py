"""What the folders of weights say before a merge: what is not read, names that were changed, tensors that are missing,
and whether heads are tied.
"""

from __future__ import annotations

from acm.adapters import Adapted
from acm.architectures import EMBEDDING, HEAD, ties_head
from acm.checkpoints import Checkpoint
from acm.errors import UserError, listed
from acm.merging.compatibility import Finding
from acm.weight_files import INDEX


def folder_findings(models: list[Checkpoint], alike: bool) -> list[Finding]:
    """What is known of each folder by itself. alike: neither configs nor shapes of the models speak against a merge.

    UserError for one that lacks tensors of its own architecture, or holds others.
    """
    for model in models if alike else []:
        if problems := model.problems():
            raise UserError(
                f"{model.folder} does not hold the tensors that its config.json asks for, so transformers would not "
                f"load it as it is: {listed(problems)}. Fetch it again, or mend its config."
            )
    return [finding for model in dict.fromkeys(map(whole, models)) for finding in reading_findings(model)]


def whole(model: Checkpoint) -> Checkpoint:
    """The model below all adapters."""
    return whole(model.base) if isinstance(model, Adapted) else model


def mergekit_differs(model: Checkpoint) -> bool:
    """Whether mergekit would read other tensors of the folder: it prefers the index, and keeps names as they are."""
    weights = whole(model).weights
    twice = ties_head(model.config) and {HEAD, EMBEDDING} <= weights.tensors.keys()
    return bool(weights.wrapper or twice or INDEX in weights.beside)


def reading_findings(model: Checkpoint) -> list[Finding]:
    """What of a folder is not read, or read under another name; and a tied head that is stored."""
    weights, found = model.weights, []
    if weights.beside:
        text = f"{model.folder}: as in transformers, the weights beside are not read: {listed(weights.beside)}."
        stale = " vLLM and mergekit may read them; remove what is out of date."
        found.append(Finding("warning" if weights.stale else "note", text + (stale if weights.stale else "")))
    if weights.wrapper:
        text = f"the tensors' names in {model.folder} begin with '{weights.wrapper}'; they are read without it."
        found.append(Finding("note", text))
    if ties_head(model.config) and {HEAD, EMBEDDING} <= weights.tensors.keys():
        if model.tied:
            found.append(Finding("note", f"{model.folder} stores its embedding twice, as {HEAD} too: read once."))
        else:
            text = (
                f"the config of {model.folder} ties the head to the embedding, but its files hold another one: it is "
                "taken, as transformers 5 does (older versions and vLLM take the embedding)."
            )
            found.append(Finding("warning", text))
    return found


def tied_output(models: list[Checkpoint], wanted: bool | None, paper: bool) -> tuple[bool, list[Finding]]:
    """Whether the result ties its head to the embedding, and why.

    wanted: what the recipe says of it. paper: as the base, if the recipe says nothing.
    """
    if broken := [m for m in models if m.headless]:
        text = f"{broken[0].folder} has no {HEAD}, but its config says that the head is its own; fetch it again."
        return False, [Finding("error", text)]
    tied = [m.tied for m in models]
    if len(set(tied)) == 1:
        if wanted in (None, tied[0]):
            return tied[0], []
        text = f"tie_word_embeddings: {str(wanted).lower()} is for models that disagree; these all "
        return tied[0], [Finding("error", f"{text}{'tie' if tied[0] else 'untie'} their heads. Remove it.")]
    result = wanted if wanted is not None else tied[0] if paper else False
    lost = ", ".join(m.name for m in models if not m.tied)
    done = "the result gets a head of its own; a tied model's head is its embedding"
    if result:
        done = f"the result is tied, and the head of {lost} is lost"
    names = ", ".join(m.name for m in models if m.tied)
    text = f"{names} ties its head to the embedding, the others do not: {done} (`tie_word_embeddings` decides)."
    return result, [Finding("warning", text)]
