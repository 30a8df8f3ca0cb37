//! The client programs that a head names, with the signatures by the key of the same head.

use minijinja::{Value, context};

use super::words;
use crate::format::head::{FileRow, Head};

/// Maximum number of clients on a page.
const SHOWN: usize = 8;

/// The clients, those of the newest version first.
pub fn of(head: &Head) -> Vec<Value> {
    let mut clients: Vec<(&FileRow, Vec<u64>, &str, &str)> = head.files.iter().filter_map(parts).collect();
    clients.sort_by(|a, b| (&b.1, a.3, &a.0.path).cmp(&(&a.1, b.3, &b.0.path)));
    clients.truncate(SHOWN);
    clients.into_iter().map(|(row, _, version, machine)| shown(head, row, version, machine)).collect()
}

/// Of a client: its row, its version as numbers and as text, and its machine.
fn parts(row: &FileRow) -> Option<(&FileRow, Vec<u64>, &str, &str)> {
    let name = row.path.as_str().strip_prefix("client/hfl-mount-")?;
    let (version, rest) = name.split_once('-')?;
    let (machine, digits) = rest.rsplit_once("-linux-")?;
    let numbers = version.split(['.', '+']).map(|part| part.parse().unwrap_or(0)).collect();
    // A signature has more after the digits.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some((row, numbers, version, machine))
}

fn shown(head: &Head, row: &FileRow, version: &str, machine: &str) -> Value {
    let name = |row: &FileRow| row.path.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let signature = head.files.iter().find(|other| row.path.is_client_signature(&other.path));
    context! {
        version, machine, name => name(row), path => row.path.as_str(), size => words::size(row.bytes),
        sha256 => row.sha256.to_string(), signature => signature.map(name),
    }
}
