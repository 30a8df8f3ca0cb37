//! mirrors.toml: what is refused, with the line number if there is one.

use hfl::config::{Mirrors, WritePlace};

use crate::support::format_fixtures::{all_as_expected, golden_text, refusal};

const ONE: &str = "[[mirror]]\nname = \"a\"\nwrite = \"./a\"\n";

fn said(text: &str) -> String {
    refusal(Mirrors::parse(text))
}

#[test]
fn unknown_keys_are_named_with_their_line_and_the_one_that_was_meant() {
    let cases = [
        ("[[mirors]]\n", "line 1: unknown key `mirors` at the top of the file; did you mean `mirror`?"),
        ("[[mirrors]]\n", "line 1: unknown key `mirrors` at the top of the file; did you mean `mirror`?"),
        ("\n\nzzz = 1\n", "line 3: unknown key `zzz` at the top of the file; known: publish, mirror"),
        ("[publish]\nlevle = 3\n", "line 2: unknown key `levle` in [publish]; did you mean `level`?"),
        (
            "[[mirror]]\nname = \"a\"\nwriet = \"./a\"\n",
            "line 3: unknown key `wriet` in [[mirror]]; did you mean `write`?",
        ),
        ("[[mirror]]\nread_back = true\n", "line 2: unknown key `read_back` in [[mirror]]; did you mean `read-back`?"),
    ];
    all_as_expected(cases.map(|(text, expected)| (text, said(text), expected.to_owned())));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let mirror = |line: &str| format!("[[mirror]]\nname = \"a\"\nwrite = \"./a\"\n{line}\n");
    let publish = |line: &str| format!("[publish]\n{line}\n{ONE}");
    let cases = [
        (mirror("jobs = 0"), "mirror `a`: jobs: at least 1"),
        (mirror("jobs = -1"), "line 4: invalid value: integer `-1`, expected u32"),
        (mirror("enabled = \"no\""), "line 4: invalid type: string \"no\", expected a boolean"),
        (mirror("read = \"https://a\""), "mirror `a`: read: a base URL ends with `/`"),
        (mirror("read = \"gopher://a/\""), "mirror `a`: read: a base URL begins with http:// or https://"),
        (mirror("read = \"https://u:p@a/\""), "mirror `a`: read: a base URL is public: it has no user or password"),
        (mirror("name = \"b\""), "line 4: duplicate key"),
        (mirror("rate = 0"), "line 4: rate: at least 1 byte per second"),
        (mirror("rate = \"2X\""), "line 4: rate: unknown unit `X`, expected K, M, G or T"),
        (mirror("endpoint = \"http://h\""), "mirror `a`: endpoint: of no use to a mirror that is written to ./a"),
        (mirror("headers = { a = \"b\" }"), "mirror `a`: headers: of no use to a mirror that is written to ./a"),
        (
            "[[mirror]]\nname = \"a\"\nwrite = \"ftp://h/x\"\nidentity = \"k\"\n".to_owned(),
            "mirror `a`: identity: of no use to a mirror that is written to ftp://h/x",
        ),
        (publish("level = 13"), "level is at most 12"),
        (publish("level = 300"), "line 2: invalid value: integer `300`, expected u8"),
        (publish("keep = true"), "line 2: invalid type: boolean `true`, expected u32"),
        ("[[mirror]]\nwrite = \"./a\"\n".to_owned(), "line 1: missing field `name`"),
        ("[[mirror]]\nname = \"a\"\n".to_owned(), "line 1: missing field `write`"),
        ("[mirror]\nname = \"a\"\n".to_owned(), "line 1: invalid type: map, expected a sequence"),
        (
            "[[mirror]]\nname = \"A b\"\nwrite = \"./a\"\n".to_owned(),
            "mirror `A b`: name: 'A' is not allowed in a name (allowed: a-z 0-9 . _ -)",
        ),
        (
            "[[mirror]]\nname = \"\\u001b[2J\"\nwrite = \"./a\"\n".to_owned(),
            "mirror `\\u{1b}[2J`: name: '\\u{1b}' is not allowed in a name (allowed: a-z 0-9 . _ -)",
        ),
        ("<html>".to_owned(), "line 1: key with no value, expected `=`"),
    ];
    all_as_expected(cases.map(|(text, expected)| (text.clone(), said(&text), expected.to_owned())));
}

#[test]
fn places_to_write_to() {
    let protocols = "(known: ./directory, file, s3, webdav+http, webdav+https, sftp, ftp, ftps, rsync, rsync+ssh)";
    let option = "the URL has no `.` or `..` in its path, no empty user, and no user or host that begins with `-`";
    let port = "the port of the URL is not a number from 1 to 65535";
    let no_scheme = "which protocol? (expected a URL like sftp://user@host/path, or ./directory)";
    let cases = [
        ("", "empty (expected a directory or a URL)".to_owned()),
        ("gopher://h/x", format!("unknown protocol `gopher` {protocols}")),
        ("https://h/x", format!("unknown protocol `https` {protocols}")),
        ("://h/x", format!("unknown protocol `` {protocols}")),
        ("file://srv/hfl", "file:// needs an absolute path, as in file:///srv/hfl".to_owned()),
        ("user@host:/srv/hfl", no_scheme.to_owned()),
        ("host:22/srv", no_scheme.to_owned()),
        ("sftp:///srv", "the URL names no host".to_owned()),
        ("sftp://user@/srv", "the URL names no host".to_owned()),
        ("s3://", "the URL names no host".to_owned()),
        ("sftp://h:0/x", port.to_owned()),
        ("sftp://h:70000/x", port.to_owned()),
        ("sftp://h:x/x", port.to_owned()),
        ("sftp://-oProxyCommand=x@h/x", option.to_owned()),
        ("rsync://u@-oProxyCommand=x/x", option.to_owned()),
        ("sftp://@h/x", option.to_owned()),
        ("sftp://h/a/../b", option.to_owned()),
        ("s3://bucket/./b", option.to_owned()),
        ("sftp://[::1/x", "the URL names no host".to_owned()),
        ("ftp://h/x?y", "the URL has no query, no fragment and no spaces".to_owned()),
        ("ftp://h/x#y", "the URL has no query, no fragment and no spaces".to_owned()),
        ("ftp://h/a b", "the URL has no query, no fragment and no spaces".to_owned()),
    ];
    all_as_expected(cases.map(|(text, expected)| (text, refusal(text.parse::<WritePlace>()), expected)));
    let good = [
        "./a",
        "a",
        "/srv/hfl",
        "../x y",
        "./a:b",
        "s3://bucket/prefix",
        "webdav+https://u@h/p/",
        "sftp://u@h:22/p",
        "ftp://[::1]:21/p",
        "ftps://[::1]/p",
        "rsync://u@h/p@q",
    ];
    for text in good {
        assert_eq!(text.parse::<WritePlace>().map(|w| w.to_string()).as_deref(), Ok(text));
    }
    assert_eq!("file:///srv/hfl".parse(), Ok(WritePlace::Directory("/srv/hfl".into())));
}

/// A URL must not contain a password, and no message repeats one.
#[test]
fn passwords_are_refused_and_not_repeated() {
    let why = "a password does not belong into the URL; name an environment variable that holds it";
    for url in [
        "ftp://u:s3cr3t@h/p",
        "webdav+https://u:s3cr3t@h:1/p/",
        "sftp://u:s3cr3t@@h/p",
        "s3://k:s3cr3t@bucket/",
        "ftp://u:s3cr3t/x@h/",
    ] {
        let text = format!("[[mirror]]\nname = \"a\"\nwrite = \"{url}\"\n");
        let said = said(&text);
        assert!(!said.contains("s3cr3t"), "{said}");
        if !url.contains("/x@") {
            assert_eq!(said, format!("mirror `a`: write: {why}"));
        }
    }
}

#[test]
fn the_list_of_mirrors_makes_sense_as_a_whole() {
    let none = "no mirror: add a [[mirror]] table with a name and `write`";
    assert_eq!(said(""), none);
    assert_eq!(said("[publish]\nlevel = 3\n"), none);
    assert_eq!(said(&format!("{ONE}enabled = false\n")), "every mirror is disabled");
    assert_eq!(said(&format!("{ONE}{}", ONE.replace("./a", "./b"))), "two mirrors are named a");
    assert_eq!(said(&format!("{ONE}{}", ONE.replace("\"a\"", "\"b\""))), "two mirrors write to ./a");
    let many: String = (0..65).map(|i| format!("[[mirror]]\nname = \"m{i}\"\nwrite = \"./{i}\"\n")).collect();
    assert_eq!(said(&many), "65 mirrors, at most 64");
    // A disabled mirror may share anything with another.
    let off = format!("{ONE}enabled = false\n{ONE}");
    assert_eq!(Mirrors::parse(&off).expect("one is on").mirrors.len(), 1);
}

/// A truncated or damaged file gives a message of one line, never a panic.
#[test]
fn damaged_files_give_one_line() {
    let text = golden_text("mirrors.toml");
    let mut refused = 0;
    for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
        let damaged = [text[..end].to_owned(), format!("{}*{}", &text[..end], &text[end + 1..])];
        for said in damaged.iter().filter_map(|text| Mirrors::parse(text).err()) {
            assert!(!said.to_string().contains('\n'), "{said}");
            refused += 1;
        }
    }
    println!("{refused} of {} damaged files refused", 2 * text.len());
}

/// Variables that are not set, and what a message must not have: their values. HOME and PATH are set wherever tests run.
#[test]
fn variables_are_put_in_where_places_and_headers_are_named() {
    let path = std::env::var("PATH").unwrap();
    let mirror = |line: &str| format!("[[mirror]]\nname = \"a\"\n{line}\n");
    let place = |text: &str| Mirrors::parse(text).unwrap().mirrors[0].write.to_string();
    assert_eq!(place(&mirror("write = \"x/${PATH}/$${PATH}\"")), format!("x/{path}/${{PATH}}"));
    assert_eq!(Mirrors::of_place("./${PATH}").unwrap().mirrors[0].write.to_string(), "./${PATH}");
    let publish = format!("[publish]\nkey = \"${{PATH}}\"\nclient = [\"a\", \"${{PATH}}\"]\n{ONE}");
    let publish = Mirrors::parse(&publish).unwrap().publish;
    assert_eq!((publish.key, publish.client), (Some(path.clone()), vec!["a".to_owned(), path.clone()]));
    let headers = |value: &str| mirror(&format!("write = \"webdav+https://h/\"\nheaders = {{ A = \"{value}\" }}"));
    let with_variable = Mirrors::parse(&headers("Bearer ${PATH}")).unwrap();
    assert!(!with_variable.may_hold_secrets() && Mirrors::parse(&headers("b")).unwrap().may_hold_secrets());
    assert_eq!(with_variable.secret_variables().collect::<Vec<_>>(), ["PATH"], "no other program sees it");

    let cases = [
        (
            mirror("write = \"./${HFL_NO_SUCH_VARIABLE}\""),
            "line 3: `write`: the environment variable HFL_NO_SUCH_VARIABLE is not set",
        ),
        (
            format!("{ONE}read = \"${{HFL_NO_SUCH_VARIABLE}}\"\n"),
            "line 4: `read`: the environment variable HFL_NO_SUCH_VARIABLE is not set",
        ),
        (
            headers("${HFL_NO_SUCH_VARIABLE}"),
            "line 4: `headers`: the environment variable HFL_NO_SUCH_VARIABLE is not set",
        ),
        (
            format!("[publish]\nclient = [\n  \"a\",\n  \"${{HFL_NO_SUCH_VARIABLE}}\" ]\n{ONE}"),
            "line 4: `client`: the environment variable HFL_NO_SUCH_VARIABLE is not set",
        ),
        (
            "[[mirror]]\nname = \"${PATH}\"\nwrite = \"./a\"\n".to_owned(),
            "line 2: `name`: no variable is put in here; they are in places, files and headers (`$${` is a plain `${`)",
        ),
        (
            mirror("write = \"ftp://h/\"\npassword-env = \"${PATH}\""),
            "line 4: `password-env`: no variable is put in here; they are in places, files and headers (`$${` is a plain `${`)",
        ),
        (mirror("write = \"${PATH}://h/\""), "mirror `a`: write: unknown protocol"),
        (
            mirror("write = \"./${PATH}\"\nendpoint = \"e\""),
            "mirror `a`: endpoint: of no use to a mirror that is written to ./${PATH}",
        ),
        (mirror("write = \"./a\"\nread = \"${PATH}\""), "mirror `a`: read: a base URL begins with http:// or https://"),
        (
            mirror("write = \"./a\"\njobs = \"${HOME}\""),
            "line 4: `jobs`: no variable is put in here; they are in places, files and headers (`$${` is a plain `${`)",
        ),
    ];
    for (text, _) in &cases {
        assert!(!said(text).contains(&path), "the value is not said: {}", said(text));
    }
    all_as_expected(cases.map(|(text, expected)| (text.clone(), said(&text), expected.to_owned())));
}
