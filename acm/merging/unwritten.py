"""A merge that a running engine takes tensor by tensor: its model folder exists without its numbers.

An engine starts from the folder, which has config, tokenizer and the headers of the weights; where the numbers would be
are holes, which take no disk and read as zeros. The numbers come through memory. On the way they are hashed, so that
the merge is known by the same identity as the folder that :func:`acm.merge` would have written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from acm.identity import Identity, decisive_files
from acm.merging.card import write_companions
from acm.merging.defaults import DEVICE
from acm.merging.plan import Plan
from acm.merging.tensors import MergedTensor, merged_tensors
from acm.merging.workspace import layout, write_index


class Unwritten:
    """A merge as a source of tensors.

    plan: of the merge. folder: where its model folder without numbers is made; its name is the model's. device: as of
    :func:`acm.merge`. card: the model card. identity: that of the whole folder
    (:func:`acm.identity.identity`), empty until the last tensor has passed.
    """

    def __init__(self, plan: Plan, folder: Path, device: str = DEVICE) -> None:
        self.plan, self.folder, self.device, self.identity = plan, folder, device, ""
        self.shapes = {job.name: job.shape for job in plan.jobs}
        folder.mkdir(parents=True)
        write_companions(folder, plan)
        write_index(folder, plan)
        self.card = (folder / "README.md").read_text(encoding="utf-8")
        _, self.headers, sizes = layout(plan.jobs)
        for shard, size in sizes.items():
            with (folder / shard).open("wb") as file:
                file.write(self.headers[shard])
                file.truncate(size)

    def tensors(self) -> Iterator[MergedTensor]:
        """The tensors in the order of the files. Errors: as of :func:`acm.merge`."""
        total, merged = Identity(), merged_tensors(self.plan, self.device, by_layer=False)
        for path, size in decisive_files(self.folder).items():
            with total.file(path.relative_to(self.folder).as_posix(), size) as take:
                if path.name not in self.headers:
                    take(path.read_bytes())
                    continue
                take(self.headers[path.name])
                for _ in (job for job in self.plan.jobs if job.shard == path.name):
                    tensor = next(merged)
                    take(tensor.stored.view(np.uint8))
                    yield tensor
        self.identity = total.found
