//! The protocol-specific keys of a `[[mirror]]` table and their types.

use std::collections::BTreeMap;

/// A key of a `[[mirror]]` table and its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Name in mirrors.toml.
    pub name: &'static str,
    /// Type of its value.
    pub kind: KeyKind,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A string.
    Text,
    /// A file name, relative to mirrors.toml or to `~/`.
    File,
    /// The name of an environment variable that holds a secret.
    Variable,
    /// `true` or `false`.
    Flag,
    /// A table of strings, which may be secrets.
    Texts,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string, file name or variable name.
    Text(String),
    /// A boolean.
    Flag(bool),
    /// A table of strings.
    Texts(BTreeMap<String, String>),
}

/// The file of the private SSH key.
pub const IDENTITY: Key = Key { name: "identity", kind: KeyKind::File };
/// The file of known host keys.
pub const KNOWN_HOSTS: Key = Key { name: "known-hosts", kind: KeyKind::File };
/// The variable that holds the password.
pub const PASSWORD_ENV: Key = Key { name: "password-env", kind: KeyKind::Variable };
/// The file that holds the password; only its owner may have access.
pub const PASSWORD_FILE: Key = Key { name: "password-file", kind: KeyKind::File };
/// The certificates (PEM) of a private certificate authority.
pub const CA_FILE: Key = Key { name: "ca-file", kind: KeyKind::File };

impl Key {
    /// A key whose value is a string.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: KeyKind::Text }
    }

    /// A key that names an environment variable.
    pub const fn variable(name: &'static str) -> Self {
        Self { name, kind: KeyKind::Variable }
    }
}
