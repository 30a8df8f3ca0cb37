//! What the pages and feeds say, that they say it in the same bytes each time, and that they stay small.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::site::{LABEL, Site, image, read};
use crate::support::fixture::Publish;
use crate::support::lab::{Lab, Random};

#[test]
fn each_image_has_a_page_and_the_front_page_lists_all() {
    let site = Site::new();
    let front = site.page("/index.html");
    for image in ["debian", "kiosk"] {
        assert!(front.contains(&format!("<a href=\"page/{image}.html\">{image}</a>")), "{front}");
    }
    assert!(front.contains("2 images") && front.contains("title=\"8,388,608 bytes\">8 MiB</data>"), "{front}");
    let page = site.page("/page/debian.html");
    assert!(
        page.contains("<html lang=\"en\">") && page.contains(&format!("<title>debian - Disk images at {}", site.at))
    );
    assert!(page.contains("What changed since version 2") && page.contains("What changed since version 2"), "{page}");
    // The first change touches at most 6 blocks of 64 KiB, the second one.
    assert!(page.contains(" new, 6 gone, ") || page.contains(" new, 7 gone, "), "{page}");
    assert!(page.contains("class=\"hole\" d=\"M") && page.contains("class=\"kept\" d=\"M"), "{page}");
    assert!(page.contains("The menus boot version 3 and offer version 2."), "{page}");
    assert!(!site.page("/page/kiosk.html").contains("What changed"));
    assert!(!site.page("/page/kiosk.html").contains("boot.ipxe"));
}

/// Labels are what a publisher likes to type.
#[test]
fn labels_are_text_in_pages_and_feeds() {
    let site = Site::new();
    for path in ["/index.html", "/page/debian.html"] {
        let page = site.page(path);
        assert!(!page.contains("<script") && !page.contains("<b>"), "{path}: {page}");
        assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("{{ 1 }}"), "{path}: {page}");
    }
    for (path, count) in [("/page/debian.atom", 3), ("/feed.atom", 4)] {
        let feed = site.page(path);
        let texts = parse(&feed);
        let titles = &texts["entry/title"];
        assert_eq!(titles.len(), count, "{path}");
        assert!(titles.contains(&format!("debian version 3: {LABEL}")), "{titles:?}");
        check_feed(&texts, count);
    }
}

/// The texts of a feed by the path of their element, below `feed`; fails if it is not well-formed.
fn parse(feed: &str) -> BTreeMap<String, Vec<String>> {
    let (mut reader, mut texts, mut way) = (Reader::from_str(feed), BTreeMap::<_, Vec<String>>::new(), Vec::new());
    let mut text = String::new();
    loop {
        match reader.read_event().expect("XML") {
            Event::Start(start) => {
                way.push(String::from_utf8(start.name().as_ref().to_vec()).unwrap());
                text.clear();
            }
            Event::Text(part) => text += &part.decode().unwrap(),
            Event::GeneralRef(name) => match name.resolve_char_ref().unwrap() {
                Some(character) => text.push(character),
                None => text += quick_xml::escape::resolve_predefined_entity(&name.decode().unwrap()).unwrap(),
            },
            Event::Empty(empty) => {
                for attribute in empty.attributes() {
                    let attribute = attribute.expect("an attribute");
                    let name = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                    let element = String::from_utf8(empty.name().as_ref().to_vec()).unwrap();
                    let key = format!("{}/{element}@{name}", way[1..].join("/"));
                    let value = quick_xml::escape::unescape(std::str::from_utf8(&attribute.value).unwrap()).unwrap();
                    texts.entry(key.trim_start_matches('/').to_owned()).or_default().push(value.into_owned());
                }
            }
            Event::End(_) => {
                texts.entry(way[1..].join("/")).or_default().push(std::mem::take(&mut text));
                way.pop();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(way.is_empty());
    texts
}

/// What RFC 4287 demands of a feed and its entries.
fn check_feed(texts: &BTreeMap<String, Vec<String>>, entries: usize) {
    for one in ["title", "id", "updated", "author/name"] {
        assert_eq!(texts[one].len(), 1, "{one}");
    }
    assert!(
        texts["link@rel"].contains(&"self".to_owned())
            && texts["link@href"].iter().all(|url| url.starts_with("http://"))
    );
    for each in ["entry/title", "entry/id", "entry/updated", "entry/content", "entry/link@href"] {
        assert_eq!(texts[each].len(), entries, "{each}");
    }
    let mut ids = [&texts["entry/id"][..], &texts["id"][..]].concat();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), entries + 1, "each has its own");
    assert!(ids.iter().all(|id| id.starts_with("urn:uuid:") && id.len() == 45), "{ids:?}");
    let times = &texts["entry/updated"];
    assert!(times.is_sorted_by(|a, b| a >= b) && texts["updated"][0] == times[0]);
}

/// Pages of a mirror, and when each was written.
fn pages(lab: &Lab, mirror: &str) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let is_page = |file: &String| file.ends_with(".html") || file.ends_with(".atom") || file.ends_with(".css");
    let files = lab.files(mirror).into_iter().filter(is_page);
    let read = |file: String| {
        let path = lab.path(mirror).join(&file);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        (file, (fs::read(path).unwrap(), written))
    };
    files.map(read).collect()
}

#[test]
fn the_same_heads_give_the_same_pages_and_what_is_there_is_not_written_again() {
    let lab = Lab::with_mirrors(&["a"]);
    for (name, version) in [("one", 1), ("one", 2), ("two", 3)] {
        lab.write("os.img", image(version));
        lab.publish(&["os.img", "--name", name]);
    }
    let before = pages(&lab, "a");
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["feed.atom", "hfl.css", "index.html", "page/one.atom", "page/one.html", "page/two.atom", "page/two.html"]
    );
    // Nothing changed, also where the head is made again because it expires.
    lab.publish(&["os.img", "--name", "two"]);
    assert_eq!(pages(&lab, "a"), before);
    lab.publish(&["os.img", "--name", "two", "--expires", "30"]);
    lab.write("os.img", image(2));
    lab.publish(&["os.img", "--name", "one", "--expires", "30"]);
    assert!(pages(&lab, "a") == before, "the front page does not depend on which image came last");
    // A mirror that comes later gets the same bytes, without the image at hand.
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", toml + "[[mirror]]\nname = \"b\"\nwrite = \"./b\"\n");
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    let bytes = |mirror| pages(&lab, mirror).into_iter().map(|(file, (bytes, _))| (file, bytes)).collect::<Vec<_>>();
    assert!(bytes("a") == bytes("b"));
    assert!(read(&lab, "b", "page/one.html").contains("What changed since version 1"));
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
}

#[test]
fn a_dry_run_knows_which_pages_are_written() {
    let lab = Lab::with_mirrors(&["a"]);
    for version in 1..=2 {
        lab.write("os.img", image(version));
        let files = |report: serde_json::Value| report["mirrors"][0]["files"].clone();
        let expected = files(lab.publish(&["os.img", "--dry-run"]));
        assert_eq!(files(lab.publish(&["os.img"])), expected, "version {version}");
    }
}

#[test]
fn pages_of_long_histories_and_many_images_stay_small() {
    let lab = Lab::with_mirrors(&["a"]);
    fs::create_dir(lab.path("a")).unwrap();
    let names: Vec<String> = (0..700).map(|i| format!("image{i:04}")).collect();
    for name in &names {
        Publish { image: name, ..Publish::default() }.write(&lab.path("a"), b"x");
    }
    for version in 1..=300 {
        Publish { image: "os", version, ..Publish::default() }.write(&lab.path("a"), &version.to_le_bytes());
    }
    fs::write(lab.path("a/images"), names.iter().map(|name| format!("{name}\n")).collect::<String>() + "os\n").unwrap();
    lab.write("os.img", Random(9).bytes(100_000));
    let started = std::time::Instant::now();
    lab.publish(&["os.img", "--unsigned"]);
    println!("published beside {} images, after 300 versions: {:.1?}", names.len(), started.elapsed());
    for (file, limit) in
        [("index.html", 200_000), ("page/os.html", 60_000), ("feed.atom", 40_000), ("page/os.atom", 40_000)]
    {
        let page = read(&lab, "a", file);
        println!("{file}: {} bytes", page.len());
        assert!(page.len() < limit, "{file}: {} bytes", page.len());
    }
    assert!(read(&lab, "a", "index.html").contains("and 201 more"));
    assert!(read(&lab, "a", "page/os.html").contains("and 201 older"));
    assert_eq!(parse(&read(&lab, "a", "feed.atom"))["entry/id"].len(), 50);
}

/// The template of the page as it was before each image had its own.
const OLD: &str = "<title>{{ image }}</title>{% for v in versions %}<td>{{ v.version }} {{ v.created }} {{ v.size }} \
    {{ v.new_bytes }} {{ v.label or \"\" }}{% endfor %}{% if key %}{{ key }}{% endif %}{% for f in files %}{{ f.path }} \
    {{ f.bytes }} {{ f.sha256 }}{% endfor %}{% for i in images %}[{{ i }}]{% endfor %}{% for m in mirrors %}{{ m }}\
    {% endfor %}{{ hfl }}";

#[test]
fn templates_of_users_take_the_place_of_the_built_in_ones() {
    let lab = Lab::with_mirrors(&["a"]);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("[publish]\ntemplates = \"own\"\n{toml}"));
    lab.write("own/index.html", OLD);
    lab.write("own/layout.html", "{% block title %}{% endblock %}|{% block content %}{% endblock %}|mine");
    lab.write("os.img", image(1));
    lab.publish(&["os.img", "--name", "one", "--label", "a<b"]);
    lab.publish(&["os.img", "--name", "two"]);
    let front = read(&lab, "a", "index.html");
    assert!(
        front.contains("<title>two</title>") && front.contains(" 4194304 ") && front.contains("[one][two]"),
        "{front}"
    );
    let page = read(&lab, "a", "page/one.html");
    assert!(page.starts_with("one - Disk images|") && page.ends_with("|mine") && page.contains("a&lt;b"), "{page}");
    lab.write("os.img", image(2));
    for (file, text, words) in [
        ("own/image.html", "\n{{ nothing }}", "own/image.html"),
        ("own/layout.html", "\n{% if %}", "own/layout.html"),
        ("own/image.html", "{{ image", "own/image.html"),
    ] {
        lab.write(file, text);
        let said = lab.fails(1, &["publish", "os.img", "--name", "one", "--to", "mirrors.toml"]);
        assert!(said.contains("template ") && said.contains(words), "{said}");
        fs::remove_file(lab.path(file)).unwrap();
    }
    assert_eq!(read(&lab, "a", "page/one.html"), page, "nothing was switched");
}
