//! Heads that must be refused, each with its message.

use hfl::format::digest::Sha256;
use hfl::format::head::{FileRow, HEAD_MAX_BYTES, Head, HeadSignature, SignedHead, Trust, VersionRow};
use hfl::format::name::Version;
use hfl::format::url::BaseUrl;

use crate::support::format_fixtures::{all_as_expected, edited, golden, golden_text, refusal};

const DIGEST: &str = "0ae81b307659ade2ec186ea64c9f0741e04645ad68b6fede7388235cfd9bf36c";

#[test]
fn every_wrong_line_is_named() {
    let cases = [
        ("HFL-HEAD 1", "HFL-HEAD 2", "line 1: format 2, this hfl reads 1; update hfl"),
        ("HFL-HEAD 1", "HFL-INDEX 1", "line 1: expected HFL-HEAD"),
        ("HFL-HEAD 1\n", "HFL-HEAD 1\r\n", "line 1, column 11: carriage return"),
        ("image debian-ps3", "image Debian", "line 2, column 7: 'D' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("T19:50:03Z\nexp", "T19:50:03+00:00\nexp", "line 3, column 9: expected a time like 2026-11-22T19:50:00Z"),
        ("expires 2026-12-22T19:50:03Z", "expires ", "line 4, column 9: expected a time like 2026-11-22T19:50:00Z"),
        ("expires 2026-12-22T19:50:03Z", "expires - ", "line 4, column 9: expected a time like 2026-11-22T19:50:00Z"),
        ("expires", "Expires", "line 4, column 1: expected `expires`, found `Expires`"),
        (
            "https://b.example/hfl/",
            "ftp://b.example/hfl/",
            "line 5, column 8: a base URL begins with http:// or https://",
        ),
        (
            "https://b.example/hfl/",
            "https://u:p@b.example/",
            "line 5, column 8: a base URL is public: it has no user or password",
        ),
        ("mirror https://b.example/hfl/", "mirror https://a.example/~hfl/x%20y/", "line 7: a mirror is named twice"),
        ("mirror https://b", "mirrors https://b", "line 5, column 1: expected `versions`, found `mirrors`"),
        ("mirror https://b", " mirror https://b", "line 5, column 1: expected `versions`, found ``"),
        (
            "file boot/",
            "file /boot/",
            "line 8, column 6: not a path of a repository (a-z A-Z 0-9 . _ - + and /, no component that is empty or begins with . or -, at most 240 bytes)",
        ),
        (
            "file boot/",
            "file images 1 0\nfile boot/",
            "line 8, column 16: expected a SHA-256, 64 lower-case hexadecimal digits; found 1 characters",
        ),
        ("file boot/", "file profile/", "line 9: the files must be sorted by path, each once"),
        (" 14186432 ", " 014186432 ", "line 8, column 33: the file's bytes has leading zeros"),
        (
            " 14186432 ",
            " 1125899906842625 ",
            "line 8, column 33: the file's bytes is outside the limits, 0 to 1125899906842624",
        ),
        ("d521b9\n", "d521b9 x\n", "line 8, column 106: expected the end of the line"),
        ("versions 3", "versions 2", "line 15: expected `--` after the versions"),
        ("versions 3", "versions 4", "line 16, column 1: a version is a number from 1 to 4294967295"),
        ("versions 3", "versions 0", "line 11, column 10: the number of versions is outside the limits, 1 to 2730"),
        (
            "versions 3",
            "versions 18446744073709551615",
            "line 11, column 10: the number of versions is outside the limits, 1 to 2730",
        ),
        ("42 832", "7 832", "line 14: the versions must stand newest first, each once"),
        ("42 832", "41 832", "line 14: the versions must stand newest first, each once"),
        ("42 832", "0 832", "line 13, column 1: a version is a number from 1 to 4294967295"),
        ("42 832", "42 0", "line 13, column 4: the bytes of the index is outside the limits, 1 to 536870912"),
        (
            "42 832 b4",
            "42 832 B4",
            "line 13, column 8: expected the SHA-256 of the index, 64 lower-case hexadecimal digits; found 64 characters",
        ),
        (
            " 42000 nightly",
            " 42000 ",
            "line 13, column 111: a label has 1 to 64 characters, no control characters, no space at its ends, and is not `-`",
        ),
        (" 42000 nightly", " 42000", "line 13, column 110: expected a space"),
        (
            " 42000 nightly",
            " 42000  nightly",
            "line 13, column 111: a label has 1 to 64 characters, no control characters, no space at its ends, and is not `-`",
        ),
        (
            " 42000 nightly",
            " 42000 nightly ",
            "line 13, column 111: a label has 1 to 64 characters, no control characters, no space at its ends, and is not `-`",
        ),
        (
            " 42000 nightly",
            " 42000 night\tly",
            "line 13, column 111: a label has 1 to 64 characters, no control characters, no space at its ends, and is not `-`",
        ),
        (
            " 42000 nightly",
            " 1125899906842625 nightly",
            "line 13, column 105: the bytes added is outside the limits, 0 to 1125899906842624",
        ),
    ];
    let text = golden_text("signed.head");
    let said = |from, to| refusal(SignedHead::parse(edited(&text, from, to).as_bytes()));
    all_as_expected(cases.map(|(from, to, expected)| ((from, to), said(from, to), expected.to_owned())));
}

/// Notes come between the files and the versions, sorted, without duplicates, in one form.
#[test]
fn notes_have_one_form_and_one_place() {
    let text = golden_text("signed.head");
    let form = "line 11, column 6: a note is a key (a letter, then a-z 0-9 . -, at most 32), a space, and a value of \
                printable ASCII without spaces at its ends or two in a row, at most 448 bytes";
    let sorted = "line 12: the notes must be sorted, each once";
    let cases = [
        ("note a\n", form),
        ("note a \n", form),
        ("note  a b\n", form),
        ("note a b \n", form),
        ("note a  b\n", form),
        ("note A b\n", form),
        ("note a \u{e9}\n", form),
        ("note a b\u{1b}[2J\n", form),
        ("note\n", "line 11, column 1: expected `versions`, found `note`"),
        ("notes a b\n", "line 11, column 1: expected `versions`, found `notes`"),
        ("Note a b\n", "line 11, column 1: expected `versions`, found `Note`"),
        ("note b 1\nnote a 1\n", sorted),
        ("note a 2\nnote a 1\n", sorted),
        ("note a 1\nnote a 1\n", sorted),
        ("note a-b 1\nnote a 1\n", sorted),
        ("note a 1\nmirror https://c.example/\n", "line 12, column 1: expected `versions`, found `mirror`"),
    ];
    let said =
        |lines: &str| refusal(SignedHead::parse(edited(&text, "versions 3", &format!("{lines}versions 3")).as_bytes()));
    all_as_expected(cases.map(|(lines, expected)| (lines, said(lines), expected.to_owned())));
    let first = refusal(SignedHead::parse(edited(&text, "file boot/", "note a b\nfile boot/").as_bytes()));
    assert_eq!(first, "line 9, column 1: expected `versions`, found `file`");

    let lines = |count: usize| (0..count).map(|i| format!("note n{i:02} {}\n", "v".repeat(448))).collect::<String>();
    let most = edited(&text, "versions 3", &format!("{}versions 3", lines(64)));
    assert_eq!(SignedHead::parse(most.as_bytes()).expect("64 notes").to_bytes(), most.as_bytes());
    assert_eq!(said(&lines(65)), "line 75: more than 64 notes");
}

#[test]
fn a_file_row_names_nothing_that_has_its_own_place() {
    let block = "blocks/0a/0ae81b307659ade2ec186ea64c9f0741e04645ad";
    let index = "index/x/1-0a1b2c3d4e5f.idx";
    for path in ["images", "other.head", block, index, &format!("{index}.minisig")] {
        let text = edited(&golden_text("unsigned.head"), "versions", &format!("file {path} 1 {DIGEST}\nversions"));
        let why = "line 5: blocks, indexes, heads and the list of images are no further files";
        assert_eq!(refusal(SignedHead::parse(text.as_bytes())), why, "{path}");
    }
}

#[test]
fn the_seal_is_a_signature_or_one_line() {
    let text = golden_text("unsigned.head");
    let four = "line 9: a minisign signature has 4 lines, found";
    let cases = [
        ("unsigned\n", "", "line 9: the file ends here, expected a minisign signature or `unsigned`".to_owned()),
        ("unsigned\n", "unsigned", format!("{four} 1")),
        ("unsigned\n", "Unsigned\n", format!("{four} 1")),
        ("unsigned\n", "unsigned\n\n", format!("{four} 2")),
        ("unsigned\n", "unsigned\nunsigned\n", format!("{four} 2")),
        ("unsigned\n", "a\nb\nc\nd\n", "line 9: not a minisign signature (bad base64 or comment line)".to_owned()),
    ];
    let said = |from, to| refusal(SignedHead::parse(edited(&text, from, to).as_bytes()));
    all_as_expected(cases.map(|(from, to, expected)| (to, said(from, to), expected)));
    let mut latin = text.replace("unsigned\n", "").into_bytes();
    latin.extend_from_slice(b"untrusted comment: \xe4\n");
    assert_eq!(refusal(SignedHead::parse(&latin)), "line 9: the signature is not UTF-8");
}

#[test]
fn the_signature_in_a_head_has_one_form() {
    let text = golden_text("signed.head");
    let (body, signature) = text.split_at(text.find("untrusted").expect("a signature"));
    let form = "line 17: not a minisign signature (bad base64 or comment line)".to_owned();
    let lines = |n: u32| format!("line 17: a minisign signature has 4 lines, found {n}");
    let cases = [
        (signature.replace('\n', "\r\n"), form.clone()),
        (signature.replace("comment: hfl", "comment:hfl"), form.clone()),
        (signature.replace("untrusted comment: ", "untrusted: "), form.clone()),
        (signature.replace("AA=\n", "AA=\n\n"), lines(5)),
        (signature.replace("AA=\n", "AA= \n"), form.clone()),
        (signature.replace("AA=\n", "AB=\n"), form.clone()),
        (signature.replace("AA=\n", "AA\n"), form.clone()),
        (format!("{signature}\n"), lines(5)),
        (format!("{signature}x"), lines(5)),
        (signature.trim_end().to_owned(), lines(4)),
        (signature.replace("signature of hfl", &"x".repeat(2048)), form),
    ];
    assert!(cases.iter().all(|(changed, _)| changed != signature));
    let said = |changed: &str| refusal(SignedHead::parse(format!("{body}{changed}").as_bytes()));
    all_as_expected(cases.map(|(changed, expected)| (changed.clone(), said(&changed), expected)));
}

#[test]
fn files_that_are_no_head_are_named_as_what_they_are() {
    let long = vec![b'x'; HEAD_MAX_BYTES as usize + 1];
    let line = [b"HFL-HEAD 1\nimage ".as_slice(), &[b'x'; 3000]].concat();
    let cases: [(&[u8], &str); 6] = [
        (b"", "empty, expected HFL-HEAD"),
        (b"<html>", "line 1: looks like HTML (captive portal or 404 page?)"),
        (b"404", "line 1: expected HFL-HEAD"),
        (b"HFL-HEAD 1\n", "line 2: the file ends here, too early"),
        (&line, "line 2: longer than 2048 bytes"),
        (&long, "262145 bytes, at most 262144 are allowed"),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(SignedHead::parse(file)), expected);
    }
}

fn head() -> Head {
    SignedHead::parse(&golden("signed.head")).expect("golden").verify(&Trust::Anyone).expect("golden")
}

fn made(head: Head) -> String {
    refusal(SignedHead::new(head, HeadSignature::Unsigned))
}

#[test]
fn parts_that_could_not_be_read_again_are_refused_when_a_head_is_made() {
    assert_eq!(made(Head { versions: vec![], ..head() }), "a head names at least one version");
    let versions = |change: fn(&mut VersionRow)| {
        let mut head = head();
        change(&mut head.versions[1]);
        made(head)
    };
    let limits = "a number of bytes is outside the limits";
    assert_eq!(versions(|row| row.size = 0), limits);
    assert_eq!(versions(|row| row.index_bytes = 0), limits);
    assert_eq!(versions(|row| row.index_bytes = 1 << 30), limits);
    assert_eq!(versions(|row| row.new_bytes = u64::MAX), limits);
    let mut many = head();
    many.mirrors = (0..257).map(|i| format!("https://m{i}.example/").parse().expect("a URL")).collect();
    assert_eq!(made(many), "more than 256 mirrors");
    let mut files = head();
    files.files = vec![FileRow { path: "x".parse().expect("a path"), bytes: u64::MAX, sha256: Sha256::of(b"") }];
    assert_eq!(made(files), "the file's bytes are outside the limits");
}

#[test]
fn a_head_that_is_too_large_is_refused_and_can_be_shortened() {
    let mut long = head();
    let row = long.versions[0].clone();
    let numbered = |n: u64| VersionRow { version: Version::new(n).expect("a version"), ..row.clone() };
    long.versions = (1..=2500).rev().map(numbered).collect();
    assert!(made(long.clone()).ends_with("bytes, at most 262144 are allowed"));
    long.drop_oldest_beyond_limit();
    println!("{} of 2500 versions fit a head", long.versions.len());
    assert!(long.versions.len() > 2000 && long.newest().version.number() == 2500);
    let file = SignedHead::new(long, HeadSignature::Unsigned).expect("short enough").to_bytes();
    SignedHead::parse(&file).expect("readable");
    let mut mirrors = head();
    let url = |i: usize| -> BaseUrl { format!("https://m.example/{i}{}/", "x".repeat(1000)).parse().expect("a URL") };
    mirrors.mirrors = (100..356).map(url).collect();
    assert!(made(mirrors).ends_with("bytes, at most 262144 are allowed"));
}
