#!/usr/bin/env python3
"""Computes the tables of COSTS.md from list prices and a model of the load.

infra/aws/costs.py [--check]      writes them; --check writes nothing, and fails where they differ
infra/aws/costs.py --events 2e8 --bytes 1500      prints one load of yours
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "COSTS.md"
BEGIN, END = "<!-- made by infra/aws/costs.py -->\n", "<!-- end of what was made -->\n"

# List prices of us-east-1 in US dollars as of June 2025, the first tier of each, without free tiers, discounts and taxes.
PRICES = {
    "Lambda, x86_64: GB-second": 0.0000166667,
    "Lambda: million requests": 0.20,
    "Step Functions Express: million executions": 1.00,
    "Step Functions Express: GB-second": 0.00001667,
    "Step Functions Standard: thousand transitions": 0.025,
    "EventBridge Scheduler: million invocations": 1.00,
    "Kinesis: shard-hour": 0.015,
    "Kinesis: million PUT payload units of 25 KB": 0.014,
    "Kinesis: shard-hour of retention above 24 h": 0.020,
    "S3 Standard: GB-month": 0.023,
    "S3: thousand PUT, LIST": 0.005,
    "S3: thousand GET": 0.0004,
    "SQS: million requests": 0.40,
    "KMS: key-month": 1.00,
    "KMS: ten thousand requests": 0.03,
    "Secrets Manager: secret-month": 0.40,
    "CloudWatch: GB of logs": 0.50,
    "CloudWatch: metric-month": 0.30,
    "CloudWatch: alarm-month": 0.10,
    "Fargate, x86_64: vCPU-hour": 0.04048,
    "Fargate: GB-hour": 0.004445,
}

HOURS = 730
SECONDS = HOURS * 3600
LOADS = (1e6, 1e8, 3e9)


@dataclass
class Load:
    """What comes in a month, and what was measured or chosen."""

    events: float
    # Of a record of CloudTrail; and what an event takes in the archive, original bytes and all.
    event_bytes: float = 1350
    archived_bytes: float = 270
    # The busiest hour against the mean.
    peak: float = 3
    # RecordsWindowSeconds, and the 6 MB that an invocation takes.
    window_seconds: float = 30
    invocation_bytes: float = 4e6
    # Of a function with one CPU; a third of what one core makes on a machine, for S3, cold starts and small batches.
    events_per_cpu_second: float = 14_000
    raw_days: float = 30

    @property
    def shards(self):
        """A shard takes 1 MB or 1,000 records a second."""
        rate = self.events * self.peak / SECONDS
        return max(1, math.ceil(rate * self.event_bytes / 1e6), math.ceil(rate / 1000))

    @property
    def batches(self):
        """Invocations of stage-records, each of which starts ingest."""
        windows = self.shards * SECONDS / self.window_seconds
        return max(min(self.events, windows), self.events * self.event_bytes / self.invocation_bytes)


def price(name, amount):
    return PRICES[name] * amount


def lambda_cost(invocations, seconds, mib):
    return price("Lambda: million requests", invocations / 1e6) + price(
        "Lambda, x86_64: GB-second", invocations * seconds * mib / 1024
    )


def compute(load):
    """Functions and machines."""
    minutes = SECONDS / 60
    per_batch = load.events / load.batches
    archive_seconds = 0.4 + per_batch / load.events_per_cpu_second
    functions = lambda_cost(load.batches, 0.15 + per_batch * load.event_bytes / 5e7, 256)
    functions += lambda_cost(load.batches, archive_seconds, 1769)
    # Of each minute: seal, index, alerts, compact. Indexing, alerts and compaction read what is new once more.
    rows = load.events / minutes / load.events_per_cpu_second
    functions += lambda_cost(minutes, 0.5 + load.batches / minutes * 0.002, 512) + lambda_cost(
        minutes, 0.2 + rows, 1769
    )
    functions += lambda_cost(minutes, 0.2 + rows, 1769) + lambda_cost(minutes, 0.3 + 2 * rows, 1769)
    functions += lambda_cost(SECONDS / 300, 0.5, 256)
    # The weekly report: verify, a fold of each day, rendering.
    functions += lambda_cost(1, 4.3 * (60 + load.events / 4.3 / 80_000), 1769)
    executions = load.batches + minutes + SECONDS / 300
    machines = price("Step Functions Express: million executions", executions / 1e6)
    machines += price("Step Functions Express: GB-second", (load.batches * (archive_seconds + 0.5) + minutes * 2) / 16)
    machines += price("EventBridge Scheduler: million invocations", (minutes + SECONDS / 300) / 1e6)
    return functions, machines


def containers(load):
    """The same work by `keytrail run --follow` in tasks that are sized for the busiest hour, at least half a vCPU."""
    cpus = max(0.5, 4 * load.events * load.peak / SECONDS / load.events_per_cpu_second)
    cpus = math.ceil(cpus * 2) / 2
    return HOURS * (price("Fargate, x86_64: vCPU-hour", cpus) + price("Fargate: GB-hour", 2 * cpus)), cpus


def stream(load):
    cost = price("Kinesis: shard-hour", load.shards * HOURS) + price(
        "Kinesis: shard-hour of retention above 24 h", load.shards * HOURS
    )
    return cost + price(
        "Kinesis: million PUT payload units of 25 KB", load.events * math.ceil(load.event_bytes / 25e3) / 1e6
    )


def storage(load, batched=True):
    """The archive's first month, raw objects, requests. In containers there is one batch a minute."""
    gigabytes = (
        load.events * load.archived_bytes + load.events * load.event_bytes * min(1, load.raw_days / 30.4)
    ) / 1e9
    minutes = SECONDS / 60
    batches = load.batches if batched else minutes
    puts = batches * 10 + minutes * 12
    gets = batches * 8 + minutes * 25
    return (
        price("S3 Standard: GB-month", gigabytes)
        + price("S3: thousand PUT, LIST", puts / 1e3)
        + price("S3: thousand GET", gets / 1e3)
        # Bucket keys: one request for about a hundred objects.
        + price("KMS: ten thousand requests", (puts + gets) / 100 / 1e4)
    )


def watching(load):
    lines = load.batches * 3 + SECONDS / 60 * 4
    return (
        price("CloudWatch: GB of logs", lines * 700 / 1e9)
        + price("CloudWatch: metric-month", 40)
        + price("CloudWatch: alarm-month", 54)
        + price("KMS: key-month", 1)
        + price("Secrets Manager: secret-month", 1)
    )


def costs(load):
    functions, machines = compute(load)
    tasks, cpus = containers(load)
    rows = {
        "functions": functions,
        "state machines, schedules": machines,
        "stream": stream(load),
        "buckets, their key": storage(load),
        "logs, metrics, alarms, secret": watching(load),
    }
    total = sum(rows.values())
    other = tasks + stream(load) + storage(load, batched=False) + watching(load)
    return rows, total, tasks, cpus, other


def dollars(value):
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def tables(loads):
    names = [f"{load.events / 1e6:,.0f} M events" for load in loads]
    found = [costs(load) for load in loads]
    out = [f"| dollars a month | {' | '.join(names)} |", "| --- |" + " ---: |" * len(loads)]
    for row in found[0][0]:
        out.append(f"| {row} | {' | '.join(dollars(f[0][row]) for f in found)} |")
    out.append(f"| **all** | {' | '.join(dollars(f[1]) for f in found)} |")
    out.append(
        f"| **a million events** | {' | '.join(dollars(f[1] / load.events * 1e6) for f, load in zip(found, loads))} |"
    )
    full = [price("S3 Standard: GB-month", load.events * load.archived_bytes / 1e9 * 400 / 30.4) for load in loads]
    out.append(f"| besides, once the archive holds 400 days | {' | '.join(map(dollars, full))} |")
    out.append(f"| shards; batches a month | {' | '.join(f'{load.shards}; {load.batches:,.0f}' for load in loads)} |")
    out += ["", f"| the same in containers | {' | '.join(names)} |", "| --- |" + " ---: |" * len(loads)]
    out.append(f"| vCPU | {' | '.join(f'{f[3]:g}' for f in found)} |")
    out.append(f"| tasks, in place of functions and machines | {' | '.join(dollars(f[2]) for f in found)} |")
    out.append(f"| **all** | {' | '.join(dollars(f[4]) for f in found)} |")
    out.append(
        f"| **a million events** | {' | '.join(dollars(f[4] / load.events * 1e6) for f, load in zip(found, loads))} |"
    )
    return "\n".join(out) + "\n"


def page():
    prices = "| list price | dollars |\n| --- | ---: |\n" + "".join(
        f"| {name} | {value:.10g} |\n" for name, value in PRICES.items()
    )
    return BEGIN + "\n" + tables([Load(events) for events in LOADS]) + "\n" + prices + "\n" + END


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--events", type=float)
    parser.add_argument("--bytes", type=float, default=Load.event_bytes)
    options = parser.parse_args()
    if options.events:
        print(tables([Load(options.events, event_bytes=options.bytes)]), end="")
        return
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        sys.exit(f"{PAGE.name}: expected `{BEGIN.strip()}` and `{END.strip()}`")
    made = head + page() + tail
    if not options.check:
        PAGE.write_text(made)
    elif made != text:
        sys.exit(f"{PAGE.name}: differs from what it is made of: run infra/aws/costs.py")


main()
