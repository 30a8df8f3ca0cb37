//! Names, labels, versions, times, rules and URLs: limits of the grammar.

use std::fmt::Display;
use std::str::FromStr;

use hfl::format::digest::{BlockId, Sha256};
use hfl::format::head::Note;
use hfl::format::index::Split;
use hfl::format::name::{Label, Name, Version};
use hfl::format::signature::PublicKey;
use hfl::format::time::Timestamp;
use hfl::format::url::BaseUrl;
use hfl::split::Rule;

use crate::support::format_fixtures::{all_as_expected, golden_text, refusal};

fn all_refused<T: FromStr<Err: Display> + std::fmt::Debug>(cases: &[(&str, &str)]) {
    all_as_expected(cases.iter().map(|(text, expected)| (text, refusal(text.parse::<T>()), expected.to_string())));
}

/// Accepted texts are written back unchanged.
fn all_accepted<T: FromStr<Err: Display> + Display>(texts: &[&str]) {
    for text in texts {
        let value = text.parse::<T>().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(value.to_string(), *text);
    }
}

#[test]
fn names() {
    let long = "x".repeat(65);
    all_refused::<Name>(&[
        ("", "the name is empty"),
        (&long, "the name has 65 bytes, at most 64 are allowed"),
        ("../../etc", "'/' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("A b", "'A' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("a b", "' ' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("a\n", r"'\n' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("a\0", r"'\0' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("ä", "'ä' is not allowed in a name (allowed: a-z 0-9 . _ -)"),
        ("-rf", "a name begins with a letter or a digit"),
        (".", "a name begins with a letter or a digit"),
        ("..", "a name begins with a letter or a digit"),
        (".hidden", "a name begins with a letter or a digit"),
        ("_x", "a name begins with a letter or a digit"),
    ]);
    all_accepted::<Name>(&["a", "0", "debian-ps3", "a..b", "x.head", "x-", &long[..64]]);
    assert_eq!(Name::suggest("Debian PS3!").map(|n| n.to_string()).as_deref(), Some("debian-ps3"));
    assert_eq!(Name::suggest("../.."), None);
}

#[test]
fn versions() {
    let why = "a version is a number from 1 to 4294967295";
    let bad = ["", "0", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "0x1", "4294967296", "18446744073709551617", "١"];
    all_refused::<Version>(&bad.map(|text| (text, why)));
    all_accepted::<Version>(&["1", "10", "4294967295"]);
    assert_eq!(Version::new(u64::from(u32::MAX)).and_then(Version::next), None);
}

#[test]
fn labels() {
    let why = "a label has 1 to 64 characters, no control characters, no space at its ends, and is not `-`";
    let long = "ä".repeat(65);
    let bad =
        ["", "-", " x", "x ", "\u{a0}x", "x\u{3000}", "a\tb", "a\nb", "a\u{7f}b", "a\u{85}b", "a\u{1b}[2Jb", &long];
    all_refused::<Label>(&bad.map(|text| (text, why)));
    all_accepted::<Label>(&["x", "--", "- -", "a  b", "täglich 毎日", &long[..128]]);
}

#[test]
fn times() {
    let why = "expected a time like 2026-11-22T19:50:00Z";
    let bad = [
        "",
        "2026-11-22",
        "2026-11-22T19:50Z",
        "2026-11-22 19:50:00Z",
        "2026-11-22t19:50:00z",
        "2026-11-22T19:50:00",
        "2026-11-22T19:50:00+00:00",
        "2026-11-22T19:50:00.000Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T19:60:00Z",
        "2026-11-22T19:50:60Z",
        "2026-12-31T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        " 2026-11-22T19:50:00Z",
        "2026-11-22T19:50:00Z ",
        "２026-11-22T19:50:00Z",
    ];
    all_refused::<Timestamp>(&bad.map(|text| (text, why)));
    all_accepted::<Timestamp>(&[
        "1970-01-01T00:00:00Z",
        "2024-02-29T12:00:00Z",
        "2000-02-29T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ]);
    assert_eq!(Timestamp::from_unix(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    assert_eq!(Timestamp::from_unix(u64::MAX).plus_days(u32::MAX).to_string(), "9999-12-31T23:59:59Z");
    let before = std::time::UNIX_EPOCH - std::time::Duration::from_secs(1);
    assert_eq!(Timestamp::from_system(before).unix(), 0);
}

const SPLIT_FORM: &str = "a split rule is a name (a letter, then a-z 0-9 -, at most 32), a number without leading zeros, \
     and further names and numbers, with one space between them and at most 154 bytes";

/// The words of a split rule, as readers carry them: only their form is checked, not their meaning.
#[test]
fn words_of_rules() {
    let name = "x".repeat(32);
    let long = format!("pages 1 {}x", "word ".repeat(29));
    assert_eq!(long.len(), 154);
    let good =
        ["pages 2", "fixed 7", "gear 0", "gear 18446744073709551615", "parts 1 pages 1 bytes 1", "a-9 3 b-8 0 c"];
    for text in good.into_iter().chain([&*format!("{name} 1 {name}"), &long]) {
        assert_eq!(text.parse::<Split>().map(|split| split.to_string()), Ok(text.to_owned()));
    }
    let bad = [
        "",
        " ",
        "pages",
        "pages ",
        "pages  1",
        "pages 01",
        " pages 1",
        "pages 1 ",
        "Pages 1",
        "pages 1\n",
        "1 pages",
        "pages x",
        "pages 1  x",
        "pages 1 X",
        "pages 1 00",
        "pages 1 1x",
        "pages 1 -x",
        "pages 1 x_y",
        "pages -1",
        "p\u{e4}ges 1",
        "pages +1",
        "pages 18446744073709551616",
        "pages 1 18446744073709551616",
        "-p 1",
        "9p 1",
    ];
    for text in bad.into_iter().chain([&*format!("{name}x 1"), &*format!("{long}y")]) {
        assert_eq!(refusal(text.parse::<Split>()), SPLIT_FORM, "{text:?}");
    }
}

/// Notes of a head: any printable value is accepted, in one spelling.
#[test]
fn notes() {
    let (key, value) = ("k".repeat(32), "v".repeat(448));
    for text in ["a b", "must-x.9 !~", "keys NAME.keys 4 x", &*format!("{key} {value}")] {
        let note: Note = text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!((note.to_string(), format!("{} {}", note.key(), note.value())), (text.to_owned(), text.to_owned()));
    }
    let bad = [
        "", " ", "a", "a ", " a", "a  b", "a b ", "a b  c", "A b", "9a b", "-a b", ".a b", "a_b c", "a \u{e4}",
        "a \u{7f}", "a b\tc", "a\tb", "a b\r", "a b\n", "a \0",
    ];
    let why = "a note is a key (a letter, then a-z 0-9 . -, at most 32), a space, and a value of printable ASCII \
               without spaces at its ends or two in a row, at most 448 bytes";
    for text in bad.into_iter().chain([&*format!("{key}k {value}"), &*format!("{key} {value}v")]) {
        assert_eq!(refusal(text.parse::<Note>()), why, "{text:?}");
    }
}

#[test]
fn rules() {
    for size in
        ["0", "1", "3", "4095", "4097", "4194305", "4195328", "4294971392", "1099511627776", "18446744073709551615"]
    {
        let why = format!("split rule `fixed {size}`: a block has 4096 to 4194304 bytes, a multiple of 512");
        assert_eq!(refusal(format!("fixed {size}").parse::<Rule>()), why);
    }
    for text in [
        "",
        "fixed",
        "fixed ",
        "fixed 18446744073709551616",
        "fixed 04096",
        "fixed  4096",
        "Fixed 4096",
        "fixed 4096 ",
        "fixed +4096",
        "fixed 1e5",
        "pages",
        "pages -1",
    ] {
        assert_eq!(refusal(text.parse::<Rule>()), SPLIT_FORM, "{text:?}");
    }
    all_refused::<Rule>(&[
        (
            "pages 2",
            "split rule `pages 2`: this hfl knows `content 1`, `content 2`, `fixed BYTES`, `pages 1`, `pages 1 1024`, `pages 1 2048` and `bytes 1`; update hfl",
        ),
        (
            "bytes 0",
            "split rule `bytes 0`: this hfl knows `content 1`, `content 2`, `fixed BYTES`, `pages 1`, `pages 1 1024`, `pages 1 2048` and `bytes 1`; update hfl",
        ),
        (
            "bytes 1 x",
            "split rule `bytes 1 x`: this hfl knows `content 1`, `content 2`, `fixed BYTES`, `pages 1`, `pages 1 1024`, `pages 1 2048` and `bytes 1`; update hfl",
        ),
        (
            "gear 1",
            "split rule `gear 1`: this hfl knows `content 1`, `content 2`, `fixed BYTES`, `pages 1`, `pages 1 1024`, `pages 1 2048` and `bytes 1`; a newer hfl may know more, update hfl",
        ),
    ]);
    all_accepted::<Rule>(&["fixed 4096", "fixed 4608", "fixed 262144", "fixed 4194304", "pages 1", "bytes 1"]);
}

#[test]
fn base_urls() {
    let (scheme, slash) = ("a base URL begins with http:// or https://", "a base URL ends with `/`");
    let chars = "the path of a base URL has only a-z A-Z 0-9 - . _ ~ + , = : @ / and %XX, no query and no fragment";
    let (dots, user) =
        ("a base URL has no `.`, `..` or empty components", "a base URL is public: it has no user or password");
    let host = "the host of the URL is not a lower-case host name or an address";
    let port = "the port of the URL is not a number from 1 to 65535";
    let long = format!("https://h/{}/", "x".repeat(1014));
    let cases = [
        (
            scheme,
            &["", "h", "//h/", "ftp://h/", "HTTPS://h/", "gopher://h/", "file:///h/", "https:/h/", " https://h/"][..],
        ),
        (slash, &["https://h", "https://h/x", "https://h/x?", "https://h?/x"][..]),
        (
            chars,
            &["https://h/x?/", "https://h/#/", "https://h/a b/", "https://h/a\"/", "https://h/é/", "https://h/\n/"][..],
        ),
        (
            chars,
            &["https://h/%/", "https://h/%2/", "https://h/%zz/", "https://h/$x/", "https://h/a;b/", "https://h/a'b/"][..],
        ),
        (
            dots,
            &[
                "https://h//",
                "https://h/./",
                "https://h/a/../",
                "https://h/a//b/",
                "https://h/%2e%2E/",
                "https://h/a%2eb/",
            ][..],
        ),
        (user, &["https://u@h/", "https://u:p@h/", "https://@h/"][..]),
        (
            host,
            &["https:///", "https://H/", "https://./", "https://a..b/", "https://h./", "https://a b/", "https://:80/"]
                [..],
        ),
        (
            host,
            &[
                "https://[::1/",
                "https://[]/",
                "https://[::g]/",
                "https://[::1]x/",
                "https://[fe80::1%1]/",
                "https://[::A]/",
            ][..],
        ),
        (
            port,
            &[
                "https://h:/",
                "https://h:0/",
                "https://h:65536/",
                "https://h:70000/",
                "https://h:080/",
                "https://h:+80/",
            ][..],
        ),
        (port, &["https://[::1]:/", "https://h::1/", "https://h:80:80/", "https://h:x/"][..]),
        ("a base URL has at most 1024 bytes", &[long.as_str()][..]),
    ];
    for (why, texts) in cases {
        all_refused::<BaseUrl>(&texts.iter().map(|text| (*text, why)).collect::<Vec<_>>());
    }
    all_accepted::<BaseUrl>(&[
        "http://h/",
        "https://h.example:8443/~user/a,b=c+d@e:f/",
        "https://192.0.2.1/",
        "http://[::1]/",
        "http://[2001:db8::1]:80/x/",
        "https://my_host.example/a%20b%2F/",
        "https://h/.well-known/hfl/",
        "https://h/a..b/",
        "http://h:65535/",
    ]);
}

#[test]
fn digests_and_keys() {
    let digits = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    all_accepted::<BlockId>(&[digits]);
    for text in ["", &digits[1..], &digits.to_uppercase(), &format!("{digits}0"), &digits.replace('d', "g"), " "] {
        assert_eq!(refusal(text.parse::<BlockId>()), "expected 40 lower-case hexadecimal digits");
    }
    assert_eq!(refusal(digits.parse::<Sha256>()), "expected 64 lower-case hexadecimal digits");
    let file = golden_text("test-only.pub");
    let line = file.lines().nth(1).expect("a key");
    for good in [file.as_str(), line, &format!(" {line}\n"), &file.replace('\n', "\r\n")] {
        assert_eq!(good.parse::<PublicKey>().map(|key| key.to_string()), Ok(line.to_owned()), "{good:?}");
    }
    let why = "not a minisign public key (expected 56 characters of base64 that begin with RW, or a .pub file)";
    let secret = golden_text("test-only.key");
    let twice = format!("{line}\n{line}\n");
    let bad = [
        "",
        "RW",
        &line[1..],
        &line.replace('R', "*"),
        "untrusted comment: x\n",
        &secret,
        &twice,
        &format!("{file}{line}\n"),
        "x\u{e4}\n\n",
    ];
    all_refused::<PublicKey>(&bad.map(|text| (text, why)));
}
