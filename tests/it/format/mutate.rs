//! Each value has one legal text: a damaged text that still parses is written back unchanged.

use std::cell::Cell;

use hfl::config::Mirrors;
use hfl::format::head::{HeadSignature, SignedHead};
use hfl::format::index::Index;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index as Pick;
use proptest::test_runner::TestRunner;

use crate::format::roundtrip::{a_head, an_index};
use crate::support::format_fixtures::{above_end, golden, golden_text, with_end};

#[derive(Debug, Clone)]
enum Damage {
    Flip(Pick, u8),
    Insert(Pick, u8),
    Remove(Pick),
    Digit(Pick, u8),
    LeadingZero(Pick),
    UpperCase(Pick),
    DeleteLine(Pick),
    DoubleLine(Pick),
    SwapLines(Pick, Pick),
    SwapFields(Pick),
    CarriageReturn(Pick),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Pick>;
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), prop::sample::select(b" 01a-\n\r\t\0\xc3".to_vec())).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        (at(), b'0'..=b'9').prop_map(|(at, digit)| Damage::Digit(at, digit)),
        at().prop_map(Damage::LeadingZero),
        at().prop_map(Damage::UpperCase),
        at().prop_map(Damage::DeleteLine),
        at().prop_map(Damage::DoubleLine),
        (at(), at()).prop_map(|(a, b)| Damage::SwapLines(a, b)),
        at().prop_map(Damage::SwapFields),
        at().prop_map(Damage::CarriageReturn),
    ]
}

fn apply(text: &mut Vec<u8>, damage: &Damage) {
    if text.is_empty() {
        return;
    }
    let at = |pick: &Pick| pick.index(text.len());
    match damage {
        Damage::Flip(pick, bit) => {
            let at = at(pick);
            text[at] ^= 1 << bit;
        }
        Damage::Insert(pick, byte) => text.insert(at(pick), *byte),
        Damage::Remove(pick) => {
            text.remove(at(pick));
        }
        Damage::Digit(pick, digit) => {
            let from = at(pick);
            if let Some(byte) = text[from..].iter_mut().find(|b| b.is_ascii_digit()) {
                *byte = *digit;
            }
        }
        Damage::LeadingZero(pick) => {
            let from = at(pick);
            if let Some(space) = text[from..].iter().position(|&b| b == b' ') {
                text.insert(from + space + 1, b'0');
            }
        }
        Damage::UpperCase(pick) => {
            let from = at(pick);
            if let Some(byte) = text[from..].iter_mut().find(|b| b.is_ascii_lowercase()) {
                byte.make_ascii_uppercase();
            }
        }
        lines => *text = with_lines(text, lines),
    }
}

fn with_lines(text: &[u8], damage: &Damage) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    let at = |pick: &Pick| pick.index(lines.len());
    match damage {
        Damage::DeleteLine(pick) => {
            lines.remove(at(pick));
        }
        Damage::DoubleLine(pick) => {
            let at = at(pick);
            lines.insert(at, lines[at].clone());
        }
        Damage::SwapLines(a, b) => {
            let (a, b) = (at(a), at(b));
            lines.swap(a, b);
        }
        Damage::SwapFields(pick) => {
            let at = at(pick);
            let line = lines[at].strip_suffix(b"\n").unwrap_or(&lines[at]);
            let mut fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
            fields.rotate_left(1);
            lines[at] = [fields.join(&b' ').as_slice(), b"\n"].concat();
        }
        Damage::CarriageReturn(pick) => {
            let line = &mut lines[pick.index(text.split_inclusive(|&b| b == b'\n').count())];
            line.insert(line.len() - 1, b'\r');
        }
        _ => {}
    }
    lines.concat()
}

/// Damages texts from `source`, and checks that `rewrite` either returns the same bytes or refuses.
/// Returns how many texts that differ from the original were accepted.
fn check<S: Strategy<Value = Vec<u8>>>(
    cases: u32,
    source: S,
    rewrite: impl Fn(&[u8]) -> (Vec<u8>, Option<Vec<u8>>),
) -> u32 {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let accepted = Cell::new(0);
    let run = TestRunner::new(config).run(&(source, vec(damage(), 1..4)), |(text, damages)| {
        let mut damaged = text.clone();
        damages.iter().for_each(|damage| apply(&mut damaged, damage));
        let (file, written) = rewrite(&damaged);
        if let Some(written) = written {
            prop_assert_eq!(&String::from_utf8_lossy(&written), &String::from_utf8_lossy(&file));
            accepted.set(accepted.get() + u32::from(damaged != text));
        }
        Ok(())
    });
    run.unwrap_or_else(|e| panic!("{e}"));
    accepted.get()
}

#[test]
fn an_index_that_is_accepted_has_its_one_text() {
    let golden = Just(above_end(&golden("sample.idx")).to_vec());
    let source = prop_oneof![golden, an_index().prop_map(|index| above_end(&index.to_bytes()).to_vec())];
    let accepted = check(10_000, source, |text| {
        let file = with_end(text);
        let written = Index::parse(&file).ok().map(|index| index.to_bytes());
        (file, written)
    });
    println!("10000 damaged indexes with a right checksum: {accepted} were other legal texts");
    assert!(accepted > 100, "the damage must sometimes be legal");
}

#[test]
fn a_head_that_is_accepted_has_its_one_text() {
    let signed = Just(golden("signed.head"));
    let unsigned = a_head().prop_map(|head| SignedHead::new(head, HeadSignature::Unsigned).expect("valid").to_bytes());
    let accepted = check(10_000, prop_oneof![signed, unsigned], |file| {
        (file.to_vec(), SignedHead::parse(file).ok().map(|head| head.to_bytes()))
    });
    println!("10000 damaged heads: {accepted} were other legal texts");
    assert!(accepted > 100, "the damage must sometimes be legal");
}

/// mirrors.toml has no canonical text, but nothing in it may cause a panic or a message of several
/// lines.
#[test]
fn a_damaged_mirrors_toml_gives_one_line() {
    check(3_000, Just(golden_text("mirrors.toml").into_bytes()), |file| {
        if let Err(e) = Mirrors::parse(&String::from_utf8_lossy(file)) {
            assert!(!e.to_string().contains(['\n', '\r']), "{e}");
        }
        (Vec::new(), None)
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_refused_without_a_panic(noise in vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
        for start in ["", "HFL-INDEX 1\n", "HFL-HEAD 1\nimage a\n", "HFL-INDEX ", "<"] {
            let file = [start.as_bytes(), &noise].concat();
            prop_assert!(Index::parse(&file).is_err() && SignedHead::parse(&file).is_err());
        }
        prop_assert!(text.parse::<hfl::format::signature::Signature>().is_err() && text.parse::<hfl::format::signature::PublicKey>().is_err());
        prop_assert!(hfl::format::signing::SecretKey::parse(&text, None).is_err());
        let _ = (text.parse::<hfl::format::url::BaseUrl>(), text.parse::<hfl::format::time::Timestamp>(), text.parse::<hfl::split::Rule>());
        let _ = Mirrors::parse(&text);
    }
}
