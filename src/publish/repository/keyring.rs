//! Sources of secret keys, and saving new ones.

use std::fs;
use std::io::{self, ErrorKind as ErrorKindIo, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::format::name::Name;
use crate::format::signature::PublicKey;
use crate::format::signing::{SecretKey, SignError};
use crate::repo::survey::KnownKeys;

/// Maximum size of a key file in bytes.
const KEY_MAX_BYTES: u64 = 16 << 10;

/// Sources for the key of an image, in this order.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// A key file given by the user.
    pub file: Option<PathBuf>,
    /// The text of a key (environment variable `HFL_KEY`).
    pub text: Option<String>,
    /// The password of an encrypted key.
    pub password: Option<String>,
    /// The directory of `NAME.key` and `NAME.pub`.
    pub directory: Option<PathBuf>,
    /// Whether no key is generated: where the next run would not find it.
    pub refuses_new: bool,
}

/// A secret key and its origin.
pub struct FoundKey {
    /// The secret key.
    pub key: SecretKey,
    /// Its text, if it was just generated and is not saved yet.
    unsaved: Option<String>,
    /// Whether it is the saved key of the image, or is to be: then only its public half is saved for this image.
    is_kept: bool,
    /// Its file, if it is the one that was made for the image.
    own_file: Option<PathBuf>,
    /// A warning about its file.
    pub warning: Option<String>,
}

impl Keyring {
    /// The key given by the user, if there is one.
    fn given_key(&self) -> Option<Result<FoundKey, Error>> {
        if let Some(file) = &self.file {
            return Some(self.read(file));
        }
        let text = self.text.as_ref()?;
        let key = self.parse(text).map_err(|e| not_a_key("HFL_KEY", text, &e));
        Some(key.map(FoundKey::of))
    }

    /// The key given by the user, else the saved one of `image`.
    fn existing(&self, image: &Name) -> Result<Option<FoundKey>, Error> {
        if let Some(given) = self.given_key() {
            return given.map(Some);
        }
        let Some(file) = self.kept_file(image)? else { return Ok(None) };
        let found = self.read(&file)?;
        let own_file = Some(file).filter(|file| self.key_file(image).is_ok_and(|own| own == *file));
        Ok(Some(FoundKey { is_kept: true, own_file, ..found }))
    }

    /// The file of the saved key of `image`: `NAME.key`; else another image's whose public half is in `NAME.pub`.
    fn kept_file(&self, image: &Name) -> Result<Option<PathBuf>, Error> {
        let file = self.key_file(image)?;
        // A dangling symlink counts as an unreadable key, not as no key.
        match fs::symlink_metadata(&file) {
            Ok(_) => return Ok(Some(file)),
            Err(e) if e.kind() == ErrorKindIo::NotFound => {}
            Err(e) => return Err(Error::io(&file, &e)),
        }
        let public = fs::read_to_string(file.with_extension("pub")).ok();
        let public = public.and_then(|text| text.parse::<PublicKey>().ok());
        Ok(public.and_then(|public| self.saved_with(&public)))
    }

    /// The file of the saved secret key whose public half this is.
    fn saved_with(&self, public: &PublicKey) -> Option<PathBuf> {
        let entries = fs::read_dir(self.directory.as_ref()?).ok()?.flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = entries.filter(|file| file.extension().is_some_and(|e| e == "key")).collect();
        files.sort();
        files.into_iter().find(|file| self.read(file).is_ok_and(|found| found.key.public() == public))
    }

    /// The key of `image`. If there is none, it is that of the images `beside` it, if they have one and it is saved here;
    /// else a new one, to be saved by [`Keyring::save`].
    ///
    /// # Errors
    /// The key cannot be read; there is none, and none is to be generated.
    pub fn find(&self, image: &Name, beside: &[PublicKey]) -> Result<FoundKey, Error> {
        if let Some(found) = self.existing(image)? {
            return Ok(found);
        }
        let shared = if let [one] = beside { self.saved_with(one) } else { None };
        if let Some(file) = shared {
            return Ok(FoundKey { is_kept: true, ..self.read(&file)? });
        }
        if self.refuses_new {
            let message = format!("no secret key of {image} is here, and in a CI job none is made: it would be lost");
            let hint = "make one with `hfl key new`, and give it to the job as HFL_KEY; --new-key makes one here";
            return Err(Error::usage(message).hint(hint));
        }
        let (key, text) = SecretKey::generate().map_err(|e| Error::local(e.to_string()))?;
        Ok(FoundKey { unsaved: Some(text), ..FoundKey::of(key) })
    }

    /// Generates a key and writes it to `file`, and its public half to the same name with `.pub`; returns that name too.
    ///
    /// # Errors
    /// There is a file already, or it cannot be written.
    pub fn make(file: &Path) -> Result<(SecretKey, PathBuf), Error> {
        let public = file.with_extension("pub");
        let (key, text) = SecretKey::generate().map_err(|e| Error::local(e.to_string()))?;
        for (path, text, mode) in [(file, text, 0o600), (&public, key.public_file(), 0o644)] {
            write_whole(path, &text, mode, false).map_err(|e| Error::io(path, &e))?;
        }
        Ok((key, public))
    }

    /// Where the key of `image` is saved; its directory is created.
    ///
    /// # Errors
    /// There is no place for keys, or it cannot be created.
    pub fn place(&self, image: &Name) -> Result<PathBuf, Error> {
        let file = self.key_file(image)?;
        let directory = file.parent().unwrap_or(Path::new("."));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|e| Error::io(directory, &e))?;
        Ok(file)
    }

    /// The key that would sign `image`, or any image for `None`; none is generated.
    ///
    /// # Errors
    /// The key cannot be read, or there is none.
    pub fn check(&self, image: Option<&Name>) -> Result<FoundKey, Error> {
        if let Some(image) = image {
            return self.find_kept(image);
        }
        let none = || Error::usage("which key? HFL_KEY is not set").hint("name an image, or give --key FILE");
        self.given_key().ok_or_else(none)?
    }

    /// The text of the saved secret key of `image`.
    ///
    /// # Errors
    /// It cannot be read, or there is none.
    pub fn export(&self, image: &Name) -> Result<String, Error> {
        let file = self.kept_file(image)?.map_or_else(|| self.key_file(image), Ok)?;
        self.read(&file)?;
        fs::read_to_string(&file).map_err(|e| Error::io(&file, &e))
    }

    /// Saves a newly generated key with mode 0600 and returns its path. Its public half, and that of a saved key, is
    /// written beside it if missing or different. Keys from other sources are not saved.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn save(&self, found: &FoundKey, image: &Name) -> Result<Option<PathBuf>, Error> {
        let Some(text) = &found.unsaved else {
            // The key works without its public file, and its directory may be read-only.
            let _ = if found.is_kept { self.write_public(found, image) } else { Ok(()) };
            return Ok(None);
        };
        let file = self.place(image)?;
        write_whole(&file, text, 0o600, false).map_err(|e| Error::io(&file, &e))?;
        self.write_public(found, image)?;
        Ok(Some(file))
    }

    /// Writes the public half of a saved key, unless it is there.
    fn write_public(&self, found: &FoundKey, image: &Name) -> Result<(), Error> {
        let public = self.key_file(image)?.with_extension("pub");
        let kept = fs::read_to_string(&public).ok().and_then(|text| text.parse::<PublicKey>().ok());
        if kept.as_ref() == Some(found.key.public()) {
            return Ok(());
        }
        write_whole(&public, &found.key.public_file(), 0o644, true).map_err(|e| Error::io(&public, &e))
    }

    /// The existing key of `image`.
    ///
    /// # Errors
    /// The key cannot be read, or there is none.
    pub fn find_kept(&self, image: &Name) -> Result<FoundKey, Error> {
        self.existing(image)?.ok_or_else(|| {
            let error = Error::usage(format!("no secret key of {image} is here"));
            error.hint("give it with --key FILE or HFL_KEY")
        })
    }

    /// The public half of the key given by the user, if there is one and it can be read.
    pub fn given(&self) -> Option<PublicKey> {
        Some(self.given_key()?.ok()?.key.public().clone())
    }

    /// The known public keys: of every saved key, and of the one given by the user.
    pub fn known_keys(&self) -> KnownKeys {
        let mut known = KnownKeys { given: self.given(), ..KnownKeys::default() };
        let Some(entries) = self.directory.as_ref().and_then(|d| fs::read_dir(d).ok()) else { return known };
        for file in entries.filter_map(|e| e.ok().map(|e| e.path())) {
            let name = file.file_stem().and_then(|stem| stem.to_str()?.parse::<Name>().ok());
            let extension = file.extension().and_then(|e| e.to_str());
            let key = match extension {
                Some("pub") => fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()),
                // The public file may be lost.
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
        let key = self.parse(&text).map_err(|e| not_a_key(&file.display().to_string(), &text, &e))?;
        let open_to_others = meta.permissions().mode() & 0o077 != 0;
        let warning = open_to_others.then(|| format!("{0}: others can read this key; chmod 600 {0}", file.display()));
        Ok(FoundKey { warning, ..FoundKey::of(key) })
    }

    fn parse(&self, text: &str) -> Result<SecretKey, SignError> {
        let password = self.password.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
        SecretKey::parse(text, password.filter(|text| !text.is_empty()).map(str::to_owned))
    }
}

impl FoundKey {
    /// A key that exists elsewhere: it is not saved here.
    fn of(key: SecretKey) -> Self {
        Self { key, unsaved: None, is_kept: false, own_file: None, warning: None }
    }

    /// The same key for another image, if it was just generated: it is then saved for both.
    pub fn again(&self) -> Option<Self> {
        let text = self.unsaved.as_ref()?;
        let key = SecretKey::parse(text, None).ok()?;
        Some(Self { unsaved: Some(text.clone()), ..Self::of(key) })
    }

    /// Its file, if it was made for the image by an earlier run.
    pub fn own_file(&self) -> Option<&Path> {
        self.own_file.as_deref()
    }

    /// Whether it was just generated.
    pub fn is_new(&self) -> bool {
        self.unsaved.is_some()
    }
}

/// The error for a text that is not a usable key, with a hint what it may be; `place` is where the text comes from.
fn not_a_key(place: &str, text: &str, why: &SignError) -> Error {
    let text = text.trim();
    if text.is_empty() {
        let hint = match place {
            "HFL_KEY" => {
                "is the secret defined for this job? unset it to use the key that is kept for the image".into()
            }
            _ => format!("put it back from a copy; or, if nothing was ever published with it, rm {place}"),
        };
        return Error::local(format!("{place}: empty, there is no key in it")).hint(hint);
    }
    let error = Error::local(format!("{place}: {why}"));
    match why {
        SignError::Encrypted => error.hint("give its password in HFL_KEY_PASSWORD"),
        SignError::Public => error.hint("the secret key is in the .key file; for reading, --key takes the public one"),
        SignError::Encoded => error.hint("decode it first: base64 -d"),
        SignError::Foreign => error.hint("hfl key new makes one"),
        _ if place == "HFL_KEY" && Path::new(text).exists() => error.hint("this is a path: --key takes files"),
        _ => error,
    }
}

/// Writes a temporary file beside `path` and renames it once it is on disk: a used key must not be lost, and no partial
/// key may remain. An existing file is replaced only with `replace`.
fn write_whole(path: &Path, text: &str, mode: u32, replace: bool) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = fs::Permissions::from_mode(mode);
    let mut file = tempfile::Builder::new().prefix(".hfl-").permissions(permissions).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let moved = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    moved.map_err(|e| e.error)?;
    fs::File::open(directory)?.sync_all()
}
