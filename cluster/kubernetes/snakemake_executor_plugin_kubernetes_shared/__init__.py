"""`--executor kubernetes-shared`: snakemake-executor-plugin-kubernetes on a volume that all pods mount at one path.

The plugin assumes that nothing is shared. So it asks for a storage provider, which copies every file to and from
each pod. The notebooks find models and runs by their place in the repository instead, as on one machine. Here the
repository lies on the shared volume.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from snakemake_executor_plugin_kubernetes import Executor as Kubernetes
from snakemake_executor_plugin_kubernetes import ExecutorSettings as ExecutorSettings
from snakemake_executor_plugin_kubernetes import common_settings as unshared

common_settings = replace(
    unshared, implies_no_shared_fs=False, job_deploy_sources=False, auto_deploy_default_storage_provider=False
)


class Executor(Kubernetes):
    def get_job_exec_prefix(self, job) -> str:
        """Each pod works where the head process does; the plugin would start it in an empty folder of its own."""
        return f"cd {shlex.quote(str(Path.cwd()))}"
