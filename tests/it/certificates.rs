//! The authority of a cluster and its certificates, as operators make them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use troupe_cluster::transport::Certificates;
use troupe_cluster::transport::tls::Files;

use crate::cli::Site;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn an_authority_and_a_certificate_are_made_shown_and_usable() {
    let site = Site::new();
    let (ca, out) = (site.path("ca").display().to_string(), site.path("gw-1").display().to_string());

    let (code, said, _) = site.run(&["ca", "init", "--out", &ca, "--days", "20"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("ca.crt: counts until 20"), "{said}");
    let issue =
        ["cert", "issue", "--ca", &ca, "--name", "gw-1", "--host", "gw-1.example.org", "--host", "10.0.0.1", "--out"];
    let (code, _, told) = site.run(&[&issue[..], &[&out]].concat()).await;
    assert_eq!(code, Some(0), "{told}");

    let files = Files {
        ca: site.path("ca").join("ca.crt"),
        cert: site.path("gw-1").join("peer.crt"),
        key: site.path("gw-1").join("peer.key"),
    };
    assert_eq!([mode(&site.path("ca").join("ca.key")), mode(&files.key)], [0o600; 2]);
    let cert = files.cert.display().to_string();
    let (_, shown, _) = site.run(&["cert", "show", &cert, "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["names"], serde_json::json!(["node.any.troupe", "gw-1.example.org", "10.0.0.1"]));
    assert_eq!((&shown[0]["state"], &shown[0]["until"]), (&"valid".into(), &shown[1]["until"]), "it ends with its CA");
    Certificates::load(files).unwrap();
}

#[tokio::test]
async fn nothing_is_overwritten_and_what_is_wrong_is_named() {
    let site = Site::new();
    let ca = site.path("ca").display().to_string();
    assert_eq!(site.run(&["ca", "init", "--out", &ca]).await.0, Some(0));
    let before = std::fs::read(site.path("ca").join("ca.key")).unwrap();

    let told = site.fails(&["ca", "init", "--out", &ca], 1).await;
    assert!(told.contains("ca.crt exists and is not overwritten"), "{told}");
    assert_eq!(std::fs::read(site.path("ca").join("ca.key")).unwrap(), before);

    let out = site.path("gw").display().to_string();
    let nowhere = site.path("nowhere").display().to_string();
    let told = site.fails(&["cert", "issue", "--ca", &nowhere, "--name", "gw", "--out", &out], 1).await;
    assert!(told.contains("nowhere/ca.crt cannot be read"), "{told}");
    let told = site.fails(&["cert", "issue", "--ca", &ca, "--name", "a/b", "--out", &out], 1).await;
    assert!(told.contains("\"a/b\" must have 1 to 64"), "{told}");
    let told = site.fails(&["cert", "issue", "--ca", &ca, "--name", "gw", "--days", "0", "--out", &out], 2).await;
    assert!(told.contains("--days"), "{told}");
    let key = site.path("ca").join("ca.key").display().to_string();
    let told = site.fails(&["cert", "show", &key], 1).await;
    assert!(told.contains("there is none in it"), "{told}");
    assert!(!site.path("gw").join("peer.key").exists());
}
