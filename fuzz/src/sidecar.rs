//! A sidecar in memory.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use keytrail_adapters::memory::MemorySigner;
use keytrail_audit_sidecar::config::{Config, Mode};
use keytrail_audit_sidecar::journal::{Counts, Journal, Recorder, RecorderSettings, Writer};
use keytrail_audit_sidecar::sealed::Covered;
use keytrail_audit_sidecar::server::http_device::Token;
use keytrail_audit_sidecar::server::{api, http_device};
use keytrail_audit_sidecar::spool::memory::MemoryFiles;
use keytrail_audit_sidecar::spool::{Recovered, Settings, Spool, SpoolError};
use keytrail_audit_sidecar::start::{self, Started};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// Where its spool is.
pub static FOLDER: LazyLock<&Path> = LazyLock::new(|| Path::new("/spool"));

const TOKEN: &str = "a token of the fuzzer";

const CONFIG: &str = "source = \"fuzz/0\"\norganization = \"example.org\"\naudit_key = \"key\"\n[hsm]\nid = \"hsm-1\"\n\
    [spool]\nfolder = \"spool\"\n[api]\nsocket = \"socket\"\n[ship]\nfolder = \"shipped\"\n";

/// Opens a spool of the source `fuzz/0`.
pub fn open(files: &MemoryFiles) -> Result<(Spool, Recovered), SpoolError> {
    let settings = Settings {
        segment_bytes: 1 << 20,
        max_bytes: 8 << 20,
        reserve_bytes: 1024,
        zero_ahead_bytes: 700,
        now_ns: || 7,
    };
    Spool::open(&FOLDER, "fuzz/0", settings, Arc::new(files.clone()))
}

/// What takes requests.
pub struct Server {
    runtime: Runtime,
    api: Router,
    device: Router,
    journal: Journal,
    writer: Writer,
}

impl Server {
    /// Begins an epoch.
    pub fn start() -> Self {
        let config = Config::parse(CONFIG, Path::new("/")).expect("a configuration");
        let (spool, recovered) = open(&MemoryFiles::default()).expect("a spool");
        let signer = MemorySigner::new(&config.key_name(), 7);
        let Started { chain, spool, recent, .. } =
            start::begin(&config, spool, recovered, &Covered::default(), &signer).expect("an epoch");
        let counts = Arc::new(Counts::new(None));
        let settings =
            RecorderSettings { mode: Mode::OutcomeStrict, operation_timeout: Duration::from_secs(300) };
        let recorder = Recorder::new(chain, recent, Arc::clone(&counts), settings);
        let (journal, writer) =
            Journal::start(recorder, spool, counts, Duration::from_secs(60)).expect("a thread");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let device = http_device::router(journal.clone(), Token::of(TOKEN));
        Self { runtime, api: api::router(journal.clone()), device, journal, writer }
    }

    /// Sends a request; gives status and body.
    pub fn ask(&self, call: u8, body: &[u8]) -> (u16, Vec<u8>) {
        let op = call / 5 % 4;
        let (router, path) = match call % 5 {
            0 => (&self.api, format!("/v1/intent/op-{op}")),
            1 => (&self.api, format!("/v1/outcome/op-{op}")),
            2 => (&self.api, format!("/v1/deny/op-{op}")),
            3 => (&self.api, "/v1/records".to_owned()),
            _ => (&self.device, "/v1/lines".to_owned()),
        };
        let request = Request::post(path)
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Body::from(body.to_vec()))
            .expect("a request");
        self.runtime.block_on(async {
            let answer = router.clone().oneshot(request).await.expect("it always answers");
            let status = answer.status().as_u16();
            (status, to_bytes(answer.into_body(), 64 << 20).await.expect("a body").to_vec())
        })
    }

    /// Closes the epoch.
    pub fn end(self) {
        self.runtime.block_on(self.journal.close("the fuzzer is done")).expect("it is closed");
        drop((self.journal, self.api, self.device));
        self.writer.join().expect("its spool was written");
    }
}
