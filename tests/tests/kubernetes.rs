//! `infra/kubernetes`: what the manifest promises, and that the real programs take the configurations in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::tools;
use serde_json::Value;

fn folder() -> PathBuf {
    tools::root().join("infra/kubernetes")
}

/// What a program printed; it has to succeed.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{command:?}: {status} {said} {}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stdout).expect("UTF-8")
}

/// A linter beside Python.
fn linter(name: &str) -> Command {
    let path = tools::python().with_file_name(name);
    assert!(path.exists(), "`{}` is not there: run `tests/run tools` first", path.display());
    Command::new(path)
}

/// The manifest's objects of a kind.
fn objects(kind: &str) -> Vec<Value> {
    let script = "import json,sys,yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let all = run(Command::new(tools::python()).args(["-c", script]).arg(folder().join("openbao.yaml")));
    let all: Vec<Value> = serde_json::from_str(&all).expect("JSON");
    all.into_iter().filter(|object| object["kind"] == kind).collect()
}

fn object(kind: &str) -> Value {
    let found = objects(kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.into_iter().next().expect("one")
}

fn file(config_map: &str, name: &str) -> String {
    let maps = objects("ConfigMap");
    let map = maps.iter().find(|m| m["metadata"]["name"] == config_map).expect("the map");
    map["data"][name].as_str().expect("a file").to_owned()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn linters_find_nothing() {
    run(linter("kubernetes-validate").arg("--strict").arg(folder().join("openbao.yaml")));
    run(linter("hadolint").arg(folder().join("audit-sidecar.Dockerfile")));
}

/// Least privilege, for each container.
#[test]
fn containers_have_no_rights() {
    let pod = &object("StatefulSet")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        assert!(pod[shared].is_null(), "{shared}");
    }
    let containers: Vec<&Value> = list(pod, "initContainers").iter().chain(list(pod, "containers")).collect();
    assert_eq!(containers.len(), 2);
    for container in &containers {
        let context = &container["securityContext"];
        let name = &container["name"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["privileged"], false, "{name}");
        assert_eq!(context["runAsNonRoot"], true, "{name}");
        assert!(context["runAsUser"].as_u64() > Some(0), "{name}");
        assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{name}");
        for resource in ["cpu", "memory"] {
            assert!(container["resources"]["limits"][resource].is_string(), "{name}: {resource}");
            assert!(container["resources"]["requests"][resource].is_string(), "{name}: {resource}");
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert!(container[probe]["httpGet"]["path"].is_string(), "{name}: {probe}");
        }
        let tag = container["image"].as_str().and_then(|image| image.split_once(':')).map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{name}");
    }
    // No volume of one is the other's, and what is mounted is there.
    let of = |container: &Value| -> BTreeSet<String> {
        list(container, "volumeMounts").iter().filter_map(|m| m["name"].as_str()).map(str::to_owned).collect()
    };
    let volumes: BTreeSet<String> = list(pod, "volumes")
        .iter()
        .filter_map(|v| v["name"].as_str())
        .chain(
            list(&object("StatefulSet")["spec"], "volumeClaimTemplates")
                .iter()
                .filter_map(|v| v["metadata"]["name"].as_str()),
        )
        .map(str::to_owned)
        .collect();
    let (first, second) = (of(containers[0]), of(containers[1]));
    assert!(first.is_disjoint(&second), "{first:?} {second:?}");
    assert_eq!(first.union(&second).cloned().collect::<BTreeSet<_>>(), volumes);
}

/// The sidecar is there before OpenBao and after it, and has time to end.
#[test]
fn the_sidecar_outlives_openbao() {
    let pod = &object("StatefulSet")["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&"audit-sidecar".into(), &"Always".into()));
    // To answer, to close the epoch, to try the stream (25 s), and the bucket in its place (60 s).
    assert!(pod["terminationGracePeriodSeconds"].as_u64() >= Some(100));
    // The spool fits on its volume, with room to spare.
    let config = file("audit-sidecar", "audit-sidecar.toml");
    let most = config.lines().find_map(|l| l.strip_prefix("max_mib = ")).expect("a limit").parse::<u64>();
    let templates = object("StatefulSet")["spec"]["volumeClaimTemplates"].clone();
    let claim = templates[0]["spec"]["resources"]["requests"]["storage"].as_str().expect("a size").to_owned();
    let gibibytes: u64 = claim.strip_suffix("Gi").expect("Gi").parse().expect("a number");
    assert!(most.expect("a number") + 1_024 <= gibibytes * 1_024);
}

/// The network policy is about these pods, and names who may come in and where they may go.
#[test]
fn the_network_is_closed() {
    let policy = &object("NetworkPolicy")["spec"];
    let labels = &object("StatefulSet")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&policy["podSelector"]["matchLabels"], labels);
    assert_eq!(policy["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in list(policy, direction) {
            assert!(!list(rule, peers).is_empty() && !list(rule, "ports").is_empty(), "{rule}");
            assert!(!rule.to_string().contains("0.0.0.0/0"), "{rule}");
        }
    }
    let ports: Vec<u64> = list(policy, "ingress")
        .iter()
        .flat_map(|rule| list(rule, "ports"))
        .filter_map(|port| port["port"].as_u64())
        .collect();
    assert_eq!(ports, [8_200, 9_465], "the audit device is on the loopback address");
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Starts one whose output goes to a file.
fn spawn(command: &mut Command, output: &Path) -> Process {
    let output = fs::File::create(output).expect("a file");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a handle")).stderr(output);
    Process(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

/// The released sidecar takes its configuration as it is in the manifest.
#[test]
fn the_sidecar_takes_its_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("audit-sidecar.toml");
    fs::write(&path, file("audit-sidecar", "audit-sidecar.toml")).expect("written");
    let said = run(Command::new(tools::audit_sidecar()).arg("check").arg("--config").arg(&path));
    assert_eq!(said, format!("{}: good\n", path.display()));
}

/// The released OpenBao and the sidecar with the configurations of the manifest, at other ports and folders: a call that
/// succeeds is on record, and without the sidecar none does.
#[test]
fn openbao_and_the_sidecar_work_together() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |path: &str| folder.path().join(path);
    let ports: Vec<String> = (0..4)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port"))
        .map(|address| address.port().to_string())
        .collect();
    let here = |text: String| {
        let mut text = text
            .replace("/etc/keytrail/device/", &format!("{}/", at("device").display()))
            .replace("/etc/keytrail/", &format!("{}/", at("keytrail").display()))
            .replace("/var/lib/keytrail", &at("volume").display().to_string())
            .replace("/etc/openbao/", &format!("{}/", at("openbao").display()))
            .replace("/var/lib/openbao", &at("data").display().to_string());
        for (port, free) in ["8209", "9465", "8200", "8201"].iter().zip(&ports) {
            text = text.replace(&format!(":{port}"), &format!(":{free}"));
        }
        text
    };
    for made in
        ["device", "keytrail/config", "volume", "openbao/config", "openbao/audit", "openbao/tls", "data"]
    {
        fs::create_dir_all(at(made)).expect("a folder");
    }
    let token = "keytrail-test-device-token-77b1";
    fs::write(at("device/token"), token).expect("written");
    fs::set_permissions(at("device/token"), fs::Permissions::from_mode(0o600)).expect("set");
    let audit = fs::read_to_string(self::folder().join("audit.hcl")).expect("the device");
    fs::write(at("openbao/audit/audit.hcl"), here(audit.replace("TOKEN", token))).expect("written");
    fs::write(at("openbao/config/openbao.hcl"), here(file("openbao", "openbao.hcl"))).expect("written");
    let config = here(file("audit-sidecar", "audit-sidecar.toml"));
    // There is no account here, and no log.
    let config: String =
        config
            .split("\n\n")
            .filter(|part| !part.contains("[seal]"))
            .map(|part| format!("{part}\n\n"))
            .collect::<String>()
            .lines()
            .map(|l| {
                if l.starts_with("kinesis = ") {
                    "folder = \"shipped\"\n".to_owned()
                } else {
                    format!("{l}\n")
                }
            })
            .collect();
    fs::write(at("keytrail/config/audit-sidecar.toml"), config).expect("written");
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(at("openbao/tls/tls.key"))
        .arg("-out")
        .arg(at("openbao/tls/tls.crt")));

    let sidecar = spawn(
        Command::new(tools::audit_sidecar())
            .args(["run", "--config"])
            .arg(at("keytrail/config/audit-sidecar.toml")),
        &at("sidecar.log"),
    );
    let log = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !holds() {
            let (sidecar, bao) = (log("sidecar.log"), log("bao.log"));
            assert!(begin.elapsed() < Duration::from_secs(60), "not yet that {what}: {sidecar} {bao}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let metrics = || {
        let asked = ureq::get(format!("http://127.0.0.1:{}/metrics", ports[1])).call();
        asked.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
    };
    until("the sidecar answers", &|| !metrics().is_empty());

    let _server = spawn(
        Command::new(tools::openbao())
            .arg("server")
            .arg(format!("-config={}", at("openbao/config").display()))
            .arg(format!("-config={}", at("openbao/audit").display()))
            .env("HOME", folder.path()),
        &at("bao.log"),
    );
    let bao = |arguments: &[&str], token: &str| {
        let mut command = Command::new(tools::openbao());
        command
            .args(arguments)
            .env("HOME", folder.path())
            .env("BAO_ADDR", format!("https://127.0.0.1:{}", ports[2]))
            .env("BAO_CACERT", at("openbao/tls/tls.crt"))
            .env("BAO_TOKEN", token)
            .env("BAO_MAX_RETRIES", "0");
        command
    };
    // 2: it is sealed.
    until("OpenBao answers", &|| bao(&["status"], "").output().is_ok_and(|out| out.status.code() == Some(2)));
    let made = run(&mut bao(&["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"], ""));
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let root = made["root_token"].as_str().expect("a token");
    run(&mut bao(&["operator", "unseal", made["unseal_keys_b64"][0].as_str().expect("a key")], ""));
    until("OpenBao is unsealed", &|| {
        bao(&["secrets", "list"], root).output().is_ok_and(|out| out.status.success())
    });
    run(&mut bao(&["secrets", "enable", "transit"], root));
    run(&mut bao(&["write", "-f", "transit/keys/payments"], root));
    let foreign = |page: &str| -> u64 {
        let line =
            page.lines().find_map(|l| l.strip_prefix("keytrail_sidecar_records_total{phase=\"foreign\"} "));
        line.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    // Request and response of each call.
    assert!(foreign(&metrics()) >= 4, "{}", metrics());
    drop(sidecar);
    let refused = bao(&["write", "-f", "transit/keys/other"], root).output().expect("it starts");
    assert!(!refused.status.success(), "{refused:?}");
}

/// The image's root folder: the sidecar runs in it, as nobody in particular, and there is nothing else to run.
#[test]
fn the_image_has_the_sidecar_and_no_shell() {
    let image = tempfile::tempdir().expect("a temporary folder");
    let root = image.path().join("root");
    run(Command::new(folder().join("root-folder")).arg(tools::audit_sidecar()).arg(&root));
    let files = run(Command::new("find").arg(&root).args(["-type", "f", "-printf", "%P\n"]));
    let expected = |file: &str| {
        [
            "usr/bin/audit-sidecar",
            "etc/passwd",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/ssl/certs/ca-certificates.crt",
        ]
        .contains(&file)
            || (file.contains("lib") && file.contains(".so."))
    };
    let other: Vec<&str> = files.lines().filter(|file| !expected(file)).collect();
    assert!(other.is_empty(), "{other:?}");
    fs::create_dir(root.join("config")).expect("a folder");
    fs::write(root.join("config/audit-sidecar.toml"), file("audit-sidecar", "audit-sidecar.toml"))
        .expect("written");
    // In a user's name space of its own, where everybody may change the root folder.
    let said = run(Command::new("unshare").args(["--map-root-user", "chroot"]).arg(&root).args([
        "/usr/bin/audit-sidecar",
        "check",
        "--config",
        "/config/audit-sidecar.toml",
    ]));
    assert_eq!(said, "/config/audit-sidecar.toml: good\n");
    let dockerfile = fs::read_to_string(folder().join("audit-sidecar.Dockerfile")).expect("the file");
    let last = dockerfile.rsplit("FROM ").next().expect("a stage");
    assert!(last.starts_with("scratch\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
}
