//! Where secret keys come from, and where new ones are kept.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::{Error, ErrorKind};
use crate::keys::PublicKey;
use crate::name::Name;
use crate::sign::{SecretKey, SignError};
use crate::survey::KnownKeys;

/// The largest key file, in bytes.
const KEY_MAX_BYTES: u64 = 16 << 10;

/// Where to look for the key of an image, in this order.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// A key file that was asked for.
    pub file: Option<PathBuf>,
    /// The text of a key (the environment variable `HFL_KEY`).
    pub text: Option<String>,
    /// The password of an encrypted key.
    pub password: Option<String>,
    /// The directory in which `NAME.key` and `NAME.pub` lie.
    pub directory: Option<PathBuf>,
}

/// A key and where it came from.
pub struct FoundKey {
    /// The key.
    pub key: SecretKey,
    /// Its text where it was made just now and is not kept yet.
    unsaved: Option<String>,
    /// What should be said about its file.
    pub warning: Option<String>,
}

impl Keyring {
    /// The key of `image`; a new one where there is none, to be kept by [`Keyring::save`].
    ///
    /// # Errors
    /// A key that cannot be read.
    pub fn find(&self, image: &Name) -> Result<FoundKey, Error> {
        if let Some(file) = &self.file {
            return self.read(file);
        }
        if let Some(text) = &self.text {
            let key = self.parse(text).map_err(|e| Error::local(format!("HFL_KEY: {e}")))?;
            return Ok(FoundKey { key, unsaved: None, warning: None });
        }
        match self.key_file(image)? {
            file if file.exists() => self.read(&file),
            _ => {
                let (key, text) = SecretKey::generate().map_err(|e| Error::local(e.to_string()))?;
                Ok(FoundKey { key, unsaved: Some(text), warning: None })
            }
        }
    }

    /// Keeps a key that was made just now, mode 0600, its public half beside it; returns where. Others stay where they
    /// are.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn save(&self, found: &FoundKey, image: &Name) -> Result<Option<PathBuf>, Error> {
        let Some(text) = &found.unsaved else { return Ok(None) };
        let file = self.key_file(image)?;
        let directory = file.parent().unwrap_or(Path::new("."));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|e| Error::io(directory, &e))?;
        write_new(&file, text, 0o600).map_err(|e| Error::io(&file, &e))?;
        let public = file.with_extension("pub");
        fs::write(&public, found.key.public_file()).map_err(|e| Error::io(&public, &e))?;
        Ok(Some(file))
    }

    /// The key of `image`, which must have been made before.
    ///
    /// # Errors
    /// A key that cannot be read, or none at all.
    pub fn find_kept(&self, image: &Name) -> Result<FoundKey, Error> {
        let found = self.find(image)?;
        if found.is_new() {
            let error = Error::new(ErrorKind::Usage, format!("no secret key of {image} is here"));
            return Err(error.hint("give it with --key FILE or HFL_KEY"));
        }
        Ok(found)
    }

    /// The public half of the key that was asked for, if one was and it can be read.
    pub fn given(&self) -> Option<PublicKey> {
        let found = match (&self.file, &self.text) {
            (Some(file), _) => self.read(file).ok()?.key,
            (None, Some(text)) => self.parse(text).ok()?,
            (None, None) => return None,
        };
        Some(found.public().clone())
    }

    /// The public keys that are known here: of every key that is kept, and of the one that was given.
    pub fn known_keys(&self) -> KnownKeys {
        let mut known = KnownKeys { given: self.given(), ..KnownKeys::default() };
        let Some(entries) = self.directory.as_ref().and_then(|d| fs::read_dir(d).ok()) else { return known };
        for file in entries.filter_map(|e| e.ok().map(|e| e.path())) {
            let name = file.file_stem().and_then(|stem| stem.to_str()?.parse::<Name>().ok());
            let extension = file.extension().and_then(|e| e.to_str());
            let key = match extension {
                Some("pub") => fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()),
                // The public half may have been lost.
                Some("key") if !file.with_extension("pub").exists() => {
                    self.read(&file).ok().map(|found| found.key.public().clone())
                }
                _ => None,
            };
            known.own.extend(name.zip(key));
        }
        known
    }

    fn key_file(&self, image: &Name) -> Result<PathBuf, Error> {
        let Some(directory) = &self.directory else {
            return Err(Error::local("no place to keep a key: neither XDG_CONFIG_HOME nor HOME is set")
                .hint("give a key with --key FILE or HFL_KEY, or publish with --unsigned"));
        };
        Ok(directory.join(format!("{image}.key")))
    }

    fn read(&self, file: &Path) -> Result<FoundKey, Error> {
        let meta = fs::metadata(file).map_err(|e| Error::io(file, &e))?;
        if !meta.is_file() || meta.len() > KEY_MAX_BYTES {
            return Err(Error::local(format!("{}: not a minisign secret key", file.display())));
        }
        let text = fs::read_to_string(file).map_err(|e| Error::io(file, &e))?;
        let key = self.parse(&text).map_err(|e| Error::local(format!("{}: {e}", file.display())))?;
        let open_to_others = meta.permissions().mode() & 0o077 != 0;
        let warning = open_to_others.then(|| format!("{0}: others can read this key; chmod 600 {0}", file.display()));
        Ok(FoundKey { key, unsaved: None, warning })
    }

    fn parse(&self, text: &str) -> Result<SecretKey, SignError> {
        SecretKey::parse(text, self.password.clone())
    }
}

impl FoundKey {
    /// Whether it was made just now.
    pub fn is_new(&self) -> bool {
        self.unsaved.is_some()
    }
}

/// Writes a file that must not exist yet, and waits for the disk: a key that was used must not be lost.
fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
