//! The limits of a policy tree.

/// Most bytes of all files of a policy together: release content, 16 MiB.
pub const CONTENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most files of a policy.
pub const FILES_MAX: usize = 4096;

/// Largest file of a policy, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Most responses of a policy.
pub const RESPONSES_MAX: usize = 256;

/// Largest file that `cairn check` reads, in bytes.
pub const CHECKED_FILE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most documents that `cairn check` reads from one file.
pub const CHECKED_DOCUMENTS_MAX: usize = 10_000;

/// Deepest nesting of a YAML document.
pub const YAML_DEPTH_MAX: usize = 64;

/// Most nodes of `cairn.yaml` or a response, aliases counted as what they stand for.
pub const CONFIG_NODES_MAX: usize = 10_000;

/// Most nodes of any other YAML file, aliases counted as what they stand for.
pub const YAML_NODES_MAX: usize = 500_000;

/// Most nodes that aliases of one YAML file may stand for together.
pub const YAML_ALIASED_NODES_MAX: usize = 50_000;

/// Most problems reported at once; the rest are counted.
pub const PROBLEMS_MAX: usize = 200;
