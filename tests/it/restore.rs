//! Clusters made anew: of a saved snapshot, and of the one node that is left.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use troupe_node::clock;
use troupe_tests::Crew;

use crate::cluster::{all_answer, program};
use crate::joining::{counts, says};

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_snapshot_becomes_a_cluster_of_its_own() {
    let mut crew = Crew::start(program(), 1).await;
    crew.furnish().await;
    let file = crew.path("state.snapshot").display().to_string();

    crew.operate(0, &["snapshot", "save", &file]).await.ok();

    let told = crew.troupe(&["snapshot", "inspect", &file, "-o", "json"]).await.ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["cluster"], crew.status(0, "cluster").await);
    assert_eq!((&told["providers"], &told["models"], &told["keys"]), (&json!(1), &json!(1), &json!(1)), "{told}");
    assert!(told["index"].as_u64() > Some(0) && told["revision"] == json!(1), "{told}");
    let table = crew.troupe(&["snapshot", "inspect", &file]).await.ok();
    assert!(table.contains("revision   1\n"), "{table}");

    let mut damaged = std::fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let broken = crew.path("broken").display().to_string();
    std::fs::write(&broken, damaged).unwrap();
    let told = crew.troupe(&["snapshot", "inspect", &broken]).await.fails(1);
    assert!(told.contains("checksum"), "{told}");
    let taken = crew.nodes[0].dir.display().to_string();
    let told = crew.troupe(&["snapshot", "restore", &file, "--data-dir", &taken]).await.fails(1);
    assert!(told.contains("not empty"), "{told}");

    let new = crew.seat();
    let dir = crew.nodes[new].dir.display().to_string();
    crew.troupe(&["snapshot", "restore", &file, "--data-dir", &dir]).await.ok();
    crew.nodes[new].flags = Some(vec!["--cluster-plain=true".to_owned(), "--cluster-bootstrap-expect=1".to_owned()]);
    crew.run(new);
    crew.ready(new).await;

    all_answer(&crew, "sk-team", 200).await;
    assert_ne!(crew.status(new, "cluster").await, crew.status(0, "cluster").await);
    let members = crew.members(new).await;
    assert_eq!((members.len(), &members[0]["peer"]), (1, &json!(crew.nodes[new].peer.to_string())), "{members:?}");
    let heard = crew.mock.received();
    let keys: Vec<_> = heard.iter().filter_map(|call| call.header("authorization")).collect();
    assert!(keys.len() >= 2 && keys.iter().all(|key| *key == "Bearer provider-secret"), "{keys:?}");

    // The old cluster and the new one keep apart.
    crew.kill(0);
    let join = format!("--cluster-join={}", crew.nodes[new].peer);
    crew.nodes[0].flags = Some(vec!["--cluster-plain=true".to_owned(), join]);
    crew.run(0);
    says(&crew, 0, "two clusters were formed").await;
    counts(&crew, new, "in", "foreign_cluster").await;

    // It is durable as any other is.
    crew.kill(new);
    crew.run(new);
    crew.ready(new).await;
    assert_eq!(crew.chat(new, "sk-team").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_of_a_lost_majority_becomes_a_cluster_that_others_join() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;
    let old = crew.status(0, "cluster").await;
    let dir = crew.nodes[0].dir.display().to_string();
    let recover = ["cluster", "recover", "--data-dir", &dir];

    let told = crew.troupe(&recover).await.fails(2);
    assert!(told.contains("--yes"), "{told}");
    let recover = [&recover[..], &["--yes"]].concat();
    let told = crew.troupe(&recover).await.fails(1);
    assert!(told.contains("another process"), "{told}");
    for at in 0..3 {
        crew.kill(at);
    }
    crew.troupe(&recover).await.ok();
    crew.run(0);
    crew.ready(0).await;

    assert_eq!(crew.chat(0, "sk-team").await, 200);
    assert_ne!(crew.status(0, "cluster").await, old);
    assert_eq!(crew.status(0, "voters").await, json!(1));

    // One that was thought lost is not let in as what it was.
    crew.run(1);
    counts(&crew, 0, "in", "foreign_cluster").await;
    assert_eq!(crew.members(0).await.len(), 1);
    crew.kill(1);
    crew.wipe(1);
    crew.run(1);
    crew.ready(1).await;
    assert_eq!(crew.chat(1, "sk-team").await, 200);
    assert_eq!(crew.members(0).await.len(), 2);

    // A restart changes nothing of it.
    crew.kill(0);
    crew.run(0);
    crew.ready(0).await;
    let deadline = clock::now() + Duration::from_secs(20);
    while crew.status(0, "learners").await != json!(1) {
        assert!(clock::now() < deadline, "{}", crew.log(0));
        sleep(Duration::from_millis(50)).await;
    }
    all_answer(&crew, "sk-team", 200).await;
}
