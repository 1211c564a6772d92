"""Estimates what the searches of a profile take: candidates, and hours of evaluation."""

from __future__ import annotations

import math

from acm.profiles import Profile
from acm.running.budget import STRAGGLER, cost
from acm.running.machine import Machine

PLAIN = 31  # candidates of plain interpolation: a grid of 21, and 10 between its points


def search_lines(profile: Profile, machine: Machine) -> list[str]:
    """One line for each search: its candidates, the items of each, and the hours that these take without racing."""
    found = []
    for name, search in profile.searches.items():
        experiment = search.experiment or next(iter(profile.experiments))
        tasks = search.tasks or profile.experiment(experiment).tasks
        cap = profile.cap(experiment)
        batch = cost(profile, experiment, machine).batch_hours * min(1, machine.tokens * STRAGGLER / cap)
        items = len(tasks) * (search.items[1] - search.items[0])
        candidates = PLAIN + search.asked
        hours = candidates * math.ceil(items / profile.batch_size) * batch
        found.append(f"  {name:12s}{candidates:5d} candidates × {items:4d} items{hours:12.1f} hours")
    return ["", "searches (`make search`), without racing and judging", *found] if found else []
