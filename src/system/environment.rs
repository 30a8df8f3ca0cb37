//! Environment variables of this process.

/// The value of a variable; `None` if it is not set, an error if it is not UTF-8.
pub fn variable(name: &str) -> Option<Result<String, ()>> {
    Some(std::env::var_os(name)?.into_string().map_err(|_| ()))
}
