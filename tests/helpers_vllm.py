"""What our code uses of vLLM, as its wheel has it: signatures, environment variables, routes of its server.

``data/vllm_0.33.0.json`` was written by this module from the wheel vllm-0.33.0 of PyPI, unpacked:
``ACM_VLLM_WHEEL=folder python tests/helpers_vllm.py``. Nothing of the wheel is imported.
"""

import ast
import inspect
import json
import os
from pathlib import Path

FACTS = Path(__file__).parent / "data" / "vllm_0.33.0.json"
WHEEL = "ACM_VLLM_WHEEL"  # names the folder of an unpacked wheel
FUNCTIONS = {
    "vllm/entrypoints/llm.py": (
        "LLM.collective_rpc", "LLM.reset_prefix_cache", "LLM.sleep", "LLM.wake_up", "LLM.generate",
    ),
    "vllm/v1/worker/gpu_worker.py": ("Worker.reload_weights", "Worker.compute_weight_checksums"),
    "vllm/v1/worker/gpu_model_runner.py": ("GPUModelRunner.reload_weights",),
    "vllm/v1/engine/core_client.py": ("InprocClient.shutdown",),
    "vllm/distributed/parallel_state.py": ("cleanup_dist_env_and_memory",),
}  # fmt: skip
VARIABLES = ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_BATCH_INVARIANT", "VLLM_SERVER_DEV_MODE")
ROUTES = {
    "vllm/entrypoints/serve/dev/rpc/api_router.py": ("/collective_rpc",),
    "vllm/entrypoints/serve/dev/cache/api_router.py": ("/reset_prefix_cache",),
    "vllm/entrypoints/rl/online/api_router.py": ("/weight_checker",),
}


def read(wheel):
    """The facts of an unpacked wheel."""
    signatures = {
        name: signature(ast.parse((wheel / path).read_text()), name)
        for path, names in FUNCTIONS.items()
        for name in names
    }
    environment = (wheel / "vllm/envs.py").read_text()
    posted = [
        route for path, routes in ROUTES.items() for route in routes
        if f'@router.post("{route}")' in (wheel / path).read_text()
    ]  # fmt: skip
    return {
        "version": next(wheel.glob("vllm-*.dist-info")).stem.removeprefix("vllm-"),
        "signatures": signatures,
        "variables": [name for name in VARIABLES if f'"{name}": ' in environment],
        "posted": posted,
    }


def signature(tree, name):
    """The parameters of a function or method, with their defaults and without types."""
    *owner, last = name.split(".")
    body = (
        next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner[0])
        if owner
        else tree.body
    )
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == last][-1]
    for argument in ast.walk(found.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"({ast.unparse(found.args)})"


def bound(facts, name, *args, **kwargs):
    """The arguments of a call, by name and with defaults. TypeError for a call that the function does not take."""
    space = {"deprecated": None}
    exec(f"def f{facts['signatures'][name]}: pass", space)
    found = inspect.signature(space["f"]).bind(*args, **kwargs)
    found.apply_defaults()
    return found.arguments


if __name__ == "__main__":
    FACTS.write_text(json.dumps(read(Path(os.environ[WHEEL])), indent=1) + "\n")
