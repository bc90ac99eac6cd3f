"""infra/aws/template.yaml as CloudFormation gets it: after the SAM transformation, its own functions not resolved."""

import json
import logging
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = ROOT / "infra/aws/template.yaml"

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")


def source():
    """The template as it is written."""
    from cfnlint.decode import cfn_yaml

    return json.loads(json.dumps(cfn_yaml.load(str(PATH))))


def processed():
    """Its resources after the transformation."""
    import boto3
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    logging.disable(logging.WARNING)
    template = source()
    for resource in template["Resources"].values():
        for name in ("CodeUri", "DefinitionUri"):
            if path := resource.get("Properties", {}).get(name):
                resource["Properties"][name] = f"s3://artifacts/{Path(path).name}"
    values = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
    session = boto3.Session(region_name="us-east-1")
    return Translator({}, Parser(), boto_session=session).translate(template, values)["Resources"]


def named(value):
    """A resource of a policy as functions.yaml names it: `ArchiveBucket/log/*`, `DataKey`, `states:stateMachine:...`; what
    stands under a condition is taken as if it held. A list of them."""
    if isinstance(value, list):
        return [name for item in value for name in named(item)]
    if isinstance(value, str):
        return [FROM_PARAMETERS.get(value, value)]
    if value == {"Ref": "AWS::NoValue"}:
        return []
    if "Fn::If" in value:
        _, yes, no = value["Fn::If"]
        return named(yes) + named(no)
    if "Ref" in value:
        return [FROM_PARAMETERS.get(value["Ref"], value["Ref"])]
    if "Fn::GetAtt" in value:
        name = value["Fn::GetAtt"]
        return [name.split(".")[0] if isinstance(name, str) else name[0]]
    if "Fn::Sub" in value:
        text = re.sub(r"\$\{([A-Za-z]+)\.Arn\}", r"\1", value["Fn::Sub"])
        return [re.sub(r"^arn:\$\{AWS::Partition\}:([a-z]+):\$\{AWS::Region\}:\$\{AWS::AccountId\}:", r"\1:", text)]
    if "Fn::Split" in value:
        _, of = value["Fn::Split"]
        return [name + "/*" for name in named(of["Fn::Join"][1][0]["Fn::Join"][1])] if "Fn::Join" in of else named(of)
    raise ValueError(f"cannot name {value}")


FROM_PARAMETERS = {
    "SourceBucketArns": "SourceBuckets",
    "SourceKeyArns": "SourceKeys",
    "ConfigObjectArn": "ConfigObject",
    "ElasticsearchSecretArn": "ElasticsearchSecret",
}


def conditional(statements):
    """Statements, those under a condition too."""
    for statement in statements:
        if "Fn::If" in statement:
            yield from conditional([s for s in statement["Fn::If"][1:] if s != {"Ref": "AWS::NoValue"}])
        else:
            yield statement


def listed(value):
    return value if isinstance(value, list) else [value]


def camel(name):
    return "".join(part.capitalize() for part in name.split("-"))
