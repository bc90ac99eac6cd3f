#!/usr/bin/env python3
"""Holds what functions called on LocalStack against the rights that infra/aws/functions.yaml gives them.

    tests/aws/rights.py CALLS NAMES      calls.jsonl of tests/localstack/serve, and what tests/localstack/deploy printed

Prints each call that no right covers, once; exit 1 if there is any, or if no call of a function is noted. Runs in any
Python with PyYAML.
"""

import fnmatch
import json
import re
import sys
from pathlib import Path

import yaml

FUNCTIONS = Path(__file__).resolve().parent.parent.parent / "infra/aws/functions.yaml"

# Operations of S3 that have an action of another name (Service Authorization Reference).
S3 = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
}
OF_BUCKETS = {"ListBucket", "ListBucketVersions", "ListBucketMultipartUploads"}
VERSIONED = {"GetObject", "DeleteObject", "PutObjectTagging", "GetObjectTagging", "DeleteObjectTagging"}


def needed(call, names):
    """Pairs of an action and a resource that a call needs, named as in functions.yaml."""
    service, operation = call["service"], call["operation"]
    if service == "s3":
        if "Bucket" not in call:
            return [(f"s3:{operation}", "*")]
        bucket = names["buckets"].get(call["Bucket"], f"SourceBuckets:{call['Bucket']}")
        action = S3.get(operation, operation)
        if action in OF_BUCKETS:
            return [(f"s3:{action}", bucket)]
        if action in VERSIONED and call.get("VersionId"):
            action = re.sub("Object", "ObjectVersion", action)
        if "Delete" in call:
            listed = [(item["Key"], item.get("VersionId")) for item in call["Delete"]["Objects"]]
            action = {False: "s3:DeleteObject", True: "s3:DeleteObjectVersion"}
            return [(action[bool(version)], f"{bucket}/{key}") for key, version in listed]
        if "Key" not in call:
            return [(f"s3:{action}", bucket)]
        actions = [action]
        # What is locked is read back, and S3 tells of a lock only to those who may read retentions.
        actions += ["PutObjectRetention", "GetObjectRetention"] if call.get("ObjectLockMode") else []
        actions += ["PutObjectLegalHold"] if call.get("ObjectLockLegalHoldStatus") else []
        actions += ["PutObjectTagging"] if action == "PutObject" and call.get("Tagging") else []
        return [(f"s3:{action}", f"{bucket}/{call['Key']}") for action in actions]
    if service == "stepfunctions":
        name = call["stateMachineArn"].rsplit(":", 1)[1]
        return [(f"states:{operation}", f"states:stateMachine:{names['machines'].get(name, name)}")]
    about = next(
        (call[key] for key in ("QueueUrl", "TopicArn", "SecretId", "StreamName", "StreamARN") if key in call), ""
    )
    return [(f"{service}:{operation}", names["others"].get(about, about))]


def logical(deployed):
    """Physical names as functions.yaml has them."""

    def camel(name):
        return "".join(part.capitalize() for part in name.split("-"))

    environment = re.fullmatch(r"keytrail-(\w+)-records", deployed["stream"])[1]
    others = {url: f"{camel(name)}Queue" for name, url in deployed["queues"].items()}
    others |= {arn: f"{camel(name)}Topic" for name, arn in deployed["topics"].items()}
    others |= {deployed["secret"]: "KeysSecret", deployed["stream"]: "RecordsStream"}
    return {
        "environment": environment,
        "buckets": {physical: f"{camel(name)}Bucket" for name, physical in deployed["buckets"].items()},
        "machines": {
            f"keytrail-{environment}-{name}": f"keytrail-${{Environment}}-{name}" for name in deployed["machines"]
        },
        "others": others,
    }


def allowed(function, action, resource):
    # What is not the stack's is what parameters name.
    foreign = {"SourceBuckets", "SourceBuckets/*", "ConfigObject"} if resource.startswith("SourceBuckets:") else set()
    if action == "secretsmanager:GetSecretValue" and resource != "KeysSecret":
        foreign = {"ElasticsearchSecret"}
    return any(
        action in entry["allow"] and (on in foreign or fnmatch.fnmatchcase(resource, on.replace("[", "[[]")))
        for entry in function["permissions"]
        for on in entry["of"]
    )


def main():
    calls, deployed = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    functions = yaml.safe_load(FUNCTIONS.read_text())["functions"]
    names = logical(deployed)
    seen, refused = 0, {}
    for line in calls.read_text().splitlines() if calls.exists() else []:
        call = json.loads(line)
        name = call["function"].removeprefix(f"keytrail-{names['environment']}-")
        if name not in functions:
            continue
        seen += 1
        for action, resource in needed(call, names):
            if not allowed(functions[name], action, resource):
                refused.setdefault((name, action, re.sub(r"/[^/]*$", "/...", resource)), resource)
    for (name, action, _), resource in sorted(refused.items()):
        print(f"{name}: no right covers `{action}` on `{resource}`")
    print(f"{seen} calls, {len(refused)} without a right")
    sys.exit(bool(refused) or seen == 0)


main()
