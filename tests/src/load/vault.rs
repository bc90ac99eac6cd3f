//! Vault-like audit lines: pairs of request and response, mostly of the transit engine.
//!
//! A line is a function of the seed and its number: even numbers are requests, odd ones their responses.

use super::Moment;
use super::random::{Random, mix, uuid};

const OPERATIONS: [(u32, &str); 6] =
    [(40, "encrypt"), (40, "decrypt"), (8, "sign"), (4, "verify"), (4, "datakey/plaintext"), (4, "rewrap")];

/// Appends line `index`, compact, without a line end. `at` is when the call came in.
pub fn write(out: &mut String, seed: u64, index: u64, at: Moment) {
    let (pair, response) = (index / 2, index % 2 == 1);
    let mut r = Random::of(seed ^ 0x7A07, pair);
    let operation = r.weighted(&OPERATIONS);
    let key = r.zipf(60);
    let client = r.zipf(200);
    let token = Random::of(seed ^ 0x70CE, client).hex(64);
    let accessor = Random::of(seed ^ 0xACCE, client).hex(64);
    let entity = uuid(mix(client ^ 0xE171), mix(client));
    let id = uuid(mix(seed ^ 0x1D ^ pair.rotate_left(32)), r.bits());
    let denied = r.percent(2);
    let latency_micros = 150 + r.below(3000) as i64;
    let nanos = r.below(1000);
    let time = Moment(at.0 + if response { latency_micros } else { 0 });
    let error = match (denied, response) {
        (false, _) => "",
        (true, false) => r#","error":"permission denied""#,
        (true, true) => r#","error":"1 error occurred:\n\t* permission denied\n\n""#,
    };
    let kind = if response { "response" } else { "request" };
    let input = r.hex(64);
    out.push_str(&format!(
        r#"{{"time":"{}{nanos:03}Z","type":"{kind}","auth":{{"client_token":"hmac-sha256:{token}","accessor":"hmac-sha256:{accessor}","display_name":"approle","policies":["default","transit-{key}"],"token_policies":["default","transit-{key}"],"policy_results":{{"allowed":{}}},"metadata":{{"role_name":"app-{client}"}},"entity_id":"{entity}","token_type":"service","token_ttl":3600,"token_issue_time":"{}"}},"request":{{"id":"{id}","client_id":"{entity}","operation":"update","mount_point":"transit/","mount_type":"transit","mount_accessor":"transit_1f0b3c7e","mount_running_version":"v2.7.2+builtin.bao","mount_class":"secret","client_token":"hmac-sha256:{token}","client_token_accessor":"hmac-sha256:{accessor}","namespace":{{"id":"root"}},"path":"transit/{operation}/app-key-{key}","data":{{"input":"hmac-sha256:{input}"}},"remote_address":"10.{}.{}.{}","remote_port":{}}}"#,
        time.micros(),
        !denied,
        Moment(at.0 - 1_000_000 * (client as i64 + 1)).seconds(),
        40 + client % 4,
        client % 251,
        1 + client % 250,
        32_768 + r.below(28_000),
    ));
    if response {
        let data = if denied {
            r#""data":{"error":"hmac-sha256:0e6fda2b54a6cd0bba1c4c1bb83cb11c0c9bf3ab6ec6e1a8a5f5a2e1c0f4e8d1"}"#
                .to_owned()
        } else {
            format!(r#""data":{{"key_version":{},"output":"hmac-sha256:{}"}}"#, 1 + key % 3, r.hex(64))
        };
        out.push_str(&format!(
            r#","response":{{"mount_point":"transit/","mount_type":"transit","mount_accessor":"transit_1f0b3c7e","mount_running_plugin_version":"v2.7.2+builtin.bao","mount_class":"secret",{data}}}"#,
        ));
    }
    out.push_str(error);
    out.push('}');
}
