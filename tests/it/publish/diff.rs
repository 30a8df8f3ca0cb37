//! `hfl diff`: as Markdown, and of the newest two versions.

use std::process::Command;

use serde_json::Value;

use crate::support::lab::{Lab, Random, skipped};

/// Would be markup in Markdown and HTML, if it were not escaped.
const HOSTILE: &str = "</td>|<script>x</script>`a` **b** ![c](//d.e) @all #1";

fn lab() -> Lab {
    let lab = Lab::with_mirrors(&["m"]);
    let mut bytes = Random(1).bytes(3 << 20);
    lab.write("os.img", &bytes);
    lab.publish(&["os.img", "--label", HOSTILE, "--split", "fixed:64K"]);
    Random(2).bytes(600_000).iter().enumerate().for_each(|(i, b)| bytes[i] = *b);
    lab.write("os.img", &bytes);
    lab
}

#[test]
fn the_newest_version_is_compared_with_the_one_before() {
    let lab = lab();
    let one = ["diff", "os", "--to", "mirrors.toml"];
    assert!(lab.ok(&one).contains("os version 1, which has none before it"));
    let first: Value = serde_json::from_str(&lab.ok(&[&one[..], &["--json"]].concat())).unwrap();
    assert!(first["old"].is_null() && first["added"]["blocks"] == first["new"]["blocks"], "{first}");
    let text = lab.ok(&[&one[..], &["--markdown"]].concat());
    assert!(text.contains("\n| | new |\n") && text.contains("<code>os</code> version 1\n"), "{text}");

    lab.publish(&["os.img", "--deltas"]);
    let both = ["diff", "os@1", "os@2", "--to", "mirrors.toml"];
    for form in ["--json", "--markdown"] {
        assert_eq!(lab.ok(&[&one[..], &[form]].concat()), lab.ok(&[&both[..], &[form]].concat()));
    }
    let said = lab.fails(2, &["diff", "os@1", "--to", "mirrors.toml"]);
    assert!(said.contains("name two versions, or an image alone"), "{said}");
}

#[test]
fn a_label_is_no_markup() {
    let lab = lab();
    lab.publish(&["os.img"]);
    let text = lab.ok(&["diff", "os", "--to", "mirrors.toml", "--markdown"]);
    println!("{text}");
    let label = text.lines().find(|line| line.starts_with("| label |")).unwrap();
    assert_eq!(label.matches('|').count(), 4, "its cell ends where it should: {label}");
    for markup in ["<script", "</td", "**", "`", "](", "@all", "//d"] {
        assert!(!text.contains(markup), "{markup} in {text}");
    }
    for said in [
        "<code>os</code> version 1 → 2",
        "| old | new |",
        "| size | 3.00 MiB | 3.00 MiB |",
        "| upload to each mirror |",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let file = lab.write("d.md", &text);
    let rendered = Command::new("cmark-gfm").args(["--unsafe", "-e", "table", "-e", "autolink"]).arg(file).output();
    let Ok(html) = rendered else { return skipped("no cmark-gfm") };
    let html = String::from_utf8(html.stdout).unwrap();
    for markup in ["<script", "<a ", "<img", "<strong"] {
        assert!(!html.contains(markup), "{html}");
    }
    assert!(html.contains("&lt;/td&gt;|&lt;script&gt;"), "the label is shown as it is: {html}");
}
