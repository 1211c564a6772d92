"""The manifests of docs/kubernetes.md are valid by Kubernetes' own schemas, and agree with Snakemake's settings.

`data/kubernetes-v1.34.json` holds those definitions alone that the manifests use, with unknown fields refused.
"""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from acm.paths import ROOT

CLUSTER = ROOT / "cluster" / "kubernetes"
SCHEMAS = json.loads((Path(__file__).parent / "data" / "kubernetes-v1.34.json").read_text())
MANIFESTS = list(yaml.safe_load_all((CLUSTER / "head.yaml").read_text()))
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
GROUPS = {"Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1"}


def faults_of(definition, content):
    """What a definition of Kubernetes' schemas says against a manifest, or a part of one."""
    schema = {"$ref": f"#/definitions/{definition}", "definitions": SCHEMAS["definitions"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(content)]


def faults(manifest):
    """What Kubernetes' schema of its kind says against a manifest."""
    return faults_of(SCHEMAS["kinds"][manifest["kind"]], manifest)


def of(kind):
    return next(manifest for manifest in MANIFESTS if manifest["kind"] == kind)


def test_every_manifest_is_valid_by_the_published_schema_of_its_kind():
    assert {m["kind"] for m in MANIFESTS} == {"PersistentVolumeClaim", "ServiceAccount", "Role", "RoleBinding", "Pod"}
    for manifest in MANIFESTS:
        assert faults(manifest) == [], manifest["kind"]
        assert manifest["apiVersion"] == GROUPS.get(manifest["kind"], "v1") and manifest["metadata"]["name"] == "acm"


@pytest.mark.parametrize("kind, change", [
    ("Pod", lambda m: m["spec"]["containers"][0].update(volumeMount=[])),
    ("Pod", lambda m: m["spec"]["containers"][0].pop("name")),
    ("Pod", lambda m: m["spec"]["containers"][0].update(command="sleep infinity")),
    ("Pod", lambda m: m["spec"].update(serviceAccount=["acm"])),
    ("PersistentVolumeClaim", lambda m: m["spec"].update(accessModes="ReadWriteMany")),
    ("PersistentVolumeClaim", lambda m: m["spec"].update(resource={})),
    ("Role", lambda m: m["rules"][0].pop("verbs")),
    ("RoleBinding", lambda m: m.pop("roleRef")),
])  # fmt: skip
def test_the_schemas_find_what_is_wrong(kind, change):
    manifest = copy.deepcopy(of(kind))
    change(manifest)
    assert faults(manifest)


def test_claim_account_and_volume_are_the_same_everywhere():
    pod, settings = of("Pod")["spec"], yaml.safe_load((CLUSTER / "config.yaml").read_text())
    (mount,), (volume,) = pod["containers"][0]["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == of("PersistentVolumeClaim")["metadata"]["name"]
    assert settings["kubernetes-shared-persistent-volumes"] == [f"{volume['name']}:{mount['mountPath']}"]
    assert of("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    account = of("ServiceAccount")["metadata"]["name"]
    assert pod["serviceAccountName"] == account
    binding = of("RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", of("Role")["metadata"]["name"])


def test_the_role_allows_what_the_executor_asks_for_and_no_more():
    rights = {(group, resource): set(rule["verbs"]) for rule in of("Role")["rules"]
              for group in rule["apiGroups"] for resource in rule["resources"]}  # fmt: skip
    assert {"create", "get", "delete"} <= rights["batch", "jobs"] and "get" in rights["", "pods/log"]
    assert not any("*" in {*verbs, *key} for key, verbs in rights.items())
    assert rights["", "secrets"] == {"create", "delete"}, "it reads no secret of others"


def test_the_image_finds_the_repository_where_the_page_puts_it():
    text = (CLUSTER / "Dockerfile").read_text()
    (mount,) = of("Pod")["spec"]["containers"][0]["volumeMounts"]
    places = re.findall(r"(/acm/\w+)", text.split("ENV ")[1])
    assert places and all(place.startswith(f"{mount['mountPath']}/") for place in places)
    assert f"kubectl cp . acm:{mount['mountPath']}/repository" in PAGE and "cd /acm/repository" in PAGE


def test_files_and_options_that_the_page_names_exist():
    for name in re.findall(r"\]\(\.\./([^)#]+)\)", PAGE):
        assert (ROOT / name).exists(), name
    assert "--workflow-profile cluster/kubernetes" in PAGE and (CLUSTER / "config.yaml").is_file()
    image = of("Pod")["spec"]["containers"][0]["image"]
    assert f"--container-image {image}" in PAGE and f"docker build -t {image}" in PAGE
