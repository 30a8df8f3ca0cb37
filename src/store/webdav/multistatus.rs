//! The response to PROPFIND: a `multistatus` document (RFC 4918, section 14.16), parsed as far as listings need it.
//!
//! It is untrusted input: nesting depth, text length and the number of resources are limited. A document type and its
//! entities are refused, and a truncated document is an error, not a short listing.

use quick_xml::events::Event;
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

/// Real responses are nested six deep.
const DEPTH_MAX: usize = 16;
/// Enough for a percent-encoded repository path behind a long base URL.
const TEXT_MAX_BYTES: usize = 4096;
/// More than any real collection here: blocks are spread over 256 of them.
const RESOURCES_MAX: usize = 1 << 20;

/// One resource in the response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resource {
    /// Its URL or absolute path, as the server wrote it.
    pub href: String,
    /// Whether it is a collection.
    pub collection: bool,
    /// Size in bytes, if the server reports it.
    pub bytes: Option<u64>,
}

/// Why a response is invalid.
#[derive(Debug, thiserror::Error)]
pub(super) enum XmlError {
    #[error("its listing is no XML: {0}")]
    Syntax(String),
    #[error("its listing is no WebDAV multistatus document")]
    Other,
    #[error("its listing ends in the middle")]
    Short,
    #[error("its listing has a document type, which none needs")]
    DocumentType,
    #[error("its listing nests elements more than {DEPTH_MAX} deep")]
    Deep,
    #[error("its listing has a text of more than {TEXT_MAX_BYTES} bytes")]
    Long,
    #[error("its listing has more than {RESOURCES_MAX} resources in one collection")]
    Many,
}

/// The elements that matter, all in the namespace `DAV:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Multistatus,
    Response,
    Href,
    Propstat,
    Prop,
    ResourceType,
    Collection,
    Length,
    Other,
}

impl Tag {
    fn of(namespace: &ResolveResult<'_>, local: &[u8]) -> Self {
        if *namespace != ResolveResult::Bound(Namespace(b"DAV:")) {
            return Self::Other;
        }
        match local {
            b"multistatus" => Self::Multistatus,
            b"response" => Self::Response,
            b"href" => Self::Href,
            b"propstat" => Self::Propstat,
            b"prop" => Self::Prop,
            b"resourcetype" => Self::ResourceType,
            b"collection" => Self::Collection,
            b"getcontentlength" => Self::Length,
            _ => Self::Other,
        }
    }
}

/// Parses a whole response.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Resource>, XmlError> {
    let mut reader = NsReader::from_reader(body);
    reader.config_mut().expand_empty_elements = true;
    let mut document = Document::default();
    loop {
        let (namespace, event) = reader.read_resolved_event().map_err(syntax)?;
        match event {
            Event::Start(start) => document.open(Tag::of(&namespace, start.local_name().as_ref()))?,
            Event::End(_) => document.close()?,
            Event::Text(text) => document.text(&text.decode().map_err(syntax)?)?,
            Event::CData(text) => document.text(&text.decode().map_err(syntax)?)?,
            Event::GeneralRef(name) => match name.resolve_char_ref().map_err(syntax)? {
                Some(char) => document.text(char.encode_utf8(&mut [0; 4]))?,
                None => document.entity(&name.decode().map_err(syntax)?)?,
            },
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Eof => return document.end(),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn syntax(error: impl std::fmt::Display) -> XmlError {
    XmlError::Syntax(error.to_string())
}

/// Parser state.
#[derive(Debug, Default)]
struct Document {
    open: Vec<Tag>,
    text: String,
    resource: Resource,
    resources: Vec<Resource>,
    complete: bool,
}

impl Document {
    fn open(&mut self, tag: Tag) -> Result<(), XmlError> {
        if self.open.is_empty() && (tag != Tag::Multistatus || self.complete) {
            return Err(XmlError::Other);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(XmlError::Deep);
        }
        self.open.push(tag);
        self.text.clear();
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        if !matches!(self.open.last(), Some(Tag::Href | Tag::Length)) {
            return Ok(());
        }
        if self.text.len() + text.len() > TEXT_MAX_BYTES {
            return Err(XmlError::Long);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn entity(&mut self, name: &str) -> Result<(), XmlError> {
        let known = quick_xml::escape::resolve_predefined_entity(name);
        self.text(known.ok_or_else(|| XmlError::Syntax(format!("unknown entity `{}`", name.escape_debug())))?)
    }

    fn close(&mut self) -> Result<(), XmlError> {
        use Tag::{Collection, Href, Length, Multistatus, Prop, Propstat, ResourceType, Response};
        match self.open[..] {
            [Multistatus, Response, Href] => self.resource.href = self.text.trim().to_owned(),
            [Multistatus, Response, Propstat, Prop, ResourceType, Collection] => self.resource.collection = true,
            // A property that the server does not have is an empty element.
            [Multistatus, Response, Propstat, Prop, Length] if !self.text.trim().is_empty() => {
                self.resource.bytes = self.text.trim().parse().ok();
            }
            [Multistatus, Response] if self.resources.len() == RESOURCES_MAX => return Err(XmlError::Many),
            [Multistatus, Response] => self.resources.push(std::mem::take(&mut self.resource)),
            [Multistatus] => self.complete = true,
            _ => {}
        }
        self.open.pop();
        Ok(())
    }

    fn end(self) -> Result<Vec<Resource>, XmlError> {
        match (self.complete, self.open.is_empty()) {
            (true, _) => Ok(self.resources),
            (false, true) => Err(XmlError::Other),
            (false, false) => Err(XmlError::Short),
        }
    }
}
