//! The report as a page, in a real browser: hostile logs break no layout and run no script.

use std::fs;

use keytrail_tests::oracle::oracle_in;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number};
use serde_json::{Value, json};

/// Of the kinds that the Big List of Naughty Strings collects, written anew for this test.
fn naughty() -> Vec<String> {
    let mut all: Vec<String> = [
        "<script>window.hacked=1;alert('script')</script>",
        "\"><script>window.hacked=1;alert(1)</script>",
        "'><img src=x onerror=\"window.hacked=1;alert(1)\">",
        "</title></style></script><svg onload=alert(1)><a xlink:href=\"javascript:alert(1)\">x</a></svg>",
        "</td></tr></table></main><iframe src=\"javascript:alert(1)\"></iframe>",
        "<style>*{display:none!important}</style><link rel=stylesheet href=//example.com/x.css>",
        "\" style=\"position:fixed;inset:0;background:red\" onmouseover=\"alert(1)",
        "<base href=\"//example.com/\"><meta http-equiv=refresh content=\"0;url=//example.com\">",
        "<form action=//example.com><input autofocus onfocus=alert(1)></form>",
        "javascript:alert(1)//",
        "&lt;script&gt;alert(1)&lt;/script&gt;&#x3C;&#60;&amp;",
        "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= 7*7 %> #{7*7}",
        "<!--<script>--><![CDATA[ ]]> --!> ]]>",
        "<math><mtext></table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
        "admin\u{202e}nimda\u{202c} \u{2066}hidden\u{2069} \u{200f}rtl\u{200e}",
        "zero\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}width \u{ad}soft \u{e0041}tag",
        "line\nfeed\r\nreturn\ttab \u{0b}\u{0c}\u{85}\u{2028}\u{2029}",
        "nul\u{0}bell\u{7}escape\u{1b}[31mred\u{1b}[0m\u{9b}31m\u{7f}",
        "\\ud800 \\udfff \u{fffd}\u{fffe}\u{ffff}",
        "Z̸̢̛͓͚̘a̵̡̛̖l̶̨͍̈́g̷̡̛̱o̸̧̮͌ ﷽﷽﷽﷽ 𒐫𒐫 ꧁༺༻꧂",
        "الاسم مدير النظام (admin) שָׁלוֹם",
        "👩‍👩‍👧‍👦🏳️‍🌈🇺🇳 田中さん 社會科學院",
        "=cmd|'/C calc'!A0",
        "'; DROP TABLE events; --",
        "../../../etc/passwd%00 CON NUL undefined null NaN -1 1e309",
        " leading and trailing ",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push("W".repeat(5_000));
    all.push("ẞ\u{301}".repeat(400));
    all.push("a ".repeat(2_000));
    all
}

fn events() -> String {
    let event = |n: usize, bad: &str| {
        json!({
            "eventVersion": "1.08", "eventTime": format!("2024-05-{:02}T10:{:02}:00Z", 6 + n % 7, n % 60),
            "eventSource": "kms.amazonaws.com", "eventName": if n % 2 == 0 { "ScheduleKeyDeletion" } else { bad },
            "awsRegion": "us-east-1", "eventID": format!("{n:08}-0000-4000-8000-000000000000"),
            "eventType": "AwsApiCall", "recipientAccountId": bad, "sourceIPAddress": bad, "userAgent": bad,
            "errorCode": bad, "errorMessage": bad,
            "userIdentity": {"type": if n % 3 == 0 { "Root" } else { bad }, "userName": bad, "accountId": bad, "arn": bad},
            "requestParameters": {"keyId": bad, "aliasName": bad},
            "resources": [{"type": "AWS::KMS::Key", "accountId": bad, "ARN": format!("arn:aws:kms:us-east-1:1:key/{bad}")}],
        })
    };
    let naughty = naughty();
    let events = naughty.iter().flat_map(|bad| [bad, bad]).enumerate();
    events.map(|(n, bad)| event(n, bad).to_string() + "\n").collect()
}

#[test]
fn hostile_logs_do_nothing_to_a_page() {
    let trail = Trail::new();
    // File names are hostile, too, and something is refused.
    let input = trail.input("<script>alert(1)<_script>.ndjson", events());
    let torn = trail.input("torn \u{202e}.ndjson", "{\"eventVersion\":\"1.08\",\"</script><script>alert(1)");
    trail.run([input, torn]).success();
    let json: Value = serde_json::from_slice(
        &fs::read(trail.data().join("reports/2024-W19/report.json")).expect("a report"),
    )
    .expect("JSON");
    assert!(number(&json["summary"]["figures"][5]["count"]) > 20, "actors come through: {}", json["summary"]);
    let groups = json["privileged"]["groups"].as_array().expect("groups");
    assert!(groups.iter().any(|g| g["actor"].as_str().is_some_and(|a| a.contains("<script>"))));

    let page = trail.data().join("reports/2024-W19/report.html");
    let text = fs::read_to_string(&page).expect("UTF-8");
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    assert_eq!(text.chars().find(|c| hidden(*c)), None, "hidden characters are spelled out");
    let chromium = tools::chromium();
    let ran = oracle_in(&tools::root(), "browser", [chromium.as_os_str(), page.as_os_str()]).json();
    let looks = ran.as_array().expect("two looks");
    assert_eq!(looks.len(), 2);
    for look in looks {
        for (what, good) in [
            ("scrolls_sideways", json!(false)),
            ("sticks_out", json!([])),
            ("scripts", json!(0)),
            ("handlers", json!(0)),
            ("foreign", json!(0)),
            ("dialogs", json!(0)),
            ("requests", json!([])),
            ("console", json!([])),
            ("missing_targets", json!([])),
            ("tables_without_caption", json!(0)),
            ("marks", json!("undefined")),
        ] {
            assert_eq!(look[what], good, "{what} at {} px", look["width"]);
        }
        let headings = look["headings"].as_array().expect("headings");
        assert_eq!(headings.len(), 10, "{headings:?}");
    }
}
