//! The keys of a `[[mirror]]` table that only some protocols know, and what they hold.

use std::collections::BTreeMap;

/// A key of a `[[mirror]]` table, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it holds.
    pub kind: KeyKind,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A text.
    Text,
    /// The name of a file, relative to mirrors.toml or to `~/`.
    File,
    /// The name of an environment variable that holds a secret.
    Variable,
    /// `true` or `false`.
    Flag,
    /// A table of texts, which may be secrets.
    Texts,
}

/// What a key was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, a file or a variable.
    Text(String),
    /// A flag.
    Flag(bool),
    /// A table.
    Texts(BTreeMap<String, String>),
}

/// The secret ssh key's file.
pub const IDENTITY: Key = Key { name: "identity", kind: KeyKind::File };
/// The file of known host keys.
pub const KNOWN_HOSTS: Key = Key { name: "known-hosts", kind: KeyKind::File };
/// The variable that holds the password.
pub const PASSWORD_ENV: Key = Key { name: "password-env", kind: KeyKind::Variable };
/// The file that holds the password; nobody else may read it.
pub const PASSWORD_FILE: Key = Key { name: "password-file", kind: KeyKind::File };
/// The certificates (PEM) of a private certificate authority.
pub const CA_FILE: Key = Key { name: "ca-file", kind: KeyKind::File };

impl Key {
    /// A key that holds a text.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: KeyKind::Text }
    }

    /// A key that names a variable.
    pub const fn variable(name: &'static str) -> Self {
        Self { name, kind: KeyKind::Variable }
    }
}
