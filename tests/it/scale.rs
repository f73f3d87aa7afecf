//! Many keys in one file, through three real processes; `--bin scale` does the same with a hundred times as many.

use std::path::Path;
use std::time::Duration;

use troupe_tests::Crew;
use troupe_tests::churn::verdict;
use troupe_tests::scale::{self, Size, Witness};

const TROUPE: &str = env!("CARGO_BIN_EXE_troupe-under-test");

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_thousand_keys_is_in_force_everywhere_and_after_a_start() {
    let size = Size { keys: 1_000, unhashed: 10, targets: 100 };
    let program = Path::new(TROUPE);
    let mut crew = Crew::start(program, 3).await;
    let file = crew.dir().join("spec.toml");
    std::fs::write(&file, size.spec(&crew.mock.openai_url(), "team")).unwrap();
    let follower = (crew.some_leader().await + 1) % 3;

    let first = scale::apply(program, &crew, follower, &file).await;
    let witness = Witness::start(&crew, &Size::secret(999), &Size::model(0));
    let again = scale::apply(program, &crew, 0, &file).await;

    assert_eq!(first.out["added"], 1_000 + 50 + 5);
    assert_eq!((&again.out["added"], &again.out["changed"]), (&0.into(), &0.into()));
    assert!(scale::all_have(&crew, size.keys, Duration::from_secs(10)).await);
    let made = first.out["made"].as_array().unwrap();
    assert_eq!(made.len(), size.unhashed);
    assert!(scale::is_served(&crew, made[9]["secret"].as_str().unwrap(), &Size::model(49)).await);
    let seen = witness.stop().await;
    assert_eq!(seen.bad, 0, "{seen:?}");
    assert_eq!(verdict(&crew, &size.ledger()).await, Vec::<String>::new());

    for at in 0..3 {
        crew.kill(at);
    }
    let kept = scale::keep_snapshot(&crew.nodes[0].dir).await;
    for at in 0..3 {
        crew.run(at);
    }
    crew.all_ready().await;

    assert!(kept.audit_line_bytes > 10_000 && kept.audit_line_bytes < 128 << 10, "{kept:?}");
    assert_eq!(verdict(&crew, &size.ledger()).await, Vec::<String>::new());
    assert!(scale::is_served(&crew, &Size::secret(10), &Size::model(0)).await);
}
