//! The web pages and feeds that are published, and `hfl serve`, which shows them.

mod browser;
mod commands;
mod contents;
mod serve;
mod site;
