//! The first handshake of TLS: CPU time of a function's first call over TLS against the same call without. Both read the
//! system's certificates.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use keytrail_lambda_harness::Harness;
use serde_json::json;

use super::figure;
use super::init::spent;
use crate::bench::{Bar, Failure, Figure, Setting};
use crate::cloud::Cloud;
use crate::minio::Minio;

/// First calls of each kind; the best counts.
const ROUNDS: usize = 7;

/// Ends TLS before a server that has none.
const FRONT: &str = "tls_front.py";

/// Certificates as Linux distributions have them.
const SYSTEM: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Runs this part.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let (key, certificate) = (scratch.path().join("key.pem"), scratch.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .stderr(Stdio::null())
        .status()?;
    if !made.success() {
        return Err("openssl made no certificate".into());
    }
    let system =
        SYSTEM.iter().find_map(|path| fs::read(path).ok()).ok_or("no certificates on this machine")?;
    let bundle = scratch.path().join("bundle.pem");
    fs::write(&bundle, [system, fs::read(&certificate)?].concat())?;
    let cloud = Cloud::on_minio();
    let plain = Minio::shared().url();
    let mut front = Command::new("python3")
        .arg(setting.peers.join(FRONT))
        .args([certificate.as_os_str(), key.as_os_str(), plain.trim_start_matches("http://").as_ref()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(front.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let secure = format!("https://127.0.0.1:{}", port.trim());
    let mut best = [f64::INFINITY; 2];
    let event = json!({"backfill": {"bucket": cloud.raw, "prefix": "none/"}}).to_string();
    for _ in 0..ROUNDS {
        for (best, url) in best.iter_mut().zip([&secure, &plain]) {
            let harness = Harness::new()?;
            let name = "stage-objects";
            let function = cloud.function(name).variable("AWS_ENDPOINT_URL_S3", url);
            harness.deploy(function.variable("SSL_CERT_FILE", bundle.display().to_string()))?;
            harness.warm(name, 1)?;
            let before = spent(&harness, name)?;
            let done = harness.invoke(name, event.clone())?;
            if done.function_error.is_some() {
                return Err(done.log.into());
            }
            *best = best.min(spent(&harness, name)? - before);
        }
    }
    front.kill()?;
    front.wait()?;
    let [secure, plain] = best.map(|seconds| 1e3 * seconds);
    Ok(vec![
        figure("first call over TLS, CPU", secure, "ms", Some(plain), None),
        figure("first handshake of TLS, CPU", secure - plain, "ms", None, Some(Bar::AtMost(5.0))),
    ])
}
