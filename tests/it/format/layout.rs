//! Every path of a repository, parsed and written.

use hfl::format::digest::{BlockId, Sha256};
use hfl::format::layout::{BootFile, Kind, RepoPath};
use hfl::format::name::{Name, Version};
use proptest::prelude::*;

use crate::format::roundtrip::{a_name, a_version};
use crate::support::format_fixtures::refusal;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_path_tells_what_it_is_the_path_of(image in a_name(), version in a_version(), id in any::<[u8; 20]>(), digest in any::<[u8; 32]>()) {
        let (id, digest) = (BlockId(id), Sha256(digest));
        let digits = digest.to_string()[..12].to_owned();
        let paths = [
            (RepoPath::images(), Kind::Images),
            (RepoPath::head(&image), Kind::Head(image.clone())),
            (RepoPath::index(&image, version, &digest), Kind::Index(image.clone(), version, digits.clone())),
            (RepoPath::index_signature(&image, version, &digest), Kind::IndexSignature(image, version, digits)),
            (RepoPath::block(&id), Kind::Block(id)),
            (RepoPath::delta(&digest), Kind::Delta(digest)),
        ];
        for (path, kind) in paths {
            prop_assert_eq!(path.kind(), kind);
            prop_assert_eq!(path.as_str().parse(), Ok(path.clone()));
            prop_assert!(path.as_str().split('/').all(|c| !c.is_empty() && !c.starts_with(['.', '-'])));
        }
    }

    /// An accepted path cannot leave the directory or URL that it is joined to, and has one meaning.
    #[test]
    fn accepted_paths_are_harmless(text in "[a-z0-9./_%~ -]{0,24}|(blocks|index|client)/[0-9a-f./-]{0,60}|\\PC{0,12}") {
        if let Ok(path) = text.parse::<RepoPath>() {
            prop_assert_eq!(path.as_str(), &text);
            prop_assert!(!text.starts_with('/') && text.split('/').all(|c| !c.is_empty() && c != "." && c != ".."));
            let again = match path.kind() {
                Kind::Images => RepoPath::images(),
                Kind::Head(image) => RepoPath::head(&image),
                Kind::Block(id) => RepoPath::block(&id),
                _ => path.clone(),
            };
            prop_assert_eq!(again, path);
        }
    }
}

#[test]
fn hostile_paths_are_refused() {
    let why = "not a path of a repository (a-z A-Z 0-9 . _ - + and /, no component that is empty or begins with . or -, at most 240 bytes)";
    let long = "x".repeat(241);
    let bad = [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "./a",
        "a/./b",
        ".ssh/id",
        "a/.git",
        "-rf",
        "a/-rf",
        "a b",
        "a\\b",
        "C:x",
        "a%2e%2e",
        "~x",
        "a?b",
        "a#b",
        "a\0b",
        "a\nb",
        "ä",
        "a:b",
        "$x",
        "`x`",
        "*",
        &long,
    ];
    for text in bad {
        assert_eq!(refusal(text.parse::<RepoPath>()), why, "{text:?}");
    }
    for text in [
        "a",
        "a/b",
        "index.html",
        "a..b",
        "a-b",
        "boot/x/pxelinux.cfg/default",
        "client/hfl-mount-1.0.0+git-x86_64-linux",
        &long[1..],
    ] {
        assert_eq!(text.parse::<RepoPath>().map(|p| p.to_string()).as_deref(), Ok(text));
    }
}

#[test]
fn what_only_looks_like_a_place_is_a_plain_file() {
    let id = "1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a";
    let plain = [
        format!("blocks/1e/{id}"),
        format!("blocks/1/{id}"),
        format!("blocks/1f3/{id}"),
        format!("blocks/{id}"),
        format!("blocks/1f/{}", id.to_uppercase()),
        format!("blocks/1f/{id}.zz"),
        format!("x/blocks/1f/{id}"),
        "index/x/1-0a1b2c3d4e5f.idx.bak".to_owned(),
        "index/x/01-0a1b2c3d4e5f.idx".to_owned(),
        "index/x/0-0a1b2c3d4e5f.idx".to_owned(),
        "index/x/1-0a1b2c3d4e5.idx".to_owned(),
        "index/x/1-0A1b2c3d4e5f.idx".to_owned(),
        "index/X/1-0a1b2c3d4e5f.idx".to_owned(),
        "index/1-0a1b2c3d4e5f.idx".to_owned(),
        "X.head".to_owned(),
        "x.head.minisig".to_owned(),
        "x/y.head".to_owned(),
        "images.txt".to_owned(),
        "images/x".to_owned(),
    ];
    for text in plain {
        assert_eq!(text.parse::<RepoPath>().expect(&text).kind(), Kind::File, "{text}");
    }
}

#[test]
fn what_caches_may_keep_for_ever() {
    let id = "1f3ad0c9f3ad0c9f3ad0c9f3ad0c9f3ad0c91f3a";
    let block = format!("blocks/1f/{id}");
    let immutable = [
        block.as_str(),
        "index/debian/42-1f3a9c2b7d10.idx",
        "index/debian/42-1f3a9c2b7d10.idx.minisig",
        "index/debian/42-1f3a9c2b7d10.idx.minisig",
        "client/hfl-mount-1.0.0-x86_64-linux-1f3a9c2b7d10",
        "client/hfl-mount-1.0.0-x86_64-linux-1f3a9c2b7d10.0a1b2c3d4e5f.minisig",
        "profile/debian/42-0a1b2c3d4e5f.profile",
        "profile/debian/42-0a1b2c3d4e5f.profile.minisig",
        "boot/debian/42/vmlinuz-1f3a9c2b7d10",
        "boot/debian/42/initrd.img-1f3a9c2b7d10.minisig",
        "boot/42/42/cmdline-1f3a9c2b7d10",
    ];
    let mutable = [
        "debian.head",
        "images",
        "index.html",
        "hfl.css",
        "boot/debian/boot.ipxe",
        "boot/debian/kboot.conf",
        "boot/debian/pxelinux.cfg/default",
        "boot/debian/042/vmlinuz-1f3a9c2b7d10",
        "boot/debian/42/vmlinuz",
        "boot/debian/42/vmlinuz-1f3a9c2b7d1",
        "boot/debian/42/vmlinuz-1f3a9c2b7d1X",
        "boot/debian/42/a/vmlinuz-1f3a9c2b7d10",
        "boot/42/boot.ipxe",
        "boot/debian/42",
        "boot/Debian/42/vmlinuz-1f3a9c2b7d10",
        "client/hfl-mount-1.0.0-x86_64-linux",
        "client/hfl-mount-1.0.0-x86_64-linux.minisig",
        "profile/debian/42.profile",
        "client",
        "profile",
        "lock/publisher",
        "blocks/1f/1f3a",
        "index/debian/index.html",
        "x/client/y",
    ];
    for (text, expected) in immutable.iter().map(|p| (p, true)).chain(mutable.iter().map(|p| (p, false))) {
        assert_eq!(text.parse::<RepoPath>().expect("a path").is_immutable(), expected, "{text}");
    }
}

#[test]
fn clients_and_boot_files_carry_digits_of_their_digest() {
    let (image, version): (Name, _) = ("debian".parse().expect("a name"), Version::FIRST);
    let (one, two) = (Sha256([0x1f; 32]), Sha256([0xa0; 32]));
    let kernel = RepoPath::boot_file(&image, version, BootFile::Kernel, &one);
    assert_eq!(kernel.as_str(), "boot/debian/1/vmlinuz-1f1f1f1f1f1f");
    assert!(kernel.is_boot_file_of(&image, version, BootFile::Kernel) && kernel.belongs_to(&image, version));
    assert!(!kernel.is_boot_file_of(&image, version, BootFile::Miniroot));
    assert!(!kernel.signature().is_boot_file_of(&image, version, BootFile::Kernel));
    let client = |version: &str, digest| RepoPath::client(version, "x86_64", digest).expect("a path");
    let program = client("1.0.0", &one);
    assert_eq!(program.as_str(), "client/hfl-mount-1.0.0-x86_64-linux-1f1f1f1f1f1f");
    assert!(program.is_same_client(&client("1.0.0", &two)) && !program.is_same_client(&client("1.0.1", &one)));
    let signature = program.client_signature(&two);
    assert_eq!(signature.as_str(), "client/hfl-mount-1.0.0-x86_64-linux-1f1f1f1f1f1f.a0a0a0a0a0a0.minisig");
    assert!(program.is_client_signature(&signature) && !program.is_same_client(&signature));
    assert!(!client("1.0.0", &two).is_client_signature(&signature) && !program.is_client_signature(&program));
    for path in [&kernel, &kernel.signature(), &program, &signature] {
        assert!(path.is_immutable() && path.kind() == Kind::File, "{path}");
    }
    assert!(RepoPath::client("1.0/..", "x86_64", &one).is_err());
}

#[test]
fn images_whose_names_look_like_places_do_not_collide_with_them() {
    for name in ["images", "index", "blocks", "client", "index.html", "x.head", "head"] {
        let name: Name = name.parse().expect("a name");
        let path = RepoPath::head(&name);
        assert_eq!(path.kind(), Kind::Head(name.clone()));
        assert_ne!(path, RepoPath::images());
        assert!(RepoPath::index(&name, Version::FIRST, &Sha256([0; 32])).as_str().starts_with("index/"));
    }
}
