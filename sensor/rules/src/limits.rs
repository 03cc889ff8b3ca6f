//! Every bound of this crate. Rules come from a signed repo, but a mistake in one must not take a node down, and `cairn rules
//! check` reads files nobody signed.

/// Bytes of one rules file or replay file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Rules files loaded together.
pub const FILES_MAX: usize = 1_024;
/// YAML nodes of one file, counted after aliases are copied.
pub const YAML_NODES_MAX: usize = 200_000;
/// Nested YAML collections.
pub const YAML_DEPTH_MAX: usize = 32;
/// Rules in a set.
pub const RULES_MAX: usize = 10_000;
/// Bytes of one condition as written, appended parts included, macros and lists not yet put in.
pub const CONDITION_BYTES_MAX: usize = 65_536;
/// Nested parentheses and `not` of one condition, and nested macros (upstream's own limit for conditions is 100).
pub const CONDITION_DEPTH_MAX: usize = 100;
/// Checks and connectives of one rule once its macros are put in.
pub const CONDITION_NODES_MAX: usize = 20_000;
/// Errors, and warnings, said of one condition.
pub const CONDITION_ERRORS_MAX: usize = 20;
/// Values of one list, and of one `in (...)`, once lists are put in.
pub const LIST_ITEMS_MAX: usize = 65_536;
/// Values in all sets of one rule together, once lists are put in.
pub const RULE_VALUES_MAX: usize = 262_144;
/// Bytes of a regular expression's compiled program.
pub const REGEX_SIZE_MAX: usize = 1 << 20;
/// Bytes of the compiled program of regular expressions that are tried together; those that need more are tried one by one.
pub const REGEX_SET_SIZE_MAX: usize = 4 << 20;
/// Bytes of an output template.
pub const OUTPUT_BYTES_MAX: usize = 16_384;
/// Fields of an output template.
pub const OUTPUT_FIELDS_MAX: usize = 128;
/// Bytes of a list of values as an output shows it; JSON has the whole list.
pub const LIST_TEXT_BYTES_MAX: usize = 1_023;
/// Rules for what is added to outputs, and fields that one of them adds.
pub const APPEND_MAX: usize = 256;
/// Values tuples of one exception.
pub const EXCEPTION_VALUES_MAX: usize = 4_096;
/// Problems kept of one load; the rest is counted, not kept.
pub const PROBLEMS_MAX: usize = 1_000;
/// Events of one replay case.
pub const CASE_EVENTS_MAX: usize = 1_000;
/// Ancestors a process can have in a replay case, and in an alert unless the engine's limits say less.
pub const ANCESTRY_MAX: usize = 32;
/// Bytes of one body of a source that is not the kernel: an event, or several at once.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// Nested objects and arrays of a document.
pub const DOCUMENT_DEPTH_MAX: usize = 64;
/// Events in one body of a source that sends several at once.
pub const DOCUMENT_BATCH_MAX: usize = 10_000;
/// Event sources known together, built in ones included.
pub const SOURCES_MAX: usize = 64;
/// Fields of one source.
pub const SOURCE_FIELDS_MAX: usize = 1_000;
/// Paths, cases or pieces of one field of a source.
pub const SOURCE_PARTS_MAX: usize = 64;
/// Reads that one field of a source may cost, those of the fields it refers to included.
pub const SOURCE_COST_MAX: usize = 1_000;
/// Bytes of a text that a source's field puts together; a longer one is absent.
pub const SOURCE_TEXT_BYTES_MAX: usize = 65_536;
/// Bytes of a path into documents.
pub const POINTER_BYTES_MAX: usize = 1_024;
/// Steps of a path into documents.
pub const POINTER_STEPS_MAX: usize = 64;
/// Fields that tell apart what a rule over more than one event counts.
pub const STATE_FIELDS_MAX: usize = 8;
/// Bytes of one such field's value that are told apart; of a longer one the length counts besides.
pub const STATE_VALUE_BYTES_MAX: usize = 512;
/// Bytes of a sequence's first event's field that are kept for the alert.
pub const STATE_SHOWN_BYTES_MAX: usize = 1_024;
/// The largest `above` of a `count`.
pub const COUNT_ABOVE_MAX: u64 = 10_000;
/// The largest `above` of a `count` of different values.
pub const COUNT_DISTINCT_ABOVE_MAX: u64 = 1_000;
/// Stretches of a `spike`'s baseline.
pub const SPIKE_STRETCHES_MAX: u64 = 2_016;
/// The longest time a rule over more than one event may look back, in nanoseconds: 400 days.
pub const STATE_WINDOW_NS_MAX: u64 = 400 * 86_400 * 1_000_000_000;
/// Bytes that what is known of one rule's events may take, about.
pub const STATE_RULE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a snapshot of what is known of events.
pub const SNAPSHOT_BYTES_MAX: usize = 128 << 20;
/// Paths, credentials, accounts or programs of one declaration of honeytokens, each.
pub const HONEYTOKENS_MAX: usize = 1_000;

/// Reasons that are told why a rule did not match an event.
pub const TRACE_REASONS_MAX: usize = 64;
/// Bytes of a value that are shown among them.
pub const TRACE_VALUE_LEN_MAX: usize = 512;
/// Events of a capture that a replay case may have.
pub const CAPTURE_CASE_EVENTS_MAX: usize = 10_000_000;
/// Alerts of a case that are kept; all are counted.
pub const CASE_ALERTS_MAX: usize = 1_000;
/// Containers that an engine knows by what events say of them.
pub const CONTAINERS_MAX: usize = 65_536;
/// Nodes, values, words of masks and of sets of regular expressions of all compiled programs of a rule set together; rules of event types
/// whose program does not fit are tried one by one.
pub const PROGRAM_SIZE_MAX: usize = 1 << 20;
/// Words of all masks that one lookup of a program might need; more rules and values than that are tried one by one.
pub const LOOKUP_WORDS_MAX: usize = 1 << 20;
