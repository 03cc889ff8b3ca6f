//! The Falco rule language: parse, check, compile, evaluate; process table and replay.
#![forbid(unsafe_code)]

pub mod container;
pub mod event;
mod text;
