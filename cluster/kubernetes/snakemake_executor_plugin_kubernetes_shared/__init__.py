"""`--executor kubernetes-shared`: snakemake-executor-plugin-kubernetes on a volume that all pods mount at one path.

The plugin assumes that nothing is shared. So it asks for a storage provider, which copies every file to and from
each pod. The notebooks find models and runs by their place in the repository instead, as on one machine. Here the
repository lies on the shared volume.

Three answers of an API server are taken otherwise than by plugin 0.5.1, which would hang or end the run: of a job that
was deleted, of a busy server, and to the question for a failed pod's log.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from kubernetes.client import ApiClient, ApiException, BatchV1Api, Configuration, CoreV1Api
from snakemake_executor_plugin_kubernetes import Executor as Kubernetes
from snakemake_executor_plugin_kubernetes import ExecutorSettings as ExecutorSettings
from snakemake_executor_plugin_kubernetes import common_settings as unshared
from urllib3 import Retry

common_settings = replace(
    unshared, implies_no_shared_fs=False, job_deploy_sources=False, auto_deploy_default_storage_provider=False
)
BUSY = (429, 500, 502, 503, 504)  # what an API server answers while it restarts or has too much to do
PATIENCE = Retry(8, backoff_factor=1, status_forcelist=BUSY, allowed_methods=None)  # about four minutes


class Pods(CoreV1Api):
    def read_namespaced_pod_log(self, **given):
        """The log of a pod; the plugin asks for that of its run before, and a pod that never restarts has none."""
        return super().read_namespaced_pod_log(**given | {"previous": False})


class Jobs(BatchV1Api):
    def read_namespaced_job_status(self, name, namespace):
        """A job's status. None for a job that was deleted: the plugin reports it as failed, and forgets it at a 404."""
        try:
            return super().read_namespaced_job_status(name, namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None


class Executor(Kubernetes):
    def __post_init__(self) -> None:
        super().__post_init__()
        configuration = Configuration.get_default_copy()
        configuration.retries = PATIENCE
        client = ApiClient(configuration)
        self.kubeapi, self.batchapi = Pods(client), Jobs(client)

    def get_job_exec_prefix(self, job) -> str:
        """Each pod works where the head process does; the plugin would start it in an empty folder of its own."""
        return f"cd {shlex.quote(str(Path.cwd()))}"
