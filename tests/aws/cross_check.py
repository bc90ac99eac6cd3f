#!/usr/bin/env python3
"""Holds infra/aws, statemachines, the code and the runbook against each other; infra/aws/functions.yaml is what counts.

$KEYTRAIL_TOOLS/aws/sam/bin/python tests/aws/cross_check.py      prints what differs, a line each; exit 1 if anything does
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib

import yaml
from template import PATH, ROOT, camel, conditional, listed, named, processed, source

FUNCTIONS = yaml.safe_load((ROOT / "infra/aws/functions.yaml").read_text())
ERRORS = FUNCTIONS["errors"]
SOURCE = source()
RESOURCES = processed()
MACHINES = {name: json.loads((ROOT / f"statemachines/{name}.asl.json").read_text()) for name in FUNCTIONS["machines"]}
# What an express execution may take (Step Functions Developer Guide, quotas), and what ARCHITECTURE gives its tasks.
EXPRESS_SECONDS, TASKS_SECONDS = 300, 240
# The last step of ingest: cut off, the index catches up from its cursor.
MAY_BE_CUT = {("ingest", "IndexEvents")}
# None of their actions takes a narrower resource.
ANY_RESOURCE = {"MachineLogPolicy", "VpcPolicy"}

problems = []
checks = []


def check(function):
    checks.append(function)
    return function


def same(what, found, expected):
    """Tells of what two collections do not share."""
    found, expected = set(found), set(expected)
    for name in sorted(map(str, found - expected)):
        problems.append(f"{what}: `{name}` is not expected")
    for name in sorted(map(str, expected - found)):
        problems.append(f"{what}: `{name}` is missing")


def expect(holds, problem):
    if not holds:
        problems.append(problem)


def of_type(kind):
    return {name: resource["Properties"] for name, resource in RESOURCES.items() if resource["Type"] == kind}


def rights(statements):
    """Every pair of an action and what it is allowed on."""
    return {
        (action, on)
        for statement in conditional(statements)
        for action in listed(statement["Action"])
        for on in named(statement["Resource"])
    }


def declared(permissions):
    return {(action, on) for entry in permissions for action in entry["allow"] for on in entry["of"]}


def states(machine, path=""):
    """Every state, also in branches and items, with its name."""
    for name, state in machine["States"].items():
        yield name, state
        for inner in state.get("Branches", []) + [state[key] for key in ("ItemProcessor",) if key in state]:
            yield from states(inner)


def tasks(machine):
    """States that call a function, with its name as in substitutions."""
    for name, state in states(machine):
        if state.get("Resource", "").endswith(":lambda:invoke"):
            yield name, state, state["Parameters"]["FunctionName"].removeprefix("${").removesuffix("}")


# ---- functions


@check
def functions():
    found = {name: p for name, p in SOURCE["Resources"].items() if p["Type"] == "AWS::Serverless::Function"}
    same("functions of the template", found, [camel(name) for name in FUNCTIONS["functions"]])
    for name, function in FUNCTIONS["functions"].items():
        properties = found.get(camel(name), {}).get("Properties", {})
        expect(properties.get("CodeUri") == f".build/{name}.zip", f"{name}: CodeUri")
        expect(
            properties.get("FunctionName") == {"Fn::Sub": f"keytrail-${{Environment}}-{name}"}, f"{name}: FunctionName"
        )
        expect(properties.get("Timeout") == function["timeout_seconds"], f"{name}: Timeout")
        variables = properties.get("Environment", {}).get("Variables", {})
        same(f"environment of {name}", variables, function["environment"])
        alarms = properties.get("DeploymentPreference", {}).get("Alarms")
        rolls_back = [[{"Ref": f"{camel(name)}ErrorsAlarm"}], [{"Ref": "AWS::NoValue"}]]
        expect(alarms == {"Fn::If": ["RollsBack", *rolls_back]}, f"{name}: no alarm rolls it back")
        # Of a changed parameter SAM sees nothing: a version has another Revision, and so has what is published as one.
        expect(properties.get("VersionDescription") == {"Ref": "Revision"}, f"{name}: no version of a changed parameter")
        description = properties.get("Description", {})
        told = description.get("Fn::Sub") if isinstance(description, dict) else None
        expect(told == f"{function['does']} (${{Revision}})", f"{name}: Description is not what it does, and Revision")
        callers = {machine for machine, of in FUNCTIONS["machines"].items() if name in of["calls"]}
        callers |= {
            listed(named(e["Properties"].get("Stream") or e["Properties"]["Queue"]))[0]
            for e in properties.get("Events", {}).values()
        }
        same(f"callers of {name}", callers, function["called_by"])


@check
def permissions():
    """Each role has what its function or machine is declared to have, and writes its own log."""
    roles = of_type("AWS::IAM::Role")
    own = {f"{camel(name)}Role" for name in FUNCTIONS["functions"]}
    own |= {f"{camel(name)}MachineRole" for name in FUNCTIONS["machines"]}
    same("roles", roles, own | {"SchedulesRole", "CodeDeployServiceRole"})
    for name, function in FUNCTIONS["functions"].items():
        log = {(action, f"{camel(name)}LogGroup") for action in ("logs:CreateLogStream", "logs:PutLogEvents")}
        same(f"rights of {name}", granted(roles[f"{camel(name)}Role"]), declared(function["permissions"]) | log)
        trusts(f"{camel(name)}Role", roles, "lambda.amazonaws.com")
    for name, machine in FUNCTIONS["machines"].items():
        calls = {("lambda:InvokeFunction", f"{camel(called)}:live") for called in machine["calls"]}
        same(
            f"rights of machine {name}",
            granted(roles[f"{camel(name)}MachineRole"]),
            declared(machine["permissions"]) | calls,
        )
        trusts(f"{camel(name)}MachineRole", roles, "states.amazonaws.com")
    trusts("SchedulesRole", roles, "scheduler.amazonaws.com")


def granted(role):
    return {right for policy in role["Policies"] for right in rights(policy["PolicyDocument"]["Statement"])}


def trusts(name, roles, service):
    statements = roles[name]["AssumeRolePolicyDocument"]["Statement"]
    expect(
        [s["Principal"] for s in statements] == [{"Service": service}], f"{name}: who may be it is not {service} alone"
    )


@check
def least_privilege():
    """No action is a wildcard, and no resource but those that cannot be named."""
    for name, resource in RESOURCES.items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        documents += [properties[key] for key in ("PolicyDocument",) if key in properties]
        for statement in (s for document in documents for s in conditional(document["Statement"])):
            if statement["Effect"] == "Deny":
                continue
            for action in listed(statement["Action"]):
                expect("*" not in action, f"{name}: `{action}`")
            expect(statement.get("Principal") != "*", f"{name}: everybody is allowed")
            for on in listed(statement["Resource"]):
                expect(on != "*" or name in ANY_RESOURCE, f"{name}: {statement['Action']} on `*`")
    for name, role in of_type("AWS::IAM::Role").items():
        for policy in named(role.get("ManagedPolicyArns", [])):
            known = {"VpcPolicy", "MachineLogPolicy"} | ({policy} if name == "CodeDeployServiceRole" else set())
            expect(policy in known, f"{name}: policy `{policy}`")


# ---- machines


@check
def machines():
    same(
        "state machines",
        [p.name.removesuffix(".asl.json") for p in (ROOT / "statemachines").iterdir()],
        FUNCTIONS["machines"],
    )
    for name, machine in FUNCTIONS["machines"].items():
        resource = SOURCE["Resources"].get(f"{camel(name)}Machine", {}).get("Properties", {})
        expect(resource.get("Type") == machine["type"], f"{name}: Type")
        expect(resource.get("DefinitionUri") == f"../../statemachines/{name}.asl.json", f"{name}: DefinitionUri")
        used = set(re.findall(r"\$\{(\w+)\}", json.dumps(MACHINES[name])))
        same(f"substitutions of {name}", resource.get("DefinitionSubstitutions", {}), used)
        same(
            f"functions of machine {name}",
            {called for _, _, called in tasks(MACHINES[name])},
            map(camel, machine["calls"]),
        )
        for called, arn in resource.get("DefinitionSubstitutions", {}).items():
            if called in map(camel, machine["calls"]):
                expect(arn == {"Fn::Sub": f"${{{called}.Arn}}:live"}, f"{name}: {called} is not the alias")


@check
def errors_of_tasks():
    """Each call of a function names every kind of error; retries back off, with jitter and an end."""
    kinds = [kind for kinds in ERRORS.values() for kind in kinds]
    for machine, definition in MACHINES.items():
        for name, state, called in tasks(definition):
            where = f"{machine}/{name}"
            expect(name.startswith(called), f"{where}: calls {called}")
            caught = [kind for catch in state["Catch"] for kind in catch["ErrorEquals"]]
            retried = [kind for retry in state["Retry"] for kind in retry["ErrorEquals"]]
            same(f"errors that {where} retries or catches", set(caught) | set(retried), [*kinds, "States.ALL"])
            same(f"errors that {where} catches", caught, [*kinds, "States.ALL"])
            same(f"fatal errors that {where} retries", set(retried) & set(ERRORS["fatal"]), [])
            expect(state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], f"{where}: States.ALL is not last")
            timeout = FUNCTIONS["functions"][kebab(called)]["timeout_seconds"]
            expect(state["TimeoutSeconds"] <= timeout, f"{where}: waits longer than its function runs")
            given = state["Parameters"].get("Payload", {}).get("seconds", 0)
            expect(given < state["TimeoutSeconds"], f"{where}: gives its function as long as it waits")
            expect(given or called != "ArchiveEvents", f"{where}: does not say how long it waits")
        for name, state in states(definition):
            if state["Type"] != "Task":
                continue
            expect("TimeoutSeconds" in state and state.get("Retry"), f"{machine}/{name}: no timeout or retry")
            for retry in state.get("Retry", []):
                good = retry.get("JitterStrategy") == "FULL" and "MaxDelaySeconds" in retry and retry["BackoffRate"] > 1
                expect(good, f"{machine}/{name}: a retry without backoff, jitter or longest delay")


@check
def work_is_parked():
    """Whoever redrives finds machine, input, error, cause and execution; what cannot be archived is parked."""
    for machine in ("ingest", "backfill"):
        all_states = dict(states(MACHINES[machine]))
        parking = {
            name: state for name, state in all_states.items() if state.get("Resource", "").endswith(":sqs:sendMessage")
        }
        for name, state in parking.items():
            body = state["Parameters"]["MessageBody"]
            same(f"what {machine}/{name} parks", body, ["machine", "input.$", "error.$", "cause.$", "execution.$"])
            expect(body.get("machine") == machine, f"{machine}/{name}: parks for `{body.get('machine')}`")
        for name, state in all_states.items():
            if name.startswith(("ArchiveEvents", "Continue", "StageObjects", "EachBatch")):
                for catch in state["Catch"]:
                    expect(catch["Next"] in parking, f"{machine}/{name}: what fails is not parked")


@check
def express_machines_end_in_time():
    for machine in ("ingest", "seal"):
        total = longest(MACHINES[machine], lambda _, state: state.get("TimeoutSeconds", 0) if is_call(state) else 0)
        expect(
            total < TASKS_SECONDS, f"{machine}: its functions may take {total} s, expected less than {TASKS_SECONDS}"
        )
    for machine, of in FUNCTIONS["machines"].items():
        if of["type"] == "EXPRESS":
            total = longest(MACHINES[machine], lambda name, state: 0 if (machine, name) in MAY_BE_CUT else worst(state))
            expect(total <= EXPRESS_SECONDS, f"{machine}: may take {total} s, expected at most {EXPRESS_SECONDS}")


def is_call(state):
    return state.get("Resource", "").endswith(":lambda:invoke")


def worst(state):
    """Seconds of a task with all that is retried. Lambda refuses at once what it is too busy for."""
    if state["Type"] != "Task":
        return 0
    seconds = state["TimeoutSeconds"]
    for retry in state["Retry"]:
        delay = retry["IntervalSeconds"]
        for _ in range(retry["MaxAttempts"]):
            seconds += min(delay, retry["MaxDelaySeconds"])
            delay *= retry["BackoffRate"]
            if not retry["ErrorEquals"][0].startswith("Lambda."):
                seconds += state["TimeoutSeconds"]
    return seconds


def longest(machine, seconds, at=None, seen=frozenset()):
    """The longest path from a state, in what `seconds` says of each."""
    name = at or machine["StartAt"]
    if name in seen:
        return 0
    state = machine["States"][name]
    own = seconds(name, state) + max((longest(branch, seconds) for branch in state.get("Branches", [])), default=0)
    following = [state.get("Next"), state.get("Default")]
    following += [item["Next"] for item in state.get("Choices", []) + state.get("Catch", [])]
    return own + max((longest(machine, seconds, n, seen | {name}) for n in following if n), default=0)


def kebab(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


# ---- what an emulation leaves out


@check
def buckets():
    policies = {
        named(p["Bucket"])[0]: p["PolicyDocument"]["Statement"] for p in of_type("AWS::S3::BucketPolicy").values()
    }
    for name, bucket in of_type("AWS::S3::Bucket").items():
        closed = bucket["PublicAccessBlockConfiguration"]
        expect(len(closed) == 4 and all(closed.values()), f"{name}: public access")
        expect(bucket["VersioningConfiguration"] == {"Status": "Enabled"}, f"{name}: no versions")
        rule = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
        expect(rule["SSEAlgorithm"] == ("AES256" if name == "LogBucket" else "aws:kms"), f"{name}: encryption")
        expect(name == "LogBucket" or "LoggingConfiguration" in bucket, f"{name}: no access log")
        expect(RESOURCES[name].get("DeletionPolicy") == "RetainExceptOnCreate", f"{name}: goes with the stack")
        tls = [
            s
            for s in policies.get(name, [])
            if s["Effect"] == "Deny" and s.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        ]
        expect(len(tls) == 1 and tls[0]["Principal"] == "*", f"{name}: not TLS alone")
        rules = bucket["LifecycleConfiguration"]["Rules"]
        expect(any("AbortIncompleteMultipartUpload" in rule for rule in rules), f"{name}: incomplete uploads stay")
        expiring = [rule for rule in rules if "ExpirationInDays" in rule]
        allowed = {"RawBucket": {"taken", "lists-of-backfills"}, "LogBucket": {"old-logs"}}.get(name, set())
        same(f"rules of {name} by which objects expire", {rule["Id"] for rule in expiring}, allowed)
        if name == "RawBucket":
            tags = next(rule["TagFilters"] for rule in expiring if rule["Id"] == "taken")
            expect(tags == [{"Key": "keytrail", "Value": "taken"}], f"{name}: what is not taken expires")
            own = [{"TagFilters": tags}, {"Prefix": "open/"}, {"Prefix": "backfill/"}]
            for rule in (rule for rule in rules if "NoncurrentVersionExpiration" in rule):
                of = {key: rule[key] for key in ("TagFilters", "Prefix", "Filter") if key in rule}
                expect(of in own, f"{name}: versions that are not taken expire by `{rule['Id']}`")
    archive = of_type("AWS::S3::Bucket")["ArchiveBucket"]
    expect(archive.get("ObjectLockEnabled") is True, "ArchiveBucket: no Object Lock")
    expect("ObjectLockConfiguration" not in archive, "ArchiveBucket: has a default retention")


@check
def streams_and_queues():
    mappings = of_type("AWS::Lambda::EventSourceMapping").values()
    for mapping in mappings:
        expect(
            mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"],
            f"{mapping['EventSourceArn']}: fails whole batches",
        )
    records = [m for m in mappings if named(m["EventSourceArn"]) == ["RecordsStream"]]
    wanted = ("ParallelizationFactor", "MaximumRetryAttempts", "MaximumBatchingWindowInSeconds", "BatchSize")
    for mapping in records:
        expect(mapping.get("BisectBatchOnFunctionError") is True, "RecordsStream: batches are not bisected")
        expect("OnFailure" in mapping.get("DestinationConfig", {}), "RecordsStream: failures go nowhere")
        same("mapping of RecordsStream", [key for key in wanted if key in mapping], wanted)
    expect(len(records) == 1, "RecordsStream: expected one mapping")
    expect(
        of_type("AWS::Kinesis::Stream")["RecordsStream"]["StreamEncryption"]["EncryptionType"] == "KMS",
        "RecordsStream: encryption",
    )
    queues = of_type("AWS::SQS::Queue")
    for name, queue in queues.items():
        expect(named(queue.get("KmsMasterKeyId", "none")) == ["DataKey"], f"{name}: encryption")
        dead = name.endswith("DeadLetterQueue")
        expect(dead != ("RedrivePolicy" in queue), f"{name}: dead letters")
        expect(not dead or f"{name.removesuffix('Queue')}Alarm" in RESOURCES, f"{name}: no alarm")
    timeout = FUNCTIONS["functions"]["stage-objects"]["timeout_seconds"]
    longest_window = SOURCE["Parameters"]["ObjectsWindowSeconds"]["MaxValue"]
    expect(
        queues["ObjectsQueue"]["VisibilityTimeout"] >= 6 * timeout + longest_window,
        "ObjectsQueue: comes back while its function runs",
    )
    for name, topic in of_type("AWS::SNS::Topic").items():
        expect(named(topic.get("KmsMasterKeyId", "none")) == ["DataKey"], f"{name}: encryption")
    for name, group in of_type("AWS::Logs::LogGroup").items():
        expect(
            "RetentionInDays" in group and named(group.get("KmsKeyId", "none")) == ["DataKey"],
            f"{name}: retention or encryption",
        )
    same(
        "log groups",
        of_type("AWS::Logs::LogGroup"),
        [f"{camel(f)}LogGroup" for f in FUNCTIONS["functions"]]
        + [f"{camel(m)}MachineLogGroup" for m in FUNCTIONS["machines"]],
    )
    for name, alias in of_type("AWS::Lambda::Alias").items():
        expect("UpdatePolicy" in RESOURCES[name] and alias["Name"] == "live", f"{name}: no gradual deployment")


@check
def schedules():
    found = of_type("AWS::Scheduler::Schedule")
    expected = {
        "SealSchedule": ("rate(1 minute)", "SealMachine"),
        "SweepSchedule": ("rate(5 minutes)", "SweepMachine"),
        "WeeklyReportSchedule": ("cron(0 13 ? * TUE *)", "WeeklyReportMachine"),
    }
    same("schedules", found, expected)
    for name, (expression, machine) in expected.items():
        schedule = found[name]
        expect(
            (schedule["ScheduleExpression"], named(schedule["Target"]["Arn"])) == (expression, [machine]),
            f"{name}: when or what",
        )
        expect("AWS::StackName" in schedule["Name"]["Fn::Sub"], f"{name}: its name is not the stack's")
        expect("DeadLetterConfig" in schedule["Target"], f"{name}: what is not started is lost")


@check
def alarms():
    """Alarms are on metrics that functions emit, and told to the topic; each function has two of its own."""
    emitted = {
        (f"{name}", metric) for name, function in FUNCTIONS["functions"].items() for metric in function["metrics"]
    }
    found = of_type("AWS::CloudWatch::Alarm")
    for name, alarm in found.items():
        expect([named(a) for a in alarm["AlarmActions"]] == [["AlarmsTopic"]], f"{name}: tells nobody")
        if alarm.get("Namespace") == FUNCTIONS["namespace"]:
            dimensions = {d["Name"]: d["Value"] for d in alarm["Dimensions"]}
            same(f"dimensions of {name}", dimensions, ["Function", "Environment"])
            expect((dimensions["Function"], alarm["MetricName"]) in emitted, f"{name}: nobody emits its metric")
    for function in FUNCTIONS["functions"]:
        for kind in ("Errors", "Throttles"):
            expect(f"{camel(function)}{kind}Alarm" in found, f"{function}: no alarm of {kind}")
    for machine in FUNCTIONS["machines"]:
        expect(f"{camel(machine)}FailedAlarm" in found, f"{machine}: no alarm of failed executions")


# ---- code, pages, configuration


@check
def code():
    """Error types, environment and metrics as in the crate of the functions."""
    crate = ROOT / "crates/lambdas"
    if not crate.exists():
        return
    listed_errors = (crate / "src/errors.rs").read_text()
    for kind in ("retryable", "fatal"):
        found = re.search(rf"const {kind.upper()}: \[&str; \d+\] =\s*\[(.*?)\];", listed_errors, re.S)
        expect(found, f"crates/lambdas/src/errors.rs: no `{kind.upper()}`")
        same(f"{kind} errors of the code", re.findall(r'"([\w.]+)"', found[1]) if found else [], ERRORS[kind])
    text = "".join(path.read_text() for path in sorted((crate / "src").rglob("*.rs")))
    variables = {name for function in FUNCTIONS["functions"].values() for name in function["environment"]}
    same("variables that the code reads", re.findall(r"\bKEYTRAIL_[A-Z_]+\b", text), variables)
    for metric in {name for function in FUNCTIONS["functions"].values() for name in function["metrics"]}:
        expect(f'"{metric}"' in text, f"crates/lambdas: emits no `{metric}`")
    binaries = {path.stem for path in (crate / "src/bin").glob("*.rs")}
    same("binaries", binaries, FUNCTIONS["functions"])


@check
def runbook():
    """A section for each alarm, kind of error and finding: a heading, or the first cell of a section's table."""
    text = (ROOT / "infra/aws/RUNBOOK.md").read_text()
    sections = set(re.findall(r"`([\w.]+)`", "\n".join(re.findall(r"^(?:#+ .*|\| `.*?` \|)", text, re.M))))
    codes = re.findall(r'^    \w+ "([A-Z_]+)",$', (ROOT / "crates/ledger/src/finding.rs").read_text(), re.M)
    expect(len(codes) > 20, "crates/ledger/src/finding.rs: cannot be read")
    kinds = [kind for kinds in ERRORS.values() for kind in kinds]
    same("sections of RUNBOOK.md", sections, [*of_type("AWS::CloudWatch::Alarm"), *kinds, *codes])


@check
def made_files():
    for command in (["infra/aws/columns", "--check"], ["infra/aws/costs.py", "--check"]):
        ran = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        expect(ran.returncode == 0, f"{' '.join(command)}: {ran.stderr.strip()}")
    text = "".join(path.read_text() for path in (ROOT / "crates/normalize/src").rglob("*.rs"))
    datasets = re.findall(r'const DATASET: &str = "([^"]+)"', text)
    same("datasets of the tables", SOURCE["Parameters"]["Datasets"]["Default"].split(","), datasets)


@check
def environments():
    """samconfig.toml gives each environment parameters that the template has, with values that it allows."""
    config = tomllib.loads((ROOT / "infra/aws/samconfig.toml").read_text())
    for environment in ("dev", "test", "staging", "prod"):
        given = dict(p.split("=", 1) for p in config[environment]["deploy"]["parameters"]["parameter_overrides"])
        expect(
            given.get("Environment") == environment, f"samconfig.toml: {environment} is `{given.get('Environment')}`"
        )
        for name, value in given.items():
            parameter = SOURCE["Parameters"].get(name)
            expect(parameter, f"samconfig.toml: {environment}: there is no `{name}`")
            allowed = [str(v) for v in (parameter or {}).get("AllowedValues", [value])]
            expect(value in allowed, f"samconfig.toml: {environment}: {name}={value}")
        command = ["infra/aws/deploy", "--print", environment]
        ran = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        if ran.returncode:
            problems.append(ran.stderr.strip())
            continue
        arguments = shlex.split(ran.stdout)
        printed = dict(a.split("=", 1) for a in arguments[arguments.index("--parameter-overrides") + 1 :] if "=" in a)
        same(f"parameters of {' '.join(command)}", printed, SOURCE["Parameters"])
        values = {name: value for name, value in printed.items() if name != "Revision"}
        defaults = {name: str(p.get("Default")) for name, p in SOURCE["Parameters"].items()} | given
        same(f"values of {' '.join(command)}", values.items(), {n: f'"{defaults[n]}"' for n in values}.items())
    prod = dict(p.split("=", 1) for p in config["prod"]["deploy"]["parameters"]["parameter_overrides"])
    expect(
        (prod["LockMode"], prod["LockDays"]) == ("COMPLIANCE", "400"), "samconfig.toml: prod does not lock for 400 days"
    )
    expect(config["default"]["deploy"] == config["dev"]["deploy"], "samconfig.toml: the default is not dev")


def main():
    for each in checks:
        each()
    for problem in problems:
        print(problem)
    print(f"{PATH.name}: {len(RESOURCES)} resources, {len(checks)} checks, {len(problems)} problems")
    sys.exit(bool(problems))


main()
