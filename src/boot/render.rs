//! Templates: the built-in ones, and those in a directory of the user's that go before them.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, Value};

use super::error::Error;

/// The built-in templates, by their names below the directory of templates.
const BUILT_IN: [(&str, &str); 7] = [
    ("boot/init", include_str!("../../templates/boot/init")),
    ("boot/udhcpc", include_str!("../../templates/boot/udhcpc")),
    ("boot/boot.ipxe", include_str!("../../templates/boot/boot.ipxe")),
    ("boot/kboot.conf", include_str!("../../templates/boot/kboot.conf")),
    ("boot/petitboot.conf", include_str!("../../templates/boot/petitboot.conf")),
    ("boot/pxelinux.default", include_str!("../../templates/boot/pxelinux.default")),
    ("boot/grub.cfg", include_str!("../../templates/boot/grub.cfg")),
];

/// Renders the template `name`; one of this name in `directory` goes before the built-in one.
///
/// # Errors
/// A template that cannot be read or rendered, with its line.
pub fn render(directory: Option<&Path>, name: &str, context: &Value) -> Result<String, Error> {
    let own = directory.map(|directory| directory.join(name)).filter(|file| file.exists());
    let text = match &own {
        Some(file) => std::fs::read_to_string(file).map_err(|e| Error::io(file, &e))?,
        None => {
            let built_in = BUILT_IN.iter().find(|(other, _)| *other == name);
            built_in.map(|(_, text)| (*text).to_owned()).ok_or_else(|| Error::new(format!("no template is {name}")))?
        }
    };
    let mut environment = Environment::new();
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let rendered = environment.render_named_str(name, &text, context);
    rendered.map_err(|e| {
        let shown = own.map_or_else(|| name.to_owned(), |file| file.display().to_string());
        Error::new(format!("template {shown}: {e}"))
    })
}
