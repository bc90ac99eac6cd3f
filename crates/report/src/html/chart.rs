//! Charts: inline SVG that reads without colour. Every number in them stands in a table, too.

use maud::{Markup, html};

use super::{count, spelled};

/// Width of a bar with its gap, height of the bars.
const STEP: usize = 8;
const HEIGHT: u64 = 26;

/// A bar for each week, the last one the week of the report; a week without events is a cross on the line. The
/// name may be of a log.
pub fn sparkline(name: &str, before: &[Option<u64>], now: u64) -> Markup {
    let values: Vec<Option<u64>> = before.iter().copied().chain([Some(now)]).collect();
    let most = values.iter().flatten().copied().max().unwrap_or_default().max(1);
    let width = values.len() * STEP;
    let told: Vec<String> = values.iter().map(|v| v.map_or("no events".into(), count)).collect();
    let label = format!("{}, {} weeks before and this one: {}", spelled(name), before.len(), told.join(", "));
    html! {
        svg.spark viewBox=(format!("0 0 {width} {}", HEIGHT + 4)) width=(width * 2) height=((HEIGHT + 4) * 2) role="img" aria-label=(label) {
            title { (label) }
            line.axis x1="0" x2=(width) y1=(HEIGHT + 1) y2=(HEIGHT + 1) {}
            @for (i, value) in values.iter().enumerate() {
                @let x = i * STEP + 1;
                @match value {
                    Some(n) => {
                        @let height = scaled(*n, most);
                        rect.bar.now[i + 1 == values.len()] x=(x) y=(HEIGHT - height + 1) width=(STEP - 2) height=(height) {}
                    }
                    None => {
                        path.missing d=(format!("M{} {}l4 4m0 -4l-4 4", x + 1, HEIGHT - 5)) {}
                    }
                }
            }
        }
    }
}

/// The height of a bar; anything above nothing can be seen.
fn scaled(n: u64, most: u64) -> u64 {
    let height = u128::from(n) * u128::from(HEIGHT) / u128::from(most);
    u64::try_from(height).unwrap_or(HEIGHT).max(u64::from(n > 0))
}

/// A day: its name, events, and failed operations.
pub struct Day {
    /// `Mon 10`.
    pub name: String,
    /// Events.
    pub events: u64,
    /// Failed operations.
    pub failures: u64,
}

/// A bar for each day of the week: events outlined, failures hatched in them, both in numbers.
pub fn week(days: &[Day]) -> Markup {
    const BAR: usize = 90;
    const TALL: u64 = 120;
    let most = days.iter().map(|d| d.events.max(d.failures)).max().unwrap_or_default().max(1);
    let high = |n: u64| {
        u64::try_from(u128::from(n) * u128::from(TALL) / u128::from(most))
            .unwrap_or(TALL)
            .max(u64::from(n > 0))
    };
    let width = days.len() * BAR;
    html! {
        figure {
            svg.week viewBox=(format!("0 0 {width} {}", TALL + 62)) role="img" aria-label="Events and failed operations by day; the numbers are in the table below" {
                defs {
                    pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        rect.paper width="6" height="6" {}
                        line.ink x1="0" x2="0" y1="0" y2="6" {}
                    }
                }
                line.axis x1="0" x2=(width) y1=(TALL + 22) y2=(TALL + 22) {}
                @for (i, day) in days.iter().enumerate() {
                    @let (x, events, failures) = (i * BAR, high(day.events), high(day.failures));
                    rect.events x=(x + 18) y=(TALL + 22 - events) width="54" height=(events) {}
                    rect.failed x=(x + 18) y=(TALL + 22 - failures) width="54" height=(failures) {}
                    text x=(x + 45) y=(TALL + 15 - events.max(failures)) text-anchor="middle" { (count(day.events)) }
                    text x=(x + 45) y=(TALL + 40) text-anchor="middle" { (day.name) }
                    text.small x=(x + 45) y=(TALL + 56) text-anchor="middle" {
                        @if day.events == 0 { "silent" } @else { (count(day.failures)) " failed" }
                    }
                }
            }
            figcaption { "Events by day. The hatched part are failed operations." }
        }
    }
}
