"""A function as it is in Python, for tests/bench cloud: builds a client of S3 and answers every event with null."""

import http.client
import os

import boto3

boto3.client("s3")
runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    runtime.request("GET", "/2018-06-01/runtime/invocation/next")
    event = runtime.getresponse()
    event.read()
    number = event.headers["Lambda-Runtime-Aws-Request-Id"]
    runtime.request("POST", f"/2018-06-01/runtime/invocation/{number}/response", "null")
    runtime.getresponse().read()
