"""Deploys infra/aws/template.yaml, nothing stripped, to LocalStack, and prints the physical names of what is in it as JSON.

    tests/localstack/deploy --endpoint http://127.0.0.1:4566 --zips FOLDER [--stack NAME] [--parameter NAME=VALUE]...

FOLDER has `<function>.zip` of infra/aws/build. A stack that is there is updated. Resources that LocalStack only pretends to
make fail it, but for types that no test needs; properties that it leaves out are set afterwards.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATE = ROOT / "infra/aws/template.yaml"
REGION = "us-east-1"
# What may be pretended: nothing that moves a record.
PRETENDED = {
    "AWS::CloudWatch::Dashboard",
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
}
ARTIFACTS = "keytrail-artifacts"


class Deployment:
    def __init__(self, endpoint, zips, stack, parameters):
        self.endpoint, self.zips, self.stack, self.parameters = endpoint, zips, stack, parameters
        self.clients = {}

    def client(self, service):
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(inject_host_prefix=False, s3={"addressing_style": "path"}),
            )
        return self.clients[service]

    def upload(self, path):
        """Puts a file under the hash of its bytes: an object of the same name is not deployed again."""
        data = path.read_bytes()
        key = f"{hashlib.sha256(data).hexdigest()}{path.suffix}"
        self.client("s3").put_object(Bucket=ARTIFACTS, Key=key, Body=data)
        return key

    def package(self):
        """The template with artifacts in place of paths, as `sam package` writes it."""

        def uploaded(found):
            path = TEMPLATE.parent / found[2]
            if found[1] == "CodeUri":
                path = self.zips / path.name
            if not path.is_file():
                sys.exit(f"missing: {path}")
            return f"{found[1]}: s3://{ARTIFACTS}/{self.upload(path)}"

        template, count = re.subn(r"(?m)(?<=^ {6})(CodeUri|DefinitionUri): (\S+)$", uploaded, TEMPLATE.read_text())
        assert count > 0, "no artifacts"
        key = f"{hashlib.sha256(template.encode()).hexdigest()}.template"
        self.client("s3").put_object(Bucket=ARTIFACTS, Key=key, Body=template.encode())
        return f"{self.endpoint}/{ARTIFACTS}/{key}"

    def deploy(self):
        self.client("s3").create_bucket(Bucket=ARTIFACTS)
        cloudformation = self.client("cloudformation")
        arguments = {
            "StackName": self.stack,
            "TemplateURL": self.package(),
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()],
        }
        try:
            cloudformation.describe_stacks(StackName=self.stack)
            there = True
        except ClientError:
            there = False
        if there:
            cloudformation.update_stack(**arguments)
        else:
            cloudformation.create_stack(**arguments)
        while True:
            stack = cloudformation.describe_stacks(StackName=self.stack)["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                break
            time.sleep(0.2)
        events = cloudformation.describe_stack_events(StackName=self.stack)["StackEvents"]
        if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            reasons = [e for e in events if e["ResourceStatus"].endswith("_FAILED")]
            told = [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in reasons]
            sys.exit(f"{stack['StackStatus']}: {stack.get('StackStatusReason')} {told}")
        pretended = {
            e["ResourceType"]
            for e in events
            if "deployed as a fallback" in (e.get("ResourceStatusReason") or "").lower()
        }
        if pretended - PRETENDED:
            sys.exit(f"LocalStack only pretends to make {sorted(pretended - PRETENDED)}")
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.stack)
        self.resources = {
            r["LogicalResourceId"]: (r["ResourceType"], r["PhysicalResourceId"])
            for page in pages
            for r in page["StackResourceSummaries"]
        }
        self.complete()

    def complete(self):
        """Sets what LocalStack leaves out."""
        body = self.client("cloudformation").get_template(StackName=self.stack, TemplateStage="Processed")[
            "TemplateBody"
        ]
        template = json.loads(body) if isinstance(body, str) else body
        for name, resource in template["Resources"].items():
            if name in self.resources:
                kind, physical = self.resources[name]
                properties = self.resolve(resource.get("Properties", {}))
                if complete := COMPLETE.get(kind):
                    complete(self, physical, properties)

    def resolve(self, value):
        """Parameters and names in place of Ref and GetAtt; other functions stay."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Ref"}:
            if value["Ref"] in self.resources:
                return self.resources[value["Ref"]][1]
            return self.parameter(value["Ref"])
        if set(value) == {"Fn::GetAtt"}:
            name = value["Fn::GetAtt"]
            name = name.split(".")[0] if isinstance(name, str) else name[0]
            return self.resources[name][1]
        return {key: self.resolve(item) for key, item in value.items()}

    def parameter(self, name):
        if not hasattr(self, "values"):
            stack = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0]
            self.values = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
        return self.values.get(name)

    def bucket(self, name, properties):
        s3 = self.client("s3")
        if rules := properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration"):
            made = [
                {
                    "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
                    "BucketKeyEnabled": rule.get("BucketKeyEnabled", False),
                }
                for rule in rules
            ]
            s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": made})
        if rules := properties.get("LifecycleConfiguration", {}).get("Rules"):
            made = [lifecycle(rule) for rule in rules]
            s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": made})

    def stream(self, name, properties):
        hours = int(properties.get("RetentionPeriodHours", 24))
        kinesis = self.client("kinesis")
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        if hours > summary["RetentionPeriodHours"]:
            kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=hours)
        if summary.get("EncryptionType", "NONE") == "NONE":
            kinesis.start_stream_encryption(StreamName=name, **properties["StreamEncryption"])

    def log_group(self, name, properties):
        days = int(properties["RetentionInDays"])
        self.client("logs").put_retention_policy(logGroupName=name, retentionInDays=days)

    def names(self):
        def of(kind):
            return {name: physical for name, (k, physical) in self.resources.items() if k == kind}

        def short(names, suffix):
            return {kebab(name.removesuffix(suffix)): physical for name, physical in names.items()}

        return {
            "stack": self.stack,
            "buckets": short(of("AWS::S3::Bucket"), "Bucket"),
            "stream": self.resources["RecordsStream"][1],
            "queues": short(of("AWS::SQS::Queue"), "Queue"),
            "functions": {kebab(name): physical for name, physical in of("AWS::Lambda::Function").items()},
            "aliases": short(of("AWS::Lambda::Alias"), "Aliaslive"),
            "machines": short(of("AWS::StepFunctions::StateMachine"), "Machine"),
            "topics": short(of("AWS::SNS::Topic"), "Topic"),
            "secret": self.resources["KeysSecret"][1],
            "schedules": short(of("AWS::Scheduler::Schedule"), "Schedule"),
            "log_groups": short(of("AWS::Logs::LogGroup"), "LogGroup"),
            "alarms": short(of("AWS::CloudWatch::Alarm"), "Alarm"),
        }


COMPLETE = {
    "AWS::S3::Bucket": Deployment.bucket,
    "AWS::Kinesis::Stream": Deployment.stream,
    "AWS::Logs::LogGroup": Deployment.log_group,
}


def kebab(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def lifecycle(rule):
    """A rule of CloudFormation as S3 has it."""
    tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in rule.get("TagFilters", [])]
    made = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if tags:
        made["Filter"] = {"Tag": tags[0]}
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    elif rule.get("ExpiredObjectDeleteMarker"):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    if days := rule.get("NoncurrentVersionExpiration"):
        made["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(days["NoncurrentDays"])}
    if days := rule.get("AbortIncompleteMultipartUpload"):
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(days["DaysAfterInitiation"])}
    if transitions := rule.get("Transitions"):
        made["Transitions"] = [
            {"Days": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]} for t in transitions
        ]
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--zips", required=True, type=Path)
    parser.add_argument("--stack", default="keytrail-test")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    parameters = {"Environment": "test"} | dict(given.split("=", 1) for given in options.parameter)
    deployment = Deployment(options.endpoint.rstrip("/"), options.zips, options.stack, parameters)
    deployment.deploy()
    json.dump(deployment.names(), sys.stdout, indent=2)
    print()


main()
