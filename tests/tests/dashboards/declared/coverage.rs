//! What was heard of each source, and how late.

use super::*;
use crate::panel::{Bucket, By, Panel, count, metric, over_time, table, unique, values};

/// Coverage and lag.
pub fn coverage() -> Dashboard {
    let all = || Filter::All;
    let events = || count("events", "Events");
    let dataset = || values("dataset", "Dataset", "event.dataset", 20);
    let source = || values("source", "Source", "keytrail.source", 100);
    let read = || max("read", "Last read", "event.ingested");
    let hour = Bucket { name: "time", label: "Hour", by: By::Time("@timestamp", "1h") };
    let reading = || Bucket { name: "read", label: "Read", by: By::Time("event.ingested", "1h") };
    Dashboard {
        id: "keytrail-coverage",
        title: "coverage and lag",
        answers: "Is every source heard, until when, how late was it read, and where are numbers missing? The time range is that \
                  of the events' own time; a source that is silent in it has no row: compare with a longer one, and with \
                  `keytrail sources`, which knows what is declared.",
        from: "now-7d",
        controls: vec![("Dataset", "event.dataset"), ("Source", "keytrail.source")],
        panels: vec![
            metric("Events", all(), events(), "SELECT count(*) AS events FROM events"),
            metric("Newest event", all(), last(), "SELECT max(ms) AS last FROM events"),
            metric("Last read", all(), read(), "SELECT max(read_ms) AS read FROM events"),
            metric(
                "Events without a time, ever",
                all(),
                events(),
                "SELECT count(*) AS events FROM undated",
            )
            .undated(),
            over_time(
                "Events an hour, by dataset",
                all(),
                dataset(),
                hour,
                "SELECT dataset, ms // 3600000 * 3600000 AS time, count(*) AS events FROM events GROUP BY ALL",
            ),
            table(
                "Last heard and last read: what is read as it happens has nearly the same in both",
                all(),
                [dataset(), source()],
                [events(), first(), last(), read()],
                "SELECT dataset, keytrail_source AS source, count(*) AS events, min(ms) AS first, max(ms) AS last,
                   max(read_ms) AS read
                 FROM events GROUP BY ALL",
            )
            .wide(),
            over_time(
                "Events read an hour, by dataset",
                all(),
                dataset(),
                reading(),
                "SELECT dataset, read_ms // 3600000 * 3600000 AS read, count(*) AS events FROM events GROUP BY ALL",
            ),
            table(
                "How old they were when they were read: oldest and newest of each hour",
                all(),
                [dataset(), reading()],
                [events(), first(), last()],
                "SELECT dataset, read_ms // 3600000 * 3600000 AS read, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events GROUP BY ALL",
            ),
            table(
                "Sources that nobody declared",
                is("keytrail.undeclared", "true"),
                [dataset(), source()],
                [events(), first(), last()],
                "SELECT dataset, keytrail_source AS source, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE keytrail_undeclared GROUP BY ALL",
            ),
            table(
                "Audit logs of HSMs: without a gap, there are as many numbers as last - first + 1",
                and([is("event.dataset", "aws.cloudhsm"), has("event.sequence")]),
                [source(), values("reboots", "Reboot counter", "keytrail.hsm.reboot_counter", 100)],
                [
                    events(),
                    unique("numbers", "Numbers", "event.sequence"),
                    min("lowest", "First", "event.sequence"),
                    max("highest", "Last", "event.sequence"),
                ],
                "SELECT keytrail_source AS source, keytrail_hsm_reboot_counter AS reboots, count(*) AS events,
                   count(DISTINCT event_sequence) AS numbers, min(event_sequence) AS lowest, max(event_sequence) AS highest
                 FROM events WHERE dataset = 'aws.cloudhsm' AND event_sequence IS NOT NULL AND reboots IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Chains of key operations: without a gap, there are as many numbers as last - first + 1",
                has("keytrail.ledger.seq"),
                [
                    values("chain", "Chain", "keytrail.ledger.source", 100),
                    values("epoch", "Epoch", "keytrail.ledger.epoch", 100),
                ],
                [
                    events(),
                    unique("numbers", "Numbers", "keytrail.ledger.seq"),
                    min("lowest", "First", "keytrail.ledger.seq"),
                    max("highest", "Last", "keytrail.ledger.seq"),
                ],
                "SELECT keytrail_ledger_source AS chain, keytrail_ledger_epoch AS epoch, count(*) AS events,
                   count(DISTINCT keytrail_ledger_seq) AS numbers, min(keytrail_ledger_seq) AS lowest,
                   max(keytrail_ledger_seq) AS highest
                 FROM events WHERE keytrail_ledger_seq IS NOT NULL GROUP BY ALL",
            ),
            Panel::search("Events without a time", "keytrail-search-undated"),
        ],
    }
}
