"""The loader that one writes in Python: orjson and pyarrow, one thread.

    python_load.py [--no-gc] lines|records INPUT OUTPUT

`--no-gc` switches the garbage collector off: few do, and it takes a third of the time.
"""

import gc
import gzip
import hashlib
import ipaddress
import re
import sys
from datetime import datetime

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from columns import CALLS, KINDS, UID_CONTENT, UID_HEAD, UID_KEY

BATCH = 10_000
TYPES = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "list": pa.list_(pa.string()),
    "time": pa.timestamp("us", tz="UTC"),
}
INSTANCE = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})")
NOTHING = {}


def records(layout, source):
    data = open(source, "rb").read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if layout == "records":
        for event in orjson.loads(data)["Records"]:
            yield event, orjson.dumps(event)
    else:
        for line in data.splitlines():
            yield orjson.loads(line), line


def is_address(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def values(*found):
    """A list without what is missing or there already; none if it would be empty."""
    return list(dict.fromkeys(value for value in found if value)) or None


def row(event, original):
    """The values of an event, in the order of `KINDS`."""
    digest = hashlib.sha256(original)
    identity = event["userIdentity"]
    session_context = identity.get("sessionContext") or NOTHING
    issuer = session_context.get("sessionIssuer") or NOTHING
    request = event.get("requestParameters") or NOTHING
    response = event.get("responseElements") or NOTHING
    made = response.get("keyMetadata") or NOTHING
    tls = event.get("tlsDetails") or NOTHING
    name, provider, account = event["eventName"], event["eventSource"], event["recipientAccountId"]
    action_class, category, kind = CALLS[name]
    error = event.get("errorCode")
    if error == "AccessDenied" and "api" in category:
        kind = [*kind, "denied"]
    failed = error is not None or response.get("ConsoleLogin") == "Failure"

    address = event["sourceIPAddress"]
    ip = address if is_address(address) else None
    calling_host = address if ip is None and "." in address and " " not in address else None
    host = tls.get("clientProvidedHostHeader")

    actor, arn, invoked_by = identity.get("type"), identity.get("arn"), identity.get("invokedBy")
    session = effective = None
    if actor == "AssumedRole":
        session = user = arn.split("assumed-role/", 1)[1].split("/")[1]
        effective = issuer.get("userName")
    elif actor == "Root":
        user = "root"
    elif actor == "AWSService":
        user = invoked_by
    else:
        user = identity.get("userName") or (arn.rsplit("/", 1)[1] if arn else invoked_by)
    mfa = (session_context.get("attributes") or NOTHING).get("mfaAuthenticated")
    mfa = mfa == "true" if mfa is not None else None
    if provider == "signin.amazonaws.com":
        mfa = event["additionalEventData"]["MFAUsed"] == "Yes"

    resources = values(*(resource.get("ARN") for resource in event.get("resources") or ()))
    key_arn = key_id = alias = target = state = None
    if provider == "kms.amazonaws.com":
        key_arn = resources[0]
        key_id = key_arn.split(":key/", 1)[1]
        given = request.get("sourceKeyId") or request.get("targetKeyId") or request.get("keyId")
        alias = request.get("aliasName")
        if alias is None and given and ":alias/" in given:
            alias = given[given.index(":alias/") + 1 :]
        target = request.get("destinationKeyId")
        if target == key_arn:
            target = key_id
        state = made.get("keyState") or response.get("keyState")
        if state is None and not failed:
            state = {"EnableKey": "Enabled", "DisableKey": "Disabled", "CancelKeyDeletion": "Disabled"}.get(name)
    elif provider == "secretsmanager.amazonaws.com":
        key_arn = request["secretId"]
        key_id = key_arn.split(":secret:", 1)[1]
    algorithm = (
        request.get("encryptionAlgorithm")
        or request.get("sourceEncryptionAlgorithm")
        or request.get("signingAlgorithm")
        or request.get("macAlgorithm")
        or request.get("keySpec")
    )
    context = request.get("encryptionContext") or request.get("sourceEncryptionContext")
    uid = UID_HEAD + account.encode() + UID_KEY + event["eventID"].encode() + UID_CONTENT + digest.digest()
    tls_version = tls.get("tlsVersion")
    return (
        datetime.fromisoformat(event["eventTime"]),
        original,
        digest.hexdigest(),
        event["eventID"],
        name,
        provider,
        event["eventType"],
        "event",
        category,
        kind,
        "failure" if failed else "success",
        "aws.cloudtrail",
        "aws",
        "aws",
        event["awsRegion"],
        account,
        provider.removesuffix(".amazonaws.com"),
        address,
        ip,
        event.get("userAgent"),
        error,
        event.get("errorMessage"),
        tls_version and tls_version.removeprefix("TLSv"),
        tls.get("cipherSuite"),
        host,
        identity.get("principalId"),
        user,
        effective,
        values(identity.get("principalId"), user, effective),
        values(calling_host, host, session if session and INSTANCE.fullmatch(session) else None),
        values(ip),
        hashlib.sha256(uid).hexdigest()[:40],
        account,
        "cloudtrail",
        1,
        "cloudtrail/1",
        True,
        event.get("requestID"),
        event["readOnly"],
        action_class,
        actor,
        arn,
        identity.get("accountId"),
        identity.get("accessKeyId"),
        invoked_by,
        issuer.get("arn"),
        session,
        mfa,
        key_arn,
        key_id,
        alias,
        target,
        algorithm,
        made.get("keyUsage") or request.get("keyUsage"),
        made.get("origin") or request.get("origin"),
        state,
        orjson.dumps(context).decode() if context else None,
        response.get("grantId"),
        request.get("granteePrincipal"),
        request.get("operations"),
        resources,
    )


def main(layout, source, target):
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    schema = pa.schema([(name, TYPES[kind]) for name, kind in KINDS.items()])
    total = 0
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=3) as writer:
        rows = []

        def flush():
            arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows), schema)]
            writer.write_table(pa.table(arrays, schema=schema))
            rows.clear()

        for event, original in records(layout, source):
            rows.append(row(event, original))
            total += 1
            if len(rows) == BATCH:
                flush()
        if rows:
            flush()
    print(total)


arguments = sys.argv[1:]
if arguments[0] == "--no-gc":
    gc.disable()
    arguments = arguments[1:]
main(*arguments)
