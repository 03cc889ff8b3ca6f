//! `cairn rules list`, `fields` and `events`: what `falco -L`, `falco --list` and `falco --list-events` tell.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_rules::event::EventType;
use cairn_rules::{Sources, Supply, compiled_condition, field_documentation, load};
use clap::Args;
use serde_json::{Value, json};

use super::files::Files;
use crate::failure::Failure;
use crate::say;

/// List the rules of rules files: name, priority, whether enabled, and what each is for.
#[derive(Args)]
pub(crate) struct ListArguments {
    /// Rules files, or folders of them, loaded together in this order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON, with each rule's condition as written and with all it refers to put in, its fields and event types
    #[arg(long)]
    json: bool,
}

/// List the fields that conditions and outputs may use.
#[derive(Args)]
pub(crate) struct FieldsArguments {
    /// Those of one source alone: syscall, k8s_audit, aws_cloudtrail, ...
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Rules files that declare sources of their own
    #[arg(long = "rules", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// List the event types that conditions may name, with their arguments.
#[derive(Args)]
pub(crate) struct EventsArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn rules(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let files = Files::read(&arguments.files)?;
    let files = files.all();
    let loaded = load(&files);
    if !loaded.is_ok() {
        let count = loaded.errors().count();
        return Err(Failure::bad(format!("the rules have {count} error(s)")).hint("see `cairn rules check`"));
    }
    let disabled = loaded.rules.disabled();
    if arguments.json {
        let enabled = loaded.rules.rules().iter().map(|rule| {
            json!({
                "info": {
                    "name": rule.name,
                    "description": rule.description,
                    "condition": rule.condition_text,
                    "output": rule.output,
                    "priority": rule.priority.as_str(),
                    "source": rule.source,
                    "tags": rule.tags,
                    "enabled": true,
                },
                "details": {
                    "condition_compiled": compiled_condition(&files, &rule.name),
                    "condition_fields": rule.fields,
                    "events": rule.event_types,
                },
                "blind_fields": rule.blind_fields,
                "file": rule.file,
                "line": rule.line,
            })
        });
        let disabled = disabled.iter().map(|name| json!({ "info": { "name": name, "enabled": false } }));
        let rules: Vec<Value> = enabled.chain(disabled).collect();
        say::line(format_args!("{:#}", json!({ "rules": rules })));
        return Ok(ExitCode::SUCCESS);
    }
    for rule in loaded.rules.rules() {
        say::line(format_args!("{} [{}]", rule.name, rule.priority.as_str()));
        say::line(format_args!("  {}", rule.description.split_whitespace().collect::<Vec<_>>().join(" ")));
        say::line(format_args!("  {}:{}", rule.file, rule.line));
    }
    for name in disabled {
        say::line(format_args!("{name} [not enabled]"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A field as it is listed.
struct Field {
    source: String,
    name: String,
    kind: &'static str,
    doc: String,
    supplied: bool,
}

pub(super) fn fields(arguments: &FieldsArguments) -> Result<ExitCode, Failure> {
    let files = Files::read(&arguments.files)?;
    let loaded = load(&files.all());
    let all = all_fields(loaded.rules.sources());
    let is_wanted = |field: &Field| arguments.source.as_ref().is_none_or(|source| *source == field.source);
    let known: Vec<&str> = loaded.rules.sources().iter().map(|source| source.name()).collect();
    if let Some(source) = arguments.source.as_deref().filter(|source| !known.contains(source)) {
        let failure = Failure::unknown(format!("there is no source `{source}`"));
        return Err(failure.hint(format!("sources are: {}", known.join(", "))));
    }
    let wanted = all.iter().filter(|field| is_wanted(field));
    if arguments.json {
        let listed = wanted.map(|field| {
            json!({
                "source": field.source, "name": field.name, "type": field.kind, "desc": field.doc, "supplied": field.supplied
            })
        });
        say::line(format_args!("{:#}", json!(listed.collect::<Vec<Value>>())));
        return Ok(ExitCode::SUCCESS);
    }
    let mut source = "";
    for field in wanted {
        if field.source != source {
            source = &field.source;
            say::line(format_args!("source {source}"));
        }
        let mark = if field.supplied { "" } else { " (not supplied: checks on it are false)" };
        say::line(format_args!("  {} ({}){mark}", field.name, field.kind));
        if !field.doc.is_empty() {
            say::line(format_args!("      {}", field.doc));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all_fields(sources: &Sources) -> Vec<Field> {
    let supply = Supply::sensor();
    let mut all = Vec::new();
    for source in sources.iter() {
        if source.is_kernel() {
            all.extend(field_documentation().into_iter().map(|field| Field {
                source: source.name().to_owned(),
                supplied: supply.has_field(&field.name),
                name: field.name,
                kind: field.kind,
                doc: field.doc.to_owned(),
            }));
            continue;
        }
        all.extend(source.fields().map(|field| Field {
            source: source.name().to_owned(),
            name: field.name,
            kind: field.kind,
            doc: field.doc,
            supplied: field.supplied,
        }));
    }
    all
}

pub(super) fn events(arguments: &EventsArguments) -> Result<ExitCode, Failure> {
    let supply = Supply::sensor();
    if arguments.json {
        let listed = EventType::all().map(|event| {
            let params = event.params().iter().map(|param| json!({ "name": param.name, "type": param.kind }));
            json!({
                "name": event.name(),
                "category": event.category(),
                "syscall": event.is_syscall(),
                "supplied": supply.has_event(event),
                "params": params.collect::<Vec<Value>>(),
            })
        });
        say::line(format_args!("{:#}", json!(listed.collect::<Vec<Value>>())));
        return Ok(ExitCode::SUCCESS);
    }
    for event in EventType::all() {
        let params: Vec<String> = event.params().iter().map(|param| format!("{} {}", param.kind, param.name)).collect();
        let mark = if supply.has_event(event) { "" } else { " (not supplied)" };
        say::line(format_args!("{}({}){mark}", event.name(), params.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}
