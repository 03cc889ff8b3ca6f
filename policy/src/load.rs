//! From files to a policy: everything that a build, a pull request's checks and a node's dry load must agree on, found in one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_guardrails::Guardrails;
use cairn_rules::replay::{self, Attachment, Case};
use cairn_rules::source::Intake;
use cairn_rules::{AppendMatch, AppendOutput, ExtraField, Matching, Priority, RuleSet, RulesFile};
use cairn_schemas::config::{self, AppendConfig, CONFIG_VERSION, PolicyConfig, RINGS_MAX, ResponseFile};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::limits::RESPONSES_MAX;
use crate::problem::{Problem, Problems};
use crate::tree::{self, CONFIG_PATH, PolicyTree};
use crate::yaml;

/// A policy that loads: every file of it parsed, checked against the others, compiled. Its tests have not run
/// ([`Policy::test`] does).
#[derive(Debug, Clone)]
pub struct Policy {
    /// `cairn.yaml`.
    pub config: PolicyConfig,
    /// `detections/`, compiled.
    pub rules: Arc<RuleSet>,
    /// `guardrails/`, checked.
    pub guardrails: Guardrails,
    /// `responses/`, ordered by file name.
    pub responses: Vec<ResponseFile>,
    /// What does not stop a policy, and should be known: a rule that cannot see what it asks for, files not acted on yet.
    pub warnings: Vec<Problem>,
    pub(crate) cases: Vec<Case>,
}

impl Policy {
    /// Loads a policy from its files. Files that are not policy ([`tree::is_policy_path`]) are ignored.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn load(files: &PolicyTree) -> Result<Self, Problems> {
        let mut problems = tree::check(files);
        // A tree that is too large is not parsed.
        Problems::check(std::mem::take(&mut problems))?;
        let mut warnings = Vec::new();
        let rules = load_rules(files, &mut problems, &mut warnings);
        let config = load_config(files, &rules, &mut problems);
        let rules = at_least(rules, config.as_ref());
        let guardrails = load_guardrails(files, &mut problems);
        let responses = load_responses(files, &rules, &mut problems);
        let cases = load_cases(files, &mut problems);
        let rules = appended(rules, config.as_ref(), &mut problems);
        carried(files, &mut problems, &mut warnings);
        Problems::check(problems)?;
        let (Some(config), Some(guardrails)) = (config, guardrails) else {
            unreachable!("invariant: what did not load left a problem");
        };
        warnings.sort();
        let rules = rules.with_matching(matching(config.detections.matching));
        Ok(Self { config, rules: Arc::new(rules), guardrails, responses, warnings, cases })
    }

    /// Runs its rules over events that come from outside, from sources that are not the kernel.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake::new(Arc::clone(&self.rules))
    }
}

/// The YAML files of a folder, those of `except` left out.
pub(crate) fn yaml_files<'a>(
    files: &'a PolicyTree,
    folder: &'a str,
    except: Option<&'a str>,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    files
        .iter()
        .filter(move |(path, _)| {
            path.starts_with(folder)
                && (path.ends_with(".yaml") || path.ends_with(".yml"))
                && !except.is_some_and(|except| path.starts_with(except))
        })
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
}

// === cairn.yaml ===

/// The places of what is checked in `cairn.yaml`.
#[derive(Deserialize)]
struct ConfigPlaces {
    version: Spanned<u64>,
    rings: Vec<RingPlaces>,
    #[serde(default)]
    detections: DetectionsPlaces,
    #[serde(default)]
    privacy: PrivacyPlaces,
}

#[derive(Default, Deserialize)]
struct DetectionsPlaces {
    priority: Option<Spanned<String>>,
    #[serde(default)]
    append_output: Vec<AppendPlaces>,
}

#[derive(Deserialize)]
struct AppendPlaces {
    r#match: Option<MatchPlaces>,
}

#[derive(Deserialize)]
struct MatchPlaces {
    rule: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
struct PrivacyPlaces {
    #[serde(default)]
    personal_fields: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
struct RingPlaces {
    name: Spanned<String>,
}

fn load_config(files: &PolicyTree, rules: &RuleSet, problems: &mut Vec<Problem>) -> Option<PolicyConfig> {
    let Some(bytes) = files.get(CONFIG_PATH) else {
        problems.push(
            Problem::of_file(CONFIG_PATH, "the policy repo has no cairn.yaml at its root")
                .hint("`cairn init DIR` makes a policy repo to start from"),
        );
        return None;
    };
    let config: PolicyConfig = yaml::one(CONFIG_PATH, bytes).map_err(|problem| problems.push(problem)).ok()?;
    let places: ConfigPlaces = yaml::one(CONFIG_PATH, bytes).map_err(|problem| problems.push(problem)).ok()?;
    if config.version != CONFIG_VERSION {
        let reason = format!("version {} is not known; this program reads version {CONFIG_VERSION}", config.version);
        problems.push(Problem::at(CONFIG_PATH, yaml::place(&places.version), reason));
    }
    problems.extend(ring_problems(&config, &places));
    problems.extend(detections_problems(&places.detections, rules));
    problems.extend(privacy_problems(&places.privacy, rules));
    Some(config)
}

/// A misspelt priority would drop every rule or none, a misspelt rule would be added to nothing.
fn detections_problems(places: &DetectionsPlaces, rules: &RuleSet) -> Vec<Problem> {
    let unknown = places.priority.as_ref().and_then(|word| Some((word, word.value.parse::<Priority>().err()?)));
    let named = places.append_output.iter().filter_map(|entry| entry.r#match.as_ref()?.rule.as_ref());
    let named = named.filter(|rule| !rules.disabled().contains(&rule.value));
    let unknown = unknown.map(|(word, error)| Problem::at(CONFIG_PATH, yaml::place(word), error.to_string()));
    unknown.into_iter().chain(named.filter_map(|rule| rule_problem(CONFIG_PATH, rule, rules))).collect()
}

/// The rules that matter enough.
fn at_least(rules: RuleSet, config: Option<&PolicyConfig>) -> RuleSet {
    match config.and_then(|config| config.detections.priority.as_ref()?.parse().ok()) {
        Some(priority) => rules.at_least(priority),
        None => rules,
    }
}

/// The rules with what is added to their outputs.
fn appended(rules: RuleSet, config: Option<&PolicyConfig>, problems: &mut Vec<Problem>) -> RuleSet {
    let Some(config) = config else { return rules };
    let entries: Vec<AppendOutput> = config.detections.append_output.iter().map(append_output).collect();
    rules.append_output(&entries).unwrap_or_else(|error| {
        problems.push(Problem::of_file(CONFIG_PATH, error.to_string()));
        RuleSet::default()
    })
}

fn append_output(config: &AppendConfig) -> AppendOutput {
    let AppendConfig { r#match, extra_output, extra_fields, suggested_output } = config.clone();
    AppendOutput {
        r#match: AppendMatch { source: r#match.source, rule: r#match.rule, tags: r#match.tags },
        extra_output,
        extra_fields: extra_fields.into_iter().map(ExtraField::Raw).collect(),
        suggested_output,
    }
}

fn ring_problems(config: &PolicyConfig, places: &ConfigPlaces) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(last) = config.rings.len().checked_sub(1) else {
        let problem = Problem::of_file(CONFIG_PATH, "there is no ring, so a release could go nowhere");
        return vec![problem.hint("the smallest policy has `rings: [{name: all}]`")];
    };
    if config.rings.len() > RINGS_MAX {
        let reason = format!("{} rings, more than {RINGS_MAX}", config.rings.len());
        problems.push(Problem::of_file(CONFIG_PATH, reason));
    }
    for name in yaml::repeated(places.rings.iter().map(|ring| &ring.name)) {
        problems.push(Problem::at(CONFIG_PATH, yaml::place(name), format!("two rings are named `{}`", name.value)));
    }
    for (number, (ring, place)) in config.rings.iter().zip(&places.rings).enumerate() {
        let place = yaml::place(&place.name);
        if number < last && ring.nodes.is_empty() {
            let reason = format!("ring `{}` takes every node, so the rings after it never get one", ring.name);
            problems.push(
                Problem::at(CONFIG_PATH, place, reason).hint("select its nodes by labels, as `nodes: {role: sensor}`"),
            );
        }
        if number == last && !ring.nodes.is_empty() {
            let reason = format!("the last ring, `{}`, must take every node that is left", ring.name);
            problems.push(
                Problem::at(CONFIG_PATH, place, reason)
                    .hint("give it `nodes: {}`, or add a ring after it; a node in no ring would never get a release"),
            );
        }
    }
    problems
}

/// A misspelt field would leave nodes in the clear.
fn privacy_problems(places: &PrivacyPlaces, rules: &RuleSet) -> Vec<Problem> {
    if places.personal_fields.is_empty() {
        return Vec::new();
    }
    let base = |name: &str| name.split('[').next().unwrap_or_default().to_owned();
    let mut known: BTreeSet<String> =
        cairn_rules::field_documentation().iter().map(|field| base(&field.name)).collect();
    known.extend(rules.sources().iter().flat_map(|source| source.fields()).map(|field| base(&field.name)));
    let unknown = places.personal_fields.iter().filter(|field| !known.contains(&base(&field.value)));
    unknown
        .map(|field| {
            let reason = format!("there is no field `{}`, so it would hide nothing", field.value);
            Problem::at(CONFIG_PATH, yaml::place(field), reason)
                .hint("name a field of the rule language, such as `proc.cwd`")
        })
        .collect()
}

// === guardrails ===

fn load_guardrails(files: &PolicyTree, problems: &mut Vec<Problem>) -> Option<Guardrails> {
    let mut sources: Vec<(&str, &str)> = Vec::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("guardrails/")) {
        match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("rego") => match yaml::text(path, bytes) {
                Ok(text) => sources.push((path, text)),
                Err(problem) => problems.push(problem),
            },
            // A guardrail that is not enforced must not look as if it were.
            Some("yaml" | "yml" | "json") => problems.push(
                Problem::of_file(path, "only .rego files are evaluated as guardrails; this file would have no effect")
                    .hint("write it in Rego, or move the file out of guardrails/"),
            ),
            _ => {}
        }
    }
    match Guardrails::load(&sources) {
        Ok(guardrails) => Some(guardrails),
        Err(found) => {
            problems.extend(found.into_iter().map(Problem::from));
            None
        }
    }
}

// === detections ===

/// Where replay cases lie.
pub(crate) const CASES_FOLDER: &str = "detections/tests/";

/// What else lies there: logs and captures that cases name.
const ATTACHED: [&str; 5] = [".jsonl", ".jsonl.zst", ".scap", ".scap.gz", ".scap.zst"];

fn load_rules(files: &PolicyTree, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> RuleSet {
    let mut texts = Vec::new();
    // Falco reads its files in the order of their names, and later ones change what earlier ones define.
    for (path, bytes) in yaml_files(files, "detections/", Some(CASES_FOLDER)) {
        match yaml::text(path, bytes) {
            Ok(text) => texts.push(RulesFile { path, text }),
            Err(problem) => problems.push(problem),
        }
    }
    let loaded = cairn_rules::load(&texts);
    problems.extend(loaded.errors().map(Problem::from));
    warnings.extend(loaded.warnings().map(Problem::from));
    loaded.rules
}

fn matching(configured: config::Matching) -> Matching {
    match configured {
        config::Matching::All => Matching::All,
        config::Matching::First => Matching::First,
    }
}

fn load_cases(files: &PolicyTree, problems: &mut Vec<Problem>) -> Vec<Case> {
    let mut texts = Vec::new();
    for (path, bytes) in yaml_files(files, CASES_FOLDER, None) {
        match yaml::text(path, bytes) {
            Ok(text) => texts.push(RulesFile { path, text }),
            Err(problem) => problems.push(problem),
        }
    }
    let attachments: Vec<Attachment<'_>> = files
        .iter()
        .filter(|(path, _)| {
            path.starts_with(CASES_FOLDER) && ATTACHED.iter().any(|extension| path.ends_with(extension))
        })
        .map(|(path, bytes)| Attachment { path, bytes })
        .collect();
    let parsed = replay::parse_with(&texts, &attachments);
    problems.extend(parsed.problems.iter().map(Problem::from));
    parsed.cases
}

// === responses ===

/// The places of what is checked in a response.
#[derive(Deserialize)]
struct ResponsePlaces {
    name: Spanned<String>,
    on: TriggerPlaces,
}

#[derive(Deserialize)]
struct TriggerPlaces {
    rules: Vec<Spanned<String>>,
}

fn load_responses(files: &PolicyTree, rules: &RuleSet, problems: &mut Vec<Problem>) -> Vec<ResponseFile> {
    let mut responses = Vec::new();
    let mut named: BTreeMap<String, &str> = BTreeMap::new();
    for (path, bytes) in yaml_files(files, "responses/", None) {
        let read = yaml::one::<ResponseFile>(path, bytes)
            .and_then(|file| Ok((file, yaml::one::<ResponsePlaces>(path, bytes)?)));
        let (response, places) = match read {
            Ok(read) => read,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let name_place = yaml::place(&places.name);
        if response.name.trim().is_empty() {
            problems.push(Problem::at(path, name_place, "the response has no name"));
        } else if let Some(first) = named.insert(response.name.clone(), path) {
            problems.push(Problem::at(path, name_place, format!("{first} is named `{}` too", response.name)));
        }
        if response.on.rules.is_empty() {
            let problem = Problem::at(path, name_place, format!("response `{}` names no rule", response.name));
            problems.push(problem.hint("name the detections that trigger it under `on.rules`"));
        }
        problems.extend(places.on.rules.iter().filter_map(|rule| rule_problem(path, rule, rules)));
        responses.push(response);
    }
    if responses.len() > RESPONSES_MAX {
        let reason = format!("{} responses, more than {RESPONSES_MAX}", responses.len());
        problems.push(Problem::of_file("responses", reason));
    }
    responses
}

fn rule_problem(path: &str, name: &Spanned<String>, rules: &RuleSet) -> Option<Problem> {
    if rules.rule(&name.value).is_some() {
        return None;
    }
    let place = yaml::place(name);
    if rules.disabled().contains(&name.value) {
        let reason = format!("the rule `{}` is disabled, so it never triggers this", name.value);
        return Some(Problem::at(path, place, reason));
    }
    let known = rules.rules().iter().map(|rule| rule.name.as_str());
    let similar = known.clone().find(|known| known.eq_ignore_ascii_case(name.value.trim()));
    let hint = match similar {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("the rules in detections/ are: {}", known.take(20).collect::<Vec<_>>().join(", ")),
    };
    Some(Problem::at(path, place, format!("there is no rule `{}`", name.value)).hint(hint))
}

// === what is carried and not yet acted on ===

fn carried(files: &PolicyTree, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let owners = files.get_key_value("owners.yaml").map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let of = |folder| yaml_files(files, folder, None);
    for (path, bytes) in of("controls/").chain(of("exceptions/")).chain(owners) {
        let read = yaml::text(path, bytes).and_then(|text| yaml::documents(path, text));
        match read {
            Err(problem) => problems.push(problem),
            Ok(_) if path.starts_with("exceptions/") => warnings.push(Problem::of_file(
                path,
                "carried in the release; this version does not act on exceptions, so nothing is exempted",
            )),
            Ok(_) if path.starts_with("controls/") => {
                warnings
                    .push(Problem::of_file(path, "carried in the release; this version does not evaluate controls"));
            }
            Ok(_) => {}
        }
    }
}
