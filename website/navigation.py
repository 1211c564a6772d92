"""What stands where on the site: the sections in the header of every page, the guide's order, and short titles."""

from __future__ import annotations

from html import escape
from pathlib import Path

LIVE = "index.html"
LIVE_LINK = "live:"  # what a staged page links to; the settings of Sphinx make it the live page's address
SECTIONS = {  # name → page; the same words in the same order on the live page and on all others
    "Live": LIVE,
    "Overview": "contents.html",
    "Results": "results.html",
    "Questions": "questions.html",
    "Course": "course.html",
    "Explorers": "explore.html",
    "Figures": "figures.html",
    "Guide": "guide.html",
}
GUIDE = {  # task → page of the repository or of the site → short title, and what it is for
    "Start": {
        "README.md": ("What this is", "the finding, how to try it, six results"),
        "docs/install.md": ("Install and run", "other systems, conda, uv, Docker, and which command makes what"),
        "docs/macos.md": ("On a Mac", "what differs on Apple's machines"),
        "docs/windows.md": ("On Windows", "what runs there, with WSL and without"),
        "docs/explorers.md": ("Things to try", "the live page, and four notebooks with sliders"),
        "docs/teaching.md": ("For teachers", "the seven lessons, ways to run them, marking a class"),
        "docs/troubleshooting.md": ("Troubleshooting", "error messages, what is behind them, what to do"),
    },
    "Merge": {
        "docs/merging.md": ("Merge models", "recipes in mergekit's format, adapters, what is checked"),
        "docs/methods.md": ("Merge methods", "formula, parameters, cost and paper of each"),
        "docs/calibration.md": ("Calibrate: λ by layer", "from texts to mutual information to coefficients"),
        "docs/search.md": ("Search λ", "coefficients by layer for accuracy at a length"),
        "docs/inspect.md": ("Inspect before merging", "what the weights alone say of task vectors"),
        "docs/your-own-pair.md": ("Your own pair", "one profile, and everything runs on your models"),
        "docs/todays-pairs.md": ("Pairs of today", "profiles for models that came after the paper"),
    },
    "Evaluate": {
        "docs/benchmarks.md": ("Benchmarks", "the tasks, how answers are graded, how to add one"),
        "docs/backends.md": ("Backends and sampling", "transformers, vLLM or a server; temperature and repeats"),
        "docs/compare.md": ("Compare two models", "paired differences on the same items"),
        "docs/results.md": ("All results in tables", "every interval, and the null controls"),
        "docs/models.md": ("The embedded models", "abacus and smol: what they are and how they were made"),
    },
    "Run it larger": {
        "docs/gpu-machine.md": ("One machine with a GPU", "from a profile to a row of the table in ten lines"),
        "docs/slurm.md": ("On a SLURM cluster", "one job for each notebook"),
        "docs/kubernetes.md": ("On Kubernetes", "one pod for each job, on one shared volume"),
        "docs/paper-scale.md": ("At the paper's scale", "what 1.5B to 32B take, and what was not run"),
        "docs/submit.md": ("Send in your records", "a row of your own in the table of results"),
    },
    "Look up": {
        "commands.md": ("Command line", "every command, with examples and options"),
        "python.md": ("Python", "the public functions and classes"),
        "notebooks.md": ("Pipeline notebooks", "from activations to figures, as executed"),
        "docs/layout.md": ("What is where", "folders, files, and the rooms of the package"),
    },
    "Take part": {
        "CONTRIBUTING.md": ("Contributing", "how to add a method, a task, a figure, an explorer"),
        "CHANGELOG.md": ("Changelog", "what changed, and what failed or did not reproduce"),
    },
    "Speed, as measured": {
        "benchmarks/merge.md": ("Merging 1.54B", "beside a plain copy and mergekit"),
        "benchmarks/calibrate.md": ("Calibrating at 7B", "time and memory, layer by layer"),
        "benchmarks/estimators.md": ("Estimators", "mutual information beside scikit-learn's"),
        "benchmarks/gpu.md": ("What a GPU gains", "the same work on the CPU and on an H100"),
        "benchmarks/browser.md": ("The browser's code", "tokens a second beside torch"),
        "benchmarks/real_shapes.md": ("The 1.5B pair's shapes", "the paper's pair with random weights"),
        "benchmarks/search.md": ("Candidates a minute", "how fast a search goes"),
        "benchmarks/startup.md": ("Starting", "from the start of a process to its first work"),
    },
}
SHORT = {path: short for pages in GUIDE.values() for path, (short, _) in pages.items()} | {
    "reports/tiny/report.md": "abacus, embedded",
    "reports/smol/report.md": "smol, pretrained",
    "reports/smol+new/report.md": "smol, new templates",
    "reports/community/README.md": "Other hardware",
    "notebooks/questions/1-estimate.ipynb": "1 · What MI measures",
    "notebooks/questions/2-coefficients.ipynb": "2 · Do λ matter?",
    "notebooks/questions/3-stability.ipynb": "3 · Stability",
    "notebooks/questions/4-layers.ipynb": "4 · Layers",
    "notebooks/questions/5-rule.ipynb": "5 · A better rule?",
    "notebooks/questions/6-rivals.ipynb": "6 · Rivals",
    "notebooks/questions/7-scores.ipynb": "7 · Scores before a merge",
    "notebooks/questions/8-search.ipynb": "8 · λ by search",
    "notebooks/course/1-task-vectors.ipynb": "1 · Task vectors",
    "notebooks/course/2-interference.ipynb": "2 · Interference",
    "notebooks/course/3-information.ipynb": "3 · Information",
    "notebooks/course/4-acm.ipynb": "4 · ACM",
    "notebooks/course/5-measuring.ipynb": "5 · Measuring",
    "notebooks/course/6-project.ipynb": "6 · Project",
    "notebooks/course/7-search.ipynb": "7 · Search",
    "notebooks/explore/1-coefficients.ipynb": "Coefficients",
    "notebooks/explore/2-merge-playground.ipynb": "Merge playground",
    "notebooks/explore/3-trade-off.ipynb": "Trade-off",
    "notebooks/explore/4-responses.ipynb": "Responses",
    "notebooks/paper-numbers.ipynb": "The paper's numbers",
    "notebooks/paper/careful-reader.ipynb": "For a careful reader",
    "notebooks/paper/our-claims.ipynb": "What would make us wrong",
    "notebooks/paper/figure-2.ipynb": "Figure 2: scaling",
    "notebooks/paper/figure-3.ipynb": "Figure 3: strips",
    "notebooks/paper/figure-4.ipynb": "Figure 4: λ by layer",
    "notebooks/paper/figure-5.ipynb": "Figure 5: trade-off",
    "notebooks/paper/figure-6.ipynb": "Figure 6: code",
    "notebooks/paper/table-1.ipynb": "Table 1: 7B",
    "notebooks/paper/table-2.ipynb": "Table 2: 1.5B",
    "notebooks/paper/table-3.ipynb": "Table 3: LLaMA-2-7B",
    "notebooks/paper/table-4.ipynb": "Table 4: 14B",
    "notebooks/paper/table-5.ipynb": "Table 5: 32B",
    "notebooks/paper/table-6.ipynb": "Table 6: reflections",
    "notebooks/paper/table-7.ipynb": "Table 7: reflections",
    "notebooks/real-weights/devices.ipynb": "Devices and dtypes",
    "notebooks/real-weights/partings.ipynb": "Where runs part",
    "notebooks/real-weights/responses.ipynb": "What smol writes",
    "notebooks/inspect.ipynb": "Inspect task vectors",
}


def section_of(page: str, parents: list[str]) -> str:
    """The section that a page of Sphinx stands in. page: its name; parents: names of the pages above it, if any."""
    names = {place.removesuffix(".html"): name for name, place in SECTIONS.items()}
    return next((names[place] for place in [page, *parents] if place in names), "")


def tasks(there: set[str]) -> dict[str, dict[str, str]]:
    """The guide for its sidebar: task → page of Sphinx → short title. there: the pages of the site."""
    named = {
        task: {str(Path(name).with_suffix("")): short for name, (short, _) in pages.items()}
        for task, pages in GUIDE.items()
    }
    return {task: {page: short for page, short in pages.items() if page in there} for task, pages in named.items()}


def links(current: str = "Live") -> str:
    """The header's links as HTML, for a page at the top of the site. current: the section that it stands in."""
    marks = {name: ' aria-current="page"' if name == current else "" for name in SECTIONS}
    return "\n".join(f'<a href="{place}"{marks[name]}>{escape(name)}</a>' for name, place in SECTIONS.items())


def short_title(path: Path, title: str) -> str:
    """What the sidebar calls a page. path: in the repository; title: its heading."""
    return SHORT.get(path.as_posix(), title)
