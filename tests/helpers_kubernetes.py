"""A stand-in for Kubernetes' API server: jobs, their pods, logs and secrets, as far as the executor asks for them.

Pods are processes of this machine. Answers are the API server's: 404 for what is not there, 400 for the log of a run
before the last, which a pod that never restarts does not have.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = {"secrets": "/api/v1/namespaces/default/secrets", "pods": "/api/v1/namespaces/default/pods",
             "jobs": "/apis/batch/v1/namespaces/default/jobs"}  # fmt: skip


def decoded(variable: dict, secrets: dict[str, dict]) -> str:
    """The value of a variable that a pod takes from a secret."""
    key = variable["valueFrom"]["secretKeyRef"]
    return base64.b64decode(secrets[key["name"]]["data"][key["key"]]).decode()


class Pod:
    """The one pod of a job: its container's command, run beside the server."""

    def __init__(self, job: dict, secrets: dict[str, dict], folder: Path, instead: list[str] | None):
        self.name = f"{job['metadata']['name']}-x7k2p"
        (container,) = job["spec"]["template"]["spec"]["containers"]
        self.container, self.log = container["name"], folder / f"{self.name}.log"
        given = os.environ | {e["name"]: decoded(e, secrets) for e in container.get("env", [])}
        command = instead or [*container["command"], *container["args"]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=given, start_new_session=True)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def job_status(self) -> dict:
        code = self.process.poll()
        return {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}

    def manifest(self) -> dict:
        code = self.process.poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code % 256}}
        status = {"name": self.container, "image": "i", "imageID": "i", "ready": code is None, "restartCount": 0,
                  "state": state}  # fmt: skip
        return {"metadata": {"name": self.name}, "status": {"containerStatuses": [status]}}


class Cluster:
    """What the server holds: jobs, their pods, and secrets, by name. manifests: of all jobs that were ever created.

    faults: method and kind → the status of the next answers. instead: what the pods run in place of their command.
    """

    def __init__(self, folder: Path):
        self.folder, self.lock = folder, threading.Lock()
        self.jobs: dict[str, dict] = {}
        self.pods: dict[str, Pod] = {}
        self.secrets: dict[str, dict] = {}
        self.manifests: list[dict] = []
        self.faults: dict[str, list[int]] = {}
        self.instead: list[str] | None = None

    def create(self, kind: str, body: dict) -> tuple[int, dict]:
        name = body["metadata"]["name"]
        there = getattr(self, kind)
        if name in there:
            return 409, {"message": f"{name} already exists"}
        there[name] = body
        if kind == "jobs":
            self.manifests.append(body)
            self.pods[name] = Pod(body, self.secrets, self.folder, self.instead)
        return 201, body

    def delete(self, kind: str, name: str) -> tuple[int, dict]:
        there = {pod.name: job for job, pod in self.pods.items()} if kind == "pods" else getattr(self, kind)
        if name not in there:
            return 404, {"message": f"{name} not found"}
        if kind == "secrets":
            del self.secrets[name]
        else:
            job = there[name] if kind == "pods" else name
            if job in self.pods:
                self.pods.pop(job).stop()
        if kind == "jobs":
            del self.jobs[name]
        return 200, {"status": "Success"}

    def read(self, kind: str, words: list[str], query: dict[str, list[str]]) -> tuple[int, dict | str]:
        if kind == "pods" and not words:
            job = query["labelSelector"][0].removeprefix("job-name=")
            return 200, {"items": [self.pods[job].manifest()] if job in self.pods else []}
        if kind == "pods" and words[1:] == ["log"]:
            if query.get("previous", ["false"])[0].lower() == "true":
                return 400, {"message": f'previous terminated container "snakemake" in pod "{words[0]}" not found'}
            return 200, next(pod.log.read_text() for pod in self.pods.values() if pod.name == words[0])
        if kind == "jobs" and words[1:] == ["status"] and words[0] in self.jobs:
            gone = {"failed": 1}  # its pod was deleted, and `backoffLimit: 0` allows no other
            return 200, self.jobs[words[0]] | {
                "status": self.pods[words[0]].job_status() if words[0] in self.pods else gone
            }
        return 404, {"message": f"{kind}/{'/'.join(words)} not found"}

    def answer(self, method: str, target: str, body: dict) -> tuple[int, dict | str]:
        url = urlsplit(target)
        kind = next((kind for kind, place in NAMESPACE.items() if url.path.startswith(place)), None)
        assert kind, f"{method} {url.path} is nothing that the executor should ask for"
        if self.faults.get(f"{method} {kind}"):
            return self.faults[f"{method} {kind}"].pop(), {"message": "etcdserver: leader changed"}
        words = [word for word in url.path.removeprefix(NAMESPACE[kind]).split("/") if word]
        if method == "POST":
            return self.create(kind, body)
        return self.delete(kind, words[0]) if method == "DELETE" else self.read(kind, words, parse_qs(url.query))


@contextmanager
def api_server(folder: Path):
    """A :class:`Cluster` that answers by HTTP, and the file for KUBECONFIG that leads to it."""
    cluster = Cluster(folder)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with cluster.lock:
                status, found = cluster.answer(self.command, self.path, json.loads(content or b"{}"))
            text = found if isinstance(found, str) else json.dumps(found)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    named = {"clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
             "users": [{"name": "u", "user": {"token": "t"}}],
             "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config"} | named))
    try:
        yield cluster, folder / "kubeconfig"
    finally:
        server.shutdown()
        for pod in cluster.pods.values():
            pod.stop()
