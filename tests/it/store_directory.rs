//! The directory driver.

use std::sync::Arc;

use hfl::store::directory::Directory;

use crate::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::all(Arc::new(Directory::new(directory.path()))).await;
}
