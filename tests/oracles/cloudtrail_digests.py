"""AWS's own check of CloudTrail digests, `aws cloudtrail validate-logs`, over a folder in place of S3.

Arguments: the folder, the key file, and JSON with `arn`, `region`, `account`, `prefix`, `organisation`, `start`, `end`.
Every digest's metadata stand beside it as `<digest>.head.json`. Prints {"valid": [path...], "invalid": [path...],
"informed": [text...]}: digests and log files that it calls valid or invalid, and what it merely tells.
"""

import contextlib
import io
import json
import os
import re
import sys
from types import SimpleNamespace

from awscli.customizations.cloudtrail import validation
from botocore.exceptions import ClientError

root, keys, scope = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


class Bucket:
    """The calls of the S3 client that the check makes."""

    def get_client(self, bucket):
        return self

    def get_paginator(self, operation):
        assert operation == "list_objects"
        return self

    def paginate(self, Bucket, Marker, Prefix):
        paths = [os.path.join(f, n) for f, _, names in os.walk(root) for n in names]
        keys = (os.path.relpath(p, root) for p in paths if not p.endswith(".head.json"))
        found = sorted(k for k in keys if k > Marker and k.startswith(Prefix))
        return SimpleNamespace(search=lambda _: iter(found))

    def get_object(self, Bucket, Key):
        path = os.path.join(root, Key)
        if not os.path.exists(path):
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "none"}}, "GetObject")
        head = path + ".head.json"
        metadata = json.load(open(head))["Metadata"] if os.path.exists(head) else {}
        return {"Body": open(path, "rb"), "Metadata": metadata}


class CloudTrail:
    """Those of the other clients."""

    def describe_trails(self):
        trail = {
            "TrailARN": scope["arn"],
            "S3BucketName": "trail-bucket",
            "S3KeyPrefix": scope["prefix"].rstrip("/") or None,
            "IsOrganizationTrail": bool(scope["organisation"]),
        }
        return {"trailList": [trail]}

    def describe_organization(self):
        return {"Organization": {"Id": scope["organisation"].rstrip("/")}}

    def list_public_keys(self, StartTime, EndTime):
        return json.load(open(keys))


command = validation.CloudTrailValidateLogs(None)
command.trail_arn, command.is_verbose = scope["arn"], True
command.account_id = scope["account"] if scope["organisation"] else None
command._source_region = scope["region"]
command.s3_client_provider = Bucket()
command.cloudtrail_client = command.organization_client = CloudTrail()
command.start_time, command.end_time = (
    validation.normalize_date(validation.parse_date(scope[name])) for name in ("start", "end")
)
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
    command._call()
said = {"valid": [], "invalid": [], "informed": []}
for line in (out.getvalue() + "\n" + err.getvalue()).splitlines():
    if file := re.search(r"s3://trail-bucket/(\S+)\t(valid|INVALID)", line):
        said[file[2].lower()].append(file[1])
    elif "No log files were delivered" in line:
        said["informed"].append(line)
print(json.dumps(said))
