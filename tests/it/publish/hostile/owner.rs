//! The owner of the hostile mirror, who forges its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hfl::format::block::unwrapped;
use hfl::format::digest::Sha256;
use hfl::format::head::{HeadSignature, SignedHead, VersionRow};
use hfl::format::layout::RepoPath;
use hfl::format::name::{Name, Version};
use hfl::format::retirement::Retirement;
use hfl::format::time::Timestamp;
use hfl::format::update::Update;

use super::KEYS;
use super::world::{Tree, Trees};
use crate::support::lab::Random;

/// An entry of the hostile mirror's directory.
#[derive(Debug, Clone)]
pub enum Node {
    File(Vec<u8>),
    /// A sparse file of this many zeros.
    Zeros(u64),
    Directory,
    /// A symbolic link to this target.
    Link(String),
    Pipe,
    /// A directory with a name in it that is not valid UTF-8.
    Odd,
}

/// The owner of the hostile mirror: forges its files from whatever was ever published.
pub struct Owner<'a> {
    random: Random,
    /// What the honest mirrors held after each step until now.
    past: &'a [Trees],
    pub files: BTreeMap<String, Node>,
}

impl<'a> Owner<'a> {
    pub fn new(random: Random, past: &'a [Trees]) -> Self {
        Self { random, past, files: BTreeMap::new() }
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.random.below(of.len() as u64) as usize].clone())
    }

    /// All files that an honest mirror held after some step.
    fn state(&mut self) -> Option<&'a Tree> {
        let state = self.random.below(self.past.len().max(1) as u64) as usize;
        let mirror = self.random.below(2) as usize;
        self.past.get(state).map(|trees| &trees[mirror])
    }

    /// A file that was published at some time, whose path has this prefix and suffix.
    fn real(&mut self, begins: &str, ends: &str) -> Option<(String, Vec<u8>)> {
        let fits = |path: &&String| path.starts_with(begins) && path.ends_with(ends);
        let state = self.state()?;
        let paths: Vec<&String> = state.keys().filter(fits).collect();
        let path = self.pick(&paths)?;
        Some((path.clone(), state[path].clone()))
    }

    fn put(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), Node::File(bytes.into()));
    }

    /// A path of the current tree, or of a file that was published.
    fn any_path(&mut self) -> Option<String> {
        let paths: Vec<String> = self.files.keys().cloned().collect();
        match self.random.below(3) {
            0 => Some(self.real("", "")?.0),
            _ => self.pick(&paths),
        }
    }

    /// Creates a tree: empty, a mix of earlier states or one earlier state, with up to 13 forgeries.
    pub fn invent(&mut self) {
        match self.random.below(6) {
            0 => {}
            1 => self.mix(),
            2 => self.take(self.past.len().saturating_sub(1)),
            _ => {
                let state = self.random.below(self.past.len().max(1) as u64);
                self.take(state as usize);
            }
        }
        for _ in 0..self.random.below(14) {
            let _ = self.forge();
        }
    }

    fn take(&mut self, state: usize) {
        let Some(trees) = self.past.get(state) else { return };
        let mirror = self.random.below(2) as usize;
        self.files.extend(trees[mirror].iter().map(|(path, bytes)| (path.clone(), Node::File(bytes.clone()))));
    }

    /// For each path, the contents from some earlier state, or nothing.
    fn mix(&mut self) {
        let paths: BTreeSet<&String> = self.past.iter().flatten().flat_map(Tree::keys).collect();
        for path in paths {
            if let Some(bytes) = self.state().and_then(|state| state.get(path))
                && self.random.below(6) > 0
            {
                self.put(path.clone(), bytes.clone());
            }
        }
    }

    /// Makes one random forgery.
    fn forge(&mut self) -> Option<()> {
        match self.random.below(27) {
            0 | 1 => self.old_head(),
            2 | 3 => self.forged_head(),
            4 | 5 => self.list(),
            6 | 7 => self.forged_record(),
            8 => self.signed_record(),
            9 | 10 => self.moved_record(),
            11 | 12 => self.moved_index(),
            13 => self.other_signature(),
            14 | 15 => self.wrong_block(),
            16 => self.lock(),
            17 => self.swap_kind(),
            18 => self.strange_names(),
            19 => self.further_files(),
            20 => self.left_over(),
            21 => self.lose(),
            22 => self.break_file(),
            23 => self.other_comment(),
            24 | 25 => self.wrong_delta(),
            _ => self.forged_update(),
        }
    }

    /// One of our heads: an older one, or that of another image.
    fn old_head(&mut self) -> Option<()> {
        let (path, bytes) = self.real("", ".head")?;
        let names = [path.as_str(), path.as_str(), "os.head", "web.head", "new.head", "a.head"];
        let name = self.pick(&names)?.to_owned();
        self.put(name, bytes);
        Some(())
    }

    /// A head of the same image with forged contents, signed by the owner or unsigned.
    fn forged_head(&mut self) -> Option<()> {
        let (path, bytes) = self.real("", ".head")?;
        let mut head = SignedHead::parse(&bytes).ok()?.unverified().clone();
        let mut row = head.newest().clone();
        match self.random.below(4) {
            0 => {}
            1 => head.versions.truncate(1),
            2 => {
                let index = self.real("index/", ".idx")?.1;
                head.versions[0].index_sha256 = Sha256::of(&index);
                head.versions[0].index_bytes = index.len() as u64;
            }
            _ => {
                let highest = self.pick(&[row.version.number() + 1, 4_000_000_000, u32::MAX])?;
                row.version = Version::new(u64::from(highest))?;
                head.versions.insert(0, row);
            }
        }
        head.created = Timestamp::from_unix(head.created.unix() + self.random.below(1 << 33));
        let name = self.pick(&[path.as_str(), "new.head", "zz.head"])?.to_owned();
        head.image = name.strip_suffix(".head")?.parse().ok()?;
        let seal = match self.random.below(3) {
            0 => HeadSignature::Unsigned,
            _ => signed_by_owner(&head.body(), &head.trusted_comment()),
        };
        self.put(name, SignedHead::new(head, seal).ok()?.to_bytes());
        Some(())
    }

    /// A list of images that names missing images, has no end, or is not a list.
    fn list(&mut self) -> Option<()> {
        let count = [3, 40, 300, if self.random.below(10) == 0 { 5000 } else { 7 }][self.random.below(4) as usize];
        let names = || (0..count).map(|i| format!("n{i}\n")).collect::<String>();
        let text = match self.random.below(9) {
            0 => names(),
            1 => names() + "os\nweb\n",
            2 => "os\nzz\nweb\naa\nos".to_owned(),
            3 => "os\r\nweb\r\n".to_owned(),
            4 => "../../etc/passwd\n-rf\n".to_owned(),
            5 => String::new(),
            6 => "os\n".to_owned() + &"x".repeat(300_000),
            7 => {
                self.files.insert("images".into(), Node::Zeros(1 << 40));
                return Some(());
            }
            _ => "new\nos\nweb\n".to_owned(),
        };
        self.put("images", text);
        Some(())
    }

    /// The row of a published version, as a head has it, and the name of its image.
    fn row(&mut self) -> Option<(Name, VersionRow)> {
        let head = SignedHead::parse(&self.real("", ".head")?.1).ok()?;
        let rows = head.unverified().versions.clone();
        Some((head.unverified().image.clone(), self.pick(&rows)?))
    }

    /// A record that names everything there is, with its grace period long over. It is unsigned or truncated.
    fn forged_record(&mut self) -> Option<()> {
        let (image, row) = self.row()?;
        let (bytes, digest) = (row.index_bytes, row.index_sha256);
        let version = self.pick(&[row.version.number(), row.version.number(), 7, 4_000_000_000])?;
        let mut text = format!("HFL-RETIRED 1\nimage {image}\nmarked 2000-01-01T00:00:00Z\n");
        text += &format!("version {version} {bytes} {digest} 2000-01-01T00:00:00Z 4096\n");
        if self.random.below(2) == 0 {
            let named = self.state()?.keys();
            text.extend(named.map(|path| format!("file {path} 1 {digest}\n")));
        }
        text += self.pick(&["", "--\nunsigned\n", "--\n"])?;
        let elsewhere = if self.random.below(4) == 0 { "web".parse().unwrap() } else { image };
        self.put(RepoPath::retirement(&elsewhere, Version::new(version.into())?, &digest).as_str(), text);
        Some(())
    }

    /// A well-formed record at the right path, signed by the owner or unsigned.
    fn signed_record(&mut self) -> Option<()> {
        let (image, row) = self.row()?;
        let row = VersionRow { new_bytes: 0, label: None, ..row };
        let retirement = Retirement { image, marked: Timestamp::from_unix(1_000_000_000), row, files: Vec::new() };
        let seal = match self.random.below(2) {
            0 => HeadSignature::Unsigned,
            _ => signed_by_owner(&retirement.body(), &retirement.trusted_comment()),
        };
        self.put(retirement.path().as_str(), retirement.to_bytes(&seal));
        Some(())
    }

    /// One of our records, at its path or at that of another version or image.
    fn moved_record(&mut self) -> Option<()> {
        let (path, bytes) = self.real("retired/", "")?;
        let (image, row) = self.row()?;
        let digits = path.rsplit('-').next()?;
        let places = [
            path.clone(),
            RepoPath::retirement(&image, row.version, &row.index_sha256).to_string(),
            format!("retired/{image}/{}-{digits}", row.version),
            format!("retired/web/4000000000-{digits}"),
        ];
        let place = self.pick(&places)?;
        self.put(place, bytes);
        Some(())
    }

    /// An index under a wrong number or name, with the real signature beside it.
    fn moved_index(&mut self) -> Option<()> {
        let (path, bytes) = self.real("index/", ".idx")?;
        let signature = self.real(&path, ".minisig").map(|(_, bytes)| bytes);
        let digest = Sha256::of(&bytes);
        let image: Name = self.pick(&["os", "web", "new"])?.parse().ok()?;
        let number = self.pick(&[1, 2, 3, 9, 4_000_000_000, u64::from(u32::MAX)])?;
        let place = RepoPath::index(&image, Version::new(number)?, &digest);
        self.put(place.as_str(), bytes.clone());
        if let Some(signature) = signature {
            self.put(place.signature().as_str(), signature);
        }
        if self.random.below(2) == 0 {
            let other = self.real("index/", ".idx")?.0;
            self.put(other, bytes);
        }
        Some(())
    }

    /// The signature of something else, or one by the owner.
    fn other_signature(&mut self) -> Option<()> {
        let (place, of) = (self.real("", ".minisig")?.0, self.real("", ".minisig")?.1);
        let own = || {
            let seal = Retirement::to_bytes(&record(), &signed_by_owner(b"x", "hfl index os 1 x"));
            let text = String::from_utf8(seal).ok()?;
            Some(text.split_once("--\n")?.1.as_bytes().to_vec())
        };
        let bytes = if self.random.below(2) == 0 { own()? } else { of };
        self.put(place, bytes);
        Some(())
    }

    /// A block whose contents do not match its name, or the right contents in another encoding.
    fn wrong_block(&mut self) -> Option<()> {
        let (path, bytes) = self.real("blocks/", "")?;
        let wrong = match self.random.below(7) {
            0 => self.real("blocks/", "")?.1,
            1 => bytes[..bytes.len() / 2].to_vec(),
            2 => Vec::new(),
            3 => packed(&vec![0; 1 << 20], 9),
            4 => packed(&unwrapped(&bytes, 1 << 20)?, self.random.below(10) as u32),
            5 => [bytes.as_slice(), b"and more"].concat(),
            _ => Random(self.random.next()).bytes(bytes.len()),
        };
        self.put(path, wrong);
        Some(())
    }

    /// A delta whose contents do not match its name.
    fn wrong_delta(&mut self) -> Option<()> {
        let (path, bytes) = self.real("deltas/", "")?;
        let wrong = match self.random.below(4) {
            0 => self.real("deltas/", "")?.1,
            1 => self.real("blocks/", "")?.1,
            2 => bytes[..bytes.len() / 2].to_vec(),
            _ => Random(self.random.next()).bytes(bytes.len()),
        };
        self.put(path, wrong);
        Some(())
    }

    /// An update whose deltas are not those of its blocks, at the path of its own digest or of the real one.
    fn forged_update(&mut self) -> Option<()> {
        let (path, bytes) = self.real("update/", ".update")?;
        let update = Update::parse(&bytes).ok()?;
        let (from, version) = (update.from(), update.version());
        let mut deltas = update.deltas().to_vec();
        for delta in &mut deltas {
            let kind = self.pick(&["deltas/", "blocks/"])?;
            let file = self.real(kind, "")?.1;
            (delta.sha256, delta.bytes) = (Sha256::of(&file), file.len() as u32);
        }
        let pair = self.pick(&[(from, version), (version, Version::new(u64::from(version.number()) + 1)?)])?;
        let forged = Update::new(update.image().clone(), pair, update.bases().to_vec(), deltas).ok()?.to_bytes();
        let own = RepoPath::update(update.image(), pair, &Sha256::of(&forged));
        let place = self.pick(&[own.as_str(), &path])?.to_owned();
        self.put(place, forged);
        Some(())
    }

    /// A held lock, or an invalid one, costs 35 s of waiting, in which it might change. Both are left out.
    fn lock(&mut self) -> Option<()> {
        let state = self.pick(&["owned", "unfinished"])?;
        let holder = "token 00000000000000000000000000000007\nprocess far away 7 1 1\nbeat 5";
        self.put("publish.lock", format!("HFL-LOCK 1\n{holder}\nstate {state}\n"));
        Some(())
    }

    /// A directory in place of a file, a file in place of a directory, or something that is neither.
    fn swap_kind(&mut self) -> Option<()> {
        let path = self.any_path()?;
        let above = path.split('/').next()?.to_owned();
        match self.random.below(6) {
            0 => self.files.insert(path, Node::Directory),
            1 => self.files.insert(format!("{path}/inside"), Node::File(b"x".to_vec())),
            2 => self.files.insert(above, Node::File(b"x".to_vec())),
            // A dangling link is left out, like a lock that is renewed: it costs 40 s of waiting, in which its target
            // might come back. So is a link to a directory of an honest mirror: the publisher itself would write there
            // under that name.
            3 => self.files.insert(path, Node::Link("/dev/null".into())),
            4 => self.files.insert(path.clone(), Node::Link(path.rsplit('/').next()?.to_owned())),
            _ => self.files.insert(path, Node::Pipe),
        };
        Some(())
    }

    fn strange_names(&mut self) -> Option<()> {
        let long = "n".repeat(250);
        let path = match self.random.below(6) {
            0 => vec!["d"; 60].join("/"),
            1 => format!("blocks/{long}"),
            2 => format!("{}.head", "n".repeat(64)),
            3 => format!("{long}.head"),
            4 => " a name\nwith a line in it".to_owned(),
            _ => {
                self.files.insert("index/os/odd".into(), Node::Odd);
                return Some(());
            }
        };
        self.put(path, "x");
        Some(())
    }

    /// Clients, profiles, boot files, pages, and marker files of other programs.
    fn further_files(&mut self) -> Option<()> {
        let cache = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of hfl: what lies in it is removed when room is needed.\n";
        let number = self.random.below(5);
        let path = match self.random.below(8) {
            0 => format!("boot/os/{number}/vmlinuz-0123456789ab"),
            1 => format!("boot/os/{number}/cmdline-0123456789ab.minisig"),
            2 => format!("profile/os/{number}-0123456789ab.profile"),
            3 => "client/hfl-mount-9.0.0-x86_64-linux-0123456789ab".to_owned(),
            4 => "index.html".to_owned(),
            5 => "os.head2".to_owned(),
            6 => "boot/os/boot.ipxe".to_owned(),
            _ => "CACHEDIR.TAG".to_owned(),
        };
        self.put(path, cache);
        Some(())
    }

    fn left_over(&mut self) -> Option<()> {
        let path = self.pick(&[".hfl-tmp", ".hfl-tmp/1-2", ".hfl-tmp/7/8", "blocks/.hfl-tmp", "os.head.hfl-tmp"])?;
        let node = match self.random.below(3) {
            0 => Node::File(b"x".to_vec()),
            1 => Node::Directory,
            // If temporaries were removed through this link, they would be the files of an honest mirror.
            _ => Node::Link(if path == ".hfl-tmp" { "../a" } else { "/dev/zero" }.into()),
        };
        self.files.insert(path.to_owned(), node);
        Some(())
    }

    /// Leaves out all files of one kind.
    fn lose(&mut self) -> Option<()> {
        let (begins, ends) = self.pick(&[
            ("blocks/", ""),
            ("index/", ""),
            ("", ".head"),
            ("images", ""),
            ("", ".minisig"),
            ("retired/", ""),
            ("blocks/0", ""),
            ("deltas/", ""),
            ("update/", ""),
            ("os", ""),
        ])?;
        self.files.retain(|path, _| !(path.starts_with(begins) && path.ends_with(ends)));
        Some(())
    }

    /// Truncates a file, flips one bit of it, empties it, extends it, or makes it endless.
    fn break_file(&mut self) -> Option<()> {
        let path = self.any_path()?;
        let Some(Node::File(bytes)) = self.files.get(&path) else { return None };
        let (mut bytes, length) = (bytes.clone(), bytes.len());
        let at = self.random.below(length.max(1) as u64) as usize;
        match self.random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.clear(),
            2 => bytes.extend_from_slice(b"unsigned\n"),
            3 => drop(bytes.get_mut(at).map(|byte| *byte ^= 1 << (at % 8))),
            _ => {
                self.files.insert(path, Node::Zeros(1 << 40));
                return Some(());
            }
        }
        self.put(path, bytes);
        Some(())
    }

    /// No signature covers the first line of a signature.
    fn other_comment(&mut self) -> Option<()> {
        let ends = self.pick(&[".head", ".minisig", ""])?;
        let (path, bytes) = self.real(if ends.is_empty() { "retired/" } else { "" }, ends)?;
        let text = String::from_utf8(bytes).ok()?;
        let own = "untrusted comment: ask at http://evil.test/ instead";
        self.put(path, text.replace("untrusted comment: signature of hfl", own));
        Some(())
    }

    /// Writes the tree to the mirror's directory.
    pub fn lay(mut self, base: &Path, begins: Option<&str>) {
        // A new image skips the numbers in the names of its listed indexes (`src/publish/base/numbering.rs`), so the
        // tree has no such index.
        if let Some(image) = begins {
            self.files.retain(|path, _| !path.starts_with(&format!("index/{image}/")));
        }
        let _ = fs::remove_file(base);
        let _ = fs::remove_dir_all(base);
        match self.random.below(60) {
            0 => return,
            1 => return fs::write(base, "no directory").unwrap(),
            _ => fs::create_dir(base).unwrap(),
        }
        let is_linked = |path: &str| {
            let above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
            above.into_iter().any(|above| matches!(self.files.get(above), Some(Node::Link(_))))
        };
        // The owner itself writes nothing to an honest mirror.
        for (path, node) in self.files.iter().filter(|(path, _)| !is_linked(path)) {
            let path = base.join(path);
            let _ = path.parent().map(fs::create_dir_all);
            // What is impossible, such as a file below a file, is left out.
            let _ = node.lay(&path);
        }
    }
}

impl Node {
    fn lay(&self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::File(bytes) => fs::write(path, bytes),
            Self::Zeros(bytes) => fs::File::create(path)?.set_len(*bytes),
            Self::Directory => fs::create_dir_all(path),
            Self::Link(to) => std::os::unix::fs::symlink(to, path),
            Self::Pipe => {
                let mode = rustix::fs::Mode::from_raw_mode(0o644);
                Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
            }
            Self::Odd => {
                fs::create_dir_all(path)?;
                fs::write(path.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x")
            }
        }
    }
}

fn signed_by_owner(body: &[u8], comment: &str) -> HeadSignature {
    HeadSignature::Signed(Box::new(KEYS.owner.sign(body, comment).expect("a signature")))
}

/// An arbitrary record. Only the signature after it is used.
fn record() -> Retirement {
    let row = VersionRow {
        version: Version::FIRST,
        index_bytes: 1,
        index_sha256: Sha256::of(b"x"),
        created: Timestamp::from_unix(0),
        size: 1,
        new_bytes: 0,
        label: None,
    };
    Retirement { image: "os".parse().unwrap(), marked: Timestamp::from_unix(0), row, files: Vec::new() }
}

fn packed(bytes: &[u8], level: u32) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}
