//! The pages in Chromium: they fit phones and desktops, can be read in both colour schemes, and lead somewhere.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::site::Site;
use crate::support::browser::Browser;
use crate::support::lab::or_skip;

/// Pairs of texts and backgrounds whose contrast is below what WCAG 2 demands at level AA of texts of any size.
const CONTRAST: &str = r#"
const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
const channel = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : Math.pow((c + 0.055) / 1.055, 2.4); };
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const low = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let count = 0;
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
  if (!text || !e.getClientRects().length) continue;
  count += 1;
  const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(ratio.toFixed(2) + ': ' + text);
}
return { low, count };
"#;
/// How wide the page is, how wide the window, and what sticks out.
const WIDTH: &str = "
const wide = document.documentElement.clientWidth;
const isShown = (e) => e.clientWidth > 1;
const out = [...document.querySelectorAll('body *')].filter(isShown).filter((e) =>
  e.getBoundingClientRect().right > wide + 0.5 || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible');
return { scroll: document.documentElement.scrollWidth, wide, out: out.map((e) => e.tagName + ' ' + e.textContent.slice(0, 60)) };
";
/// What would be copied of each block of commands, and what is in it.
const COPIES: &str = "
const copies = [...document.querySelectorAll('pre')].filter((e) => e.getClientRects().length).map((e) => {
  getSelection().selectAllChildren(e);
  return [getSelection().toString(), e.textContent];
});
getSelection().removeAllRanges();
return copies;
";
const LINKS: &str = "
return [...document.querySelectorAll('[href]')].map((e) => e.href);
";
/// Tables without a caption, and headers without a scope; what a page must have once.
const OUTLINE: &str = "
const all = (selector) => [...document.querySelectorAll(selector)];
return { tables: all('table').length, bare: all('table').filter((t) => !t.caption).length,
  unscoped: all('th:not([scope])').length, h1: all('h1').length, lang: document.documentElement.lang, title: document.title,
  scripts: all('script').length, errors: all('bdi b, bdi script').length };
";

/// Where pictures are kept.
fn pictures() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages")
}

fn open(browser: &Browser, site: &Site, path: &str) {
    browser.open(&format!("http://{}{path}", site.at));
    browser.run("document.querySelectorAll('details').forEach((e) => e.open = true)");
}

#[test]
fn pages_fit_can_be_read_and_lead_somewhere() {
    let Some(browser) = or_skip(Browser::start()) else { return };
    let (site, mut links) = (Site::new(), BTreeSet::new());
    for (path, name) in [("/", "index"), ("/page/debian.html", "debian"), ("/page/kiosk.html", "kiosk")] {
        open(&browser, &site, path);
        for (width, is_dark) in [(360, false), (1280, true), (1280, false), (360, true)] {
            browser.set(width, is_dark);
            let scheme = if is_dark { "dark" } else { "light" };
            let shown = format!("{name}-{width}-{scheme}");
            browser.picture(&pictures().join(format!("{shown}.png")));
            let fits = browser.run(WIDTH);
            assert!(fits["scroll"] == fits["wide"] && fits["wide"] == width, "{shown}: {fits}");
            assert_eq!(fits["out"], Value::Array(Vec::new()), "{shown}");
            let contrast = browser.run(CONTRAST);
            assert_eq!(contrast["low"], Value::Array(Vec::new()), "{shown}");
            assert!(contrast["count"].as_u64().unwrap() > 15, "{shown}: {contrast}");
            for copy in browser.run(COPIES).as_array().unwrap() {
                assert_eq!(copy[0].as_str().unwrap().trim_end(), copy[1].as_str().unwrap().trim_end(), "{shown}");
            }
        }
        check_outline(&browser.run(OUTLINE), path);
        links.extend(browser.run(LINKS).as_array().unwrap().iter().map(|link| link.as_str().unwrap().to_owned()));
    }
    println!("pictures: {}", pictures().display());
    let own = format!("http://{}", site.at);
    let checked: Vec<&str> = links.iter().filter_map(|link| link.strip_prefix(&own)).collect();
    for link in &checked {
        assert_eq!(site.get(link).status, 200, "{link}");
    }
    println!("{} links lead somewhere", checked.len());
    assert!(
        checked.len() > 20 && links.iter().all(|link| link.starts_with(&own) || link.starts_with("data:")),
        "{links:?}"
    );
}

fn check_outline(outline: &Value, path: &str) {
    assert!(outline["tables"].as_u64().unwrap() > 0, "{path}: {outline}");
    for none in ["bare", "unscoped", "scripts", "errors"] {
        assert_eq!(outline[none], 0, "{path}: {none}");
    }
    assert_eq!((&outline["h1"], &outline["lang"]), (&1.into(), &"en".into()), "{path}");
    assert!(outline["title"].as_str().unwrap().contains("Disk images at "), "{path}: {outline}");
}
