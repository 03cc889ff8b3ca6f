//! The writer without its threads, over a disk that fails.
