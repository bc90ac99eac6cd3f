"""Notes what functions call: LocalStack does not enforce IAM, so tests hold the calls against the rights that are declared.

Each call of a function is a line of JSON in $KEYTRAIL_CALLS: function, service, operation, and the parameters that name
what it is about. Functions are told apart by their credentials, which each environment has of its own.
"""

import json
import os
import re
import threading

from localstack.aws.handlers import run_custom_response_handlers

NAMING = {
    "Bucket",
    "Delete",
    "Key",
    "ObjectLockLegalHoldStatus",
    "ObjectLockMode",
    "QueueUrl",
    "SecretId",
    "StreamARN",
    "StreamName",
    "Tagging",
    "TopicArn",
    "VersionId",
    "stateMachineArn",
}

functions = {}
writing = threading.Lock()


def apply():
    if path := os.environ.get("KEYTRAIL_CALLS"):
        run_custom_response_handlers.append(lambda _chain, context, _response: note(path, context))


def note(path, context):
    key = re.search(r"Credential=([^/]+)/", context.request.headers.get("Authorization", ""))
    function = functions.get(key[1]) if key else None
    if function is None or context.operation is None:
        return
    parameters = {name: value for name, value in (context.service_request or {}).items() if name in NAMING}
    call = {"function": function, "service": context.service.service_name, "operation": context.operation.name}
    with writing, open(path, "a") as calls:
        calls.write(json.dumps(call | parameters, default=str) + "\n")
