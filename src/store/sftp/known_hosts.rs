//! Reads OpenSSH's `known_hosts` file.
//!
//! Supports plain, hashed, negated and wildcard hosts and `@revoked`; ignores malformed lines and certificate
//! authorities. Never adds a key: trusting a host is the administrator's decision, not the publisher's.

use std::path::Path;

use russh::keys::ssh_key::known_hosts::HostPatterns;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::{Digest as _, Sha1};

/// The keys in the file for one host.
#[derive(Debug, Default)]
pub struct HostKeys {
    known: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

/// The status of a server's host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Known,
    /// The host has no entry.
    Unknown,
    /// The host is known with other keys.
    Changed,
    Revoked,
}

impl HostKeys {
    /// The keys of `host` in the text of a file.
    pub fn find(text: &str, host: &str, port: u16) -> Self {
        let host = host.to_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut keys = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().peekable();
            let marker = words.next_if(|word| word.starts_with('@'));
            let (Some(hosts), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else { continue };
            if hosts.starts_with('#') || !hosts.parse().is_ok_and(|hosts| matches(&hosts, &name)) {
                continue;
            }
            let Ok(key) = PublicKey::from_openssh(&format!("{kind} {key}")) else { continue };
            match marker {
                None => keys.known.push(key),
                Some("@revoked") => keys.revoked.push(key),
                Some(_) => {}
            }
        }
        keys
    }

    /// The status of `key` according to the file.
    pub fn verdict(&self, key: &PublicKey) -> Verdict {
        let has = |keys: &[PublicKey]| keys.iter().any(|known| known.key_data() == key.key_data());
        match () {
            () if has(&self.revoked) => Verdict::Revoked,
            () if has(&self.known) => Verdict::Known,
            () if self.known.is_empty() => Verdict::Unknown,
            () => Verdict::Changed,
        }
    }

    /// `all` with the algorithms of known keys first, so that a server with several keys presents a known one.
    pub fn prefer(&self, all: &[Algorithm]) -> Vec<Algorithm> {
        let known = |algorithm: &Algorithm| {
            self.known.iter().any(|key| match (key.algorithm(), algorithm) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (known, algorithm) => known == *algorithm,
            })
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(known);
        first.extend(rest);
        first.retain(|algorithm| *algorithm != Algorithm::Rsa { hash: None });
        first
    }
}

/// Why the host key is not accepted, and what to do about it.
pub fn refusal(verdict: Verdict, key: &PublicKey, file: &Path, host: &str, port: u16) -> String {
    let (file, print) = (file.display(), key.fingerprint(HashAlg::Sha256));
    let kind = key.algorithm();
    let port = if port == 22 { String::new() } else { format!("-p {port} ") };
    match verdict {
        Verdict::Changed => format!(
            "the host key is not the one in {file}: the server shows {kind} {print}; possible man-in-the-middle attack, or the server was reinstalled"
        ),
        Verdict::Revoked => format!("the host key {print} is marked as revoked in {file}"),
        Verdict::Known | Verdict::Unknown => format!(
            "the host key is not known: the server shows {kind} {print}; if that is right, add it with `ssh-keyscan {port}{host} >>{file}`, or log in once with ssh"
        ),
    }
}

fn matches(hosts: &HostPatterns, name: &str) -> bool {
    match hosts {
        HostPatterns::HashedName { salt, hash } => hmac_sha1(salt, name.as_bytes()) == *hash,
        HostPatterns::Patterns(patterns) => {
            let refused = |pattern: &String| pattern.strip_prefix('!').is_some_and(|p| wildcard(p, name));
            !patterns.iter().any(refused) && patterns.iter().any(|pattern| wildcard(pattern, name))
        }
    }
}

/// Whether `name` matches `pattern` with `*` and `?`; the case of the pattern is ignored.
fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase().into_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// HMAC-SHA-1 (RFC 2104), with which OpenSSH hashes host names.
fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..20].copy_from_slice(&Sha1::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha1::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha1::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn verdict(text: &str, host: &str, port: u16) -> Verdict {
        HostKeys::find(text, host, port).verdict(&PublicKey::from_openssh(KEY).unwrap())
    }

    #[test]
    fn keys_are_found_by_the_rules_of_openssh() {
        let cases = [
            (format!("host {KEY}"), "host", 22, Verdict::Known),
            (format!("host\t{KEY} a comment"), "HOST", 22, Verdict::Known),
            (format!("host {KEY}"), "host", 2222, Verdict::Unknown),
            (format!("[host]:2222 {KEY}"), "host", 2222, Verdict::Known),
            (format!("a,*.example.net,!b.example.net {KEY}"), "c.example.net", 22, Verdict::Known),
            (format!("a,*.example.net,!b.example.net {KEY}"), "b.example.net", 22, Verdict::Unknown),
            (format!("host {OTHER}"), "host", 22, Verdict::Changed),
            (format!("host {OTHER}\nhost {KEY}"), "host", 22, Verdict::Known),
            (format!("host {KEY}\n@revoked * {KEY}"), "host", 22, Verdict::Revoked),
            (format!("@cert-authority host {KEY}"), "host", 22, Verdict::Unknown),
            (format!("#host {KEY}\n# host {KEY}\nhost garbage\nhost ssh-ed25519 AAAA"), "host", 22, Verdict::Unknown),
        ];
        for (text, host, port, expected) in cases {
            assert_eq!(verdict(&text, host, port), expected, "{text}");
        }
    }

    #[test]
    fn hmac_is_that_of_rfc_2202() {
        let digits = |bytes: [u8; 20]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(digits(hmac_sha1(&[0x0b; 20], b"Hi There")), "b617318655057264e28bc0b6fb378c8ef146be00");
        assert_eq!(
            digits(hmac_sha1(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "aa4ae5e15272d00e95705637ce8a3b55ed402112"
        );
    }
}
