//! A small writer of repositories for tests: blocks of fixed size, one version at a time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use hfl::format::block::BlockRow;
use hfl::format::block::{Codec, Compressor, digests};
use hfl::format::digest::Sha256;
use hfl::format::head::{FileRow, Head, HeadSignature, SignedHead, Trust, VersionRow};
use hfl::format::index::{Extent, ExtentSource, Header, Index};
use hfl::format::layout::RepoPath;
use hfl::format::name::{Name, Version};
use hfl::format::signing::SecretKey;
use hfl::format::time::Timestamp;
use hfl::format::url::BaseUrl;
use hfl::repo::OpenOptions;
use hfl::split::Rule;

pub use crate::support::lab::Random;

/// Creation time of every version.
pub const CREATED: u64 = 1_790_000_000;
pub const BLOCK_BYTES: usize = 256 << 10;

/// How a version is written.
pub struct Publish<'a> {
    pub image: &'a str,
    pub version: u64,
    pub block_bytes: usize,
    pub mirrors: Vec<BaseUrl>,
    pub key: Option<&'a SecretKey>,
    pub expires: Option<u64>,
    /// Replaces the words of the split rule.
    pub split: Option<&'a str>,
    pub notes: Vec<&'a str>,
    /// Additional files, which are written too.
    pub files: Vec<(FileRow, Vec<u8>)>,
}

impl Default for Publish<'_> {
    fn default() -> Self {
        let (mirrors, key, expires, split, notes, files) = Default::default();
        Self { image: "test", version: 1, block_bytes: BLOCK_BYTES, mirrors, key, expires, split, notes, files }
    }
}

impl Publish<'_> {
    /// Writes `bytes` as a version to the repository at `base`. Earlier versions are kept.
    pub fn write(&self, base: &Path, bytes: &[u8]) -> Index {
        let mut cutter = Cutter::new(base);
        bytes.chunks(self.block_bytes).for_each(|chunk| cutter.push(chunk));
        self.finish(base, cutter)
    }

    /// Like [`Publish::write`], for an image that is already cut into blocks.
    pub fn write_cut(&self, base: &Path, blocks: &[Vec<u8>]) -> Index {
        let mut cutter = Cutter::new(base);
        blocks.iter().for_each(|block| cutter.push(block));
        self.finish(base, cutter)
    }

    fn finish(&self, base: &Path, cutter: Cutter) -> Index {
        let name: Name = self.image.parse().unwrap();
        let version = Version::new(self.version).unwrap();
        let created = Timestamp::from_unix(CREATED + self.version);
        let fixed = || Rule::Fixed(self.block_bytes as u32).into();
        let split = self.split.map_or_else(fixed, |words| words.parse().unwrap());
        let header = Header { image: name.clone(), version, created, size: cutter.size, split, parent: None };
        let index = Index::new(header, cutter.blocks, cutter.extents).unwrap();
        let file = index.to_bytes();
        let index_sha256 = Sha256::of(&file);
        put(base, &RepoPath::index(&name, version, &index_sha256), &file);
        let row = VersionRow {
            version,
            index_bytes: file.len() as u64,
            index_sha256,
            created,
            size: index.size(),
            new_bytes: index.zlib_bytes(),
            label: None,
        };
        let mut versions = held(base, &name);
        versions.insert(0, row);
        self.put_head(base, name, created, versions);
        index
    }

    fn put_head(&self, base: &Path, image: Name, created: Timestamp, versions: Vec<VersionRow>) {
        let expires = self.expires.map(Timestamp::from_unix);
        self.files.iter().for_each(|(row, bytes)| put(base, &row.path, bytes));
        let files = self.files.iter().map(|(row, _)| row.clone()).collect();
        let notes = self.notes.iter().map(|note| note.parse().unwrap()).collect();
        let head = Head { image, created, expires, mirrors: self.mirrors.clone(), files, notes, versions };
        let unsigned = SignedHead::new(head.clone(), HeadSignature::Unsigned).unwrap();
        let seal = match self.key {
            Some(key) => HeadSignature::Signed(Box::new(key.sign(&unsigned.body(), &head.trusted_comment()).unwrap())),
            None => HeadSignature::Unsigned,
        };
        let path = RepoPath::head(&head.image);
        put(base, &path, &SignedHead::new(head, seal).unwrap().to_bytes());
    }
}

fn held(base: &Path, image: &Name) -> Vec<VersionRow> {
    let Ok(file) = fs::read(base.join(RepoPath::head(image).as_str())) else { return Vec::new() };
    let head = SignedHead::parse(&file).unwrap().verify(&Trust::Anyone).unwrap();
    head.versions
}

fn put(base: &Path, path: &RepoPath, bytes: &[u8]) {
    let path = base.join(path.as_str());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

struct Cutter {
    base: PathBuf,
    sealer: Compressor,
    places: HashMap<Sha256, u32>,
    blocks: Vec<BlockRow>,
    extents: Vec<Extent>,
    size: u64,
}

impl Cutter {
    fn new(base: &Path) -> Self {
        let (places, blocks, extents) = Default::default();
        Self { base: base.to_owned(), sealer: Compressor::new(Codec::Zlib(6)), places, blocks, extents, size: 0 }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.size += chunk.len() as u64;
        let from = if chunk.iter().all(|&b| b == 0) { ExtentSource::Hole } else { self.block(chunk) };
        Extent { bytes: chunk.len() as u64, from }.push_to(&mut self.extents);
    }

    fn block(&mut self, chunk: &[u8]) -> ExtentSource {
        let (id, sha256) = digests(chunk);
        if let Some(&block) = self.places.get(&sha256) {
            return ExtentSource::Block { block, offset: 0 };
        }
        let sealed = self.sealer.seal(chunk, id, sha256).unwrap();
        let block = self.blocks.len() as u32;
        self.places.insert(sha256, block);
        self.blocks.push(*sealed.row());
        put(&self.base, &RepoPath::block(&id), &sealed.into_file());
        ExtentSource::Block { block, offset: 0 }
    }
}

/// What a reader without a version history requests: the newest version of the image `test`.
pub fn newest(trust: Trust) -> OpenOptions {
    OpenOptions::new("test".parse().unwrap(), trust)
}

/// `bytes` bytes that resemble an image: text, random data, repeated blocks and holes.
pub fn image(bytes: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut image = Vec::with_capacity(bytes);
    while image.len() < bytes {
        let kind = random.below(4);
        for i in 0..(BLOCK_BYTES as u64 / 8) {
            let word = match kind {
                0 => 0,
                1 => i / 64 * 0x0101_0101,
                2 => i % 512,
                _ => random.next(),
            };
            image.extend_from_slice(&word.to_le_bytes());
        }
    }
    image.truncate(bytes);
    image
}
