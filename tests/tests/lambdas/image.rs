//! A function as a container image: the root folder of `infra/aws/Dockerfile`, assembled here and run by the harness.

use std::fs;
use std::process::Command;

use keytrail_lambda_harness::Function;
use keytrail_tests::cloud::Cloud;
use keytrail_tests::tools;
use serde_json::json;

#[test]
fn the_folder_of_an_image_has_all_that_its_function_needs() {
    let cloud = Cloud::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("image");
    let assembled = Command::new(tools::root().join("infra/kubernetes/root-folder"))
        .arg(tools::lambda("seal-archive"))
        .arg(&root)
        .output()
        .expect("it runs");
    assert!(assembled.status.success(), "{}", String::from_utf8_lossy(&assembled.stderr));
    fs::create_dir_all(root.join("var/runtime")).expect("a folder");
    fs::rename(root.join("usr/bin/seal-archive"), root.join("var/runtime/bootstrap")).expect("it is there");
    // Each library that the program names is in the folder, certificates are, and no shell is.
    let needed = Command::new("ldd").arg(root.join("var/runtime/bootstrap")).output().expect("ldd");
    for line in String::from_utf8_lossy(&needed.stdout).lines() {
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            assert!(root.join(&path[1..]).exists(), "{path} is not in the folder");
        }
    }
    assert!(root.join("etc/ssl/certs/ca-certificates.crt").exists());
    assert!(!root.join("bin/sh").exists());
    let mut function = Function::from_root("seal-archive", &root, None).memory_mib(1024);
    function.variables = cloud.function("seal-archive").variables;
    cloud.deploy(function);
    assert_eq!(cloud.call("seal-archive", &json!({}))["size"], 0);
}
