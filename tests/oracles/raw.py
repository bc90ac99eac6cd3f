"""The raw log files, read with Python's JSON alone."""

import gzip
import json

DECODER = json.JSONDecoder()


def inflated(path):
    data = open(path, "rb").read()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def values(text):
    """JSON values one after the other."""
    index = 0
    while True:
        while index < len(text) and text[index].isspace():
            index += 1
        if index == len(text):
            return
        value, index = DECODER.raw_decode(text, index)
        yield value


def cloudtrail_events(path):
    """Events of S3 files, arrays, lines and answers of LookupEvents."""
    for value in values(inflated(path).decode()):
        for event in value if isinstance(value, list) else value.get("Records", [value]):
            yield json.loads(event["CloudTrailEvent"]) if "CloudTrailEvent" in event else event


def vault_events(path):
    """Whole records of lines, also behind torn ones."""
    for line in inflated(path).decode().splitlines():
        index = 0
        while (index := line.find("{", index)) >= 0:
            try:
                event, index = DECODER.raw_decode(line, index)
            except ValueError:
                index += 1
                continue
            if event.get("type") in ("request", "response") and "request" in event:
                yield event


def key_operation_events(path):
    yield from values(inflated(path).decode())


def block(text):
    """A block of CloudHSM: the values of its lines by name."""
    lines = (line.split(":", 1) for line in text.decode().splitlines() if line)
    return {name.strip(): value.strip() for name, value in lines}


def cloudhsm_events(path):
    yield from (block(text) for text in inflated(path).split(b"\n\n"))


def listed_events(path):
    """Events of lines, arrays, blobs of Azure and lists of Kubernetes."""
    for value in values(inflated(path).decode()):
        for name in ("records", "items"):
            value = value.get(name, value) if isinstance(value, dict) else value
        yield from value if isinstance(value, list) else [value]
