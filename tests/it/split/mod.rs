//! The splitters against plain models of their rules, and the properties that any of them must have.

pub mod disks;
mod edges;
mod files;
mod golden;
mod image;
mod lab;
mod model;
mod packed;

use hfl::split::{Choice, Cut, PageSize, Rule, RuleError, Span, Splitter};
use image::{Image, image};
use proptest::prelude::*;

/// The rules that have a model; `content` is made of them.
const RULES: [Rule; 6] = [
    Rule::Fixed(4096),
    Rule::Fixed(196_608),
    Rule::Pages(PageSize::OneKib),
    Rule::Pages(PageSize::TwoKib),
    Rule::PAGES,
    Rule::Bytes,
];

/// The cuts of an image that is passed in one call.
pub fn cuts(rule: Rule, image: &[u8]) -> Vec<Cut> {
    let mut found = Vec::new();
    let mut splitter = Splitter::new(rule, &image);
    splitter.data(image, &mut |cut| found.push(cut));
    splitter.finish(&mut |cut| found.push(cut)).expect("an image in memory");
    found
}

/// The same for an image passed in pieces of the given lengths, repeated. With `holes`, zero pieces are passed as
/// holes.
fn cuts_in_pieces(rule: Rule, image: &[u8], lengths: &[usize], holes: bool) -> Vec<Cut> {
    let mut found = Vec::new();
    let mut splitter = Splitter::new(rule, &image);
    let mut rest = image;
    for &len in lengths.iter().cycle() {
        let (now, later) = rest.split_at(len.min(rest.len()));
        if holes && now.iter().all(|&byte| byte == 0) {
            splitter.hole(now.len() as u64, &mut |cut| found.push(cut));
        } else {
            splitter.data(now, &mut |cut| found.push(cut));
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    splitter.finish(&mut |cut| found.push(cut)).expect("an image in memory");
    found
}

/// Bytes of `new` that are in no block of `old`.
fn upload(rule: Rule, old: &[u8], new: &[u8]) -> usize {
    let old: std::collections::HashSet<Vec<u8>> = cuts(rule, old).into_iter().map(|cut| cut.bytes).collect();
    cuts(rule, new).iter().filter(|cut| !old.contains(&cut.bytes)).map(|cut| cut.bytes.len()).sum()
}

fn spans_of(cuts: &[Cut]) -> Vec<Vec<Span>> {
    let mut spans: Vec<_> = cuts.iter().map(|cut| cut.spans.clone()).collect();
    spans.sort_by_key(|spans| spans[0].offset);
    spans
}

/// Checks that the bytes match the spans, that spans are merged and sorted, that nothing is in two blocks, and that
/// only zeros are in none.
fn check_cuts(image: &[u8], cuts: &[Cut]) {
    let mut rest = image.to_vec();
    for cut in cuts {
        let mut gathered = Vec::new();
        for span in &cut.spans {
            let range = span.offset as usize..(span.offset + span.len) as usize;
            gathered.extend_from_slice(&image[range.clone()]);
            rest[range].fill(0);
        }
        assert_eq!(gathered, cut.bytes);
        assert!(gathered.iter().any(|&byte| byte != 0), "a block of zeros");
        assert!(cut.spans.iter().all(|span| span.len > 0));
        assert!(cut.spans.windows(2).all(|two| two[0].offset + two[0].len < two[1].offset));
    }
    assert!(rest.iter().all(|&byte| byte == 0), "bytes that are in no block");
    let total: usize = cuts.iter().map(|cut| cut.bytes.len()).sum();
    let covered: u64 = cuts.iter().flat_map(|cut| &cut.spans).map(|span| span.len).sum();
    assert_eq!(total as u64, covered);
    let mut offsets: Vec<_> = cuts.iter().flat_map(|cut| &cut.spans).map(|span| (span.offset, span.len)).collect();
    offsets.sort();
    assert!(offsets.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "bytes that are in two blocks");
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let len = prop_oneof![
        1..3usize,
        500..600usize,
        Just(4095usize),
        Just(4096),
        Just(4097),
        Just(8 * 4096),
        5000..300_000usize,
        Just(1 << 20),
    ];
    // At least one long piece, so that a test with short ones ends soon.
    prop::collection::vec(len, 1..8).prop_map(|mut lengths| {
        lengths.push(40_000);
        lengths
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn cuts_follow_the_models(Image(image) in image()) {
        for rule in RULES {
            let found = cuts(rule, &image);
            check_cuts(&image, &found);
            prop_assert_eq!(spans_of(&found), model::spans(rule, &image), "{}", rule);
        }
    }

    #[test]
    fn cuts_depend_on_the_bytes_alone(Image(image) in image(), lengths in lengths(), holes: bool) {
        for rule in RULES {
            prop_assert!(cuts(rule, &image) == cuts_in_pieces(rule, &image, &lengths, holes), "{}", rule);
        }
    }

    #[test]
    fn a_rule_has_one_text(text in "(content|fixed|pages|bytes|other)? ?[0-9]{0,8} ?(1024|2048|4096)?") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string(), text);
        }
    }
}

#[test]
fn a_hole_costs_nothing_however_long() {
    for rule in RULES.into_iter().chain([Rule::Content, Rule::Content1]) {
        let mut found = Vec::new();
        let nothing: &[u8] = &[];
        let mut splitter = Splitter::new(rule, &nothing);
        splitter.data(b"first", &mut |cut| found.push(cut));
        splitter.hole((1 << 50) - 5, &mut |cut| found.push(cut));
        splitter.hole(123, &mut |cut| found.push(cut));
        splitter.data(b"last", &mut |cut| found.push(cut));
        splitter.hole(1 << 49, &mut |cut| found.push(cut));
        splitter.finish(&mut |cut| found.push(cut)).expect("nothing is read");
        let blocks: Vec<_> = found.iter().map(|cut| cut.spans[0].offset).collect();
        assert_eq!(blocks.len(), 2, "{rule}");
        let last = found[1].bytes.windows(4).position(|bytes| bytes == b"last").expect("the last bytes");
        assert_eq!(blocks[1] + last as u64, (1 << 50) + 123, "{rule}");
    }
}

#[test]
fn nothing_and_zeros_have_no_blocks() {
    for rule in RULES.into_iter().chain([Rule::Content, Rule::Content1]) {
        assert!(cuts(rule, &[]).is_empty());
        assert!(cuts(rule, &[0; 1]).is_empty());
        assert!(cuts(rule, &vec![0; 300_001]).is_empty());
        assert_eq!(cuts(rule, &[1])[0].bytes, [1]);
    }
}

#[test]
fn rules_are_read_and_refused() {
    assert_eq!("fixed 262144".parse(), Ok(Rule::Fixed(262_144)));
    assert_eq!("content 1".parse(), Ok(Rule::Content1));
    assert_eq!("content 2".parse(), Ok(Rule::Content));
    assert_eq!("pages 1".parse(), Ok(Rule::PAGES));
    assert_eq!("pages 1 1024".parse(), Ok(Rule::Pages(PageSize::OneKib)));
    assert_eq!("pages 1 2048".parse(), Ok(Rule::Pages(PageSize::TwoKib)));
    assert_eq!("bytes 1".parse(), Ok(Rule::Bytes));
    for size in ["0", "1", "3", "2048", "4097", "4194816", "1099511627776", "18446744073709551615"] {
        let error = format!("fixed {size}").parse::<Rule>().unwrap_err();
        let said = format!("split rule `fixed {size}`: a block has 4096 to 4194304 bytes, a multiple of 512");
        assert_eq!(error.to_string(), said);
    }
    for text in ["pages 2", "content 3", "pages 1 4096", "pages 1 512", "bytes 1 1024"] {
        let newer = text.parse::<Rule>().unwrap_err().to_string();
        let known = "`content 1`, `content 2`, `fixed BYTES`, `pages 1`, `pages 1 1024`, `pages 1 2048` and `bytes 1`";
        assert_eq!(newer, format!("split rule `{text}`: this hfl knows {known}; update hfl"));
    }
    assert!(matches!("words 1".parse::<Rule>(), Err(RuleError::Unknown(_))));
    for text in ["", "pages", "pages ", "pages  1", "pages 01", " pages 1", "pages 1 ", "PAGES 1", "fixed 4096\n"] {
        assert!(matches!(text.parse::<Rule>(), Err(RuleError::Form(_))), "{text:?}");
    }
}

#[test]
fn choices_are_read_and_refused() {
    let fixed = |bytes| Ok(Choice(Rule::Fixed(bytes)));
    assert_eq!("content".parse(), Ok(Choice(Rule::Content)));
    assert_eq!("pages".parse(), Ok(Choice(Rule::PAGES)));
    assert_eq!("pages:4k".parse(), Ok(Choice(Rule::PAGES)));
    assert_eq!("pages:1024".parse(), Ok(Choice(Rule::Pages(PageSize::OneKib))));
    assert_eq!("pages:2K".parse(), Ok(Choice(Rule::Pages(PageSize::TwoKib))));
    assert_eq!("bytes".parse(), Ok(Choice(Rule::Bytes)));
    assert_eq!("fixed".parse(), fixed(262_144));
    assert_eq!("fixed:64K".parse(), fixed(65_536));
    assert_eq!("fixed:1m".parse(), fixed(1 << 20));
    assert_eq!("fixed:4608".parse(), fixed(4608));
    let texts = [
        "",
        "Fixed",
        "pages:1",
        "pages:8K",
        "bytes:1",
        "fixed:",
        "fixed:K",
        "fixed:3k",
        "fixed:8M",
        "fixed:1e6",
        "fixed:-4096",
    ];
    for text in
        texts.into_iter().chain(["fixed:0", "fixed:4097", "fixed:99999999999999999999", "fixed:18014398509481984K"])
    {
        let error = text.parse::<Choice>().unwrap_err().to_string();
        assert!(
            ["content", "fixed:256K", "512", "pages:1K"].iter().any(|allowed| error.contains(allowed)),
            "{text}: {error}"
        );
    }
}
