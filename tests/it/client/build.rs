//! The client build: small, and without the dependencies of publishing.

use std::process::Command;

#[test]
fn the_client_has_no_publishing_dependencies() {
    let arguments =
        ["tree", "--offline", "--no-default-features", "--features", "mount", "-e", "normal", "--prefix", "none"];
    let tree = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    println!("{} crates", names.len());
    assert!(names.contains(&"fuser"));
    let publishing =
        |name: &&&str| name.starts_with("aws-") || ["rayon", "axum", "minisign", "flate2", "indicatif"].contains(name);
    assert_eq!(names.iter().find(publishing), None);
}
