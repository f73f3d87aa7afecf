//! openraft's own tests of a store, on ours.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use tempfile::TempDir;

use super::counter::Counter;
use super::machine::{Applier, Work};
use super::runtime::Orderly;
use super::types::Types;
use crate::storage::{DiskLog, DiskSnapshots};

struct Stores;

impl StoreBuilder<Types, DiskLog, Applier<Counter>, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, DiskLog, Applier<Counter>), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(&dir.path().join("raft")).unwrap();
        let snapshots = Arc::new(DiskSnapshots::open(&dir.path().join("snapshots")).unwrap());
        let applier = Applier::open(Counter::default(), snapshots, Work::Here).unwrap();
        Ok((dir, log, applier))
    }
}

#[test]
fn the_stores_are_what_openraft_wants_of_a_store() {
    let mut runtime = DeterministicRng::<Orderly>::new(1);

    let result = runtime.block_on(Suite::test_all(Stores));

    assert!(result.is_ok(), "{result:?}");
}
