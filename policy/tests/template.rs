//! The template is a policy that loads, passes its own tests, covers every rule, and lets its own examples pass.

use cairn_guardrails::Limits;
use cairn_policy::check::{self, InputFile};
use cairn_policy::{Policy, template};
use cairn_schemas::config::ResponseMode;

fn policy() -> Policy {
    Policy::load(&template::tree()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn it_loads_without_a_warning() {
    let policy = policy();
    assert_eq!(policy.warnings, []);
    assert_eq!(policy.config.rings.iter().map(|ring| ring.name.to_string()).collect::<Vec<_>>(), ["canary", "broad"]);
    let rules: Vec<_> = policy.rules.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        rules,
        [
            "Shell in container",
            "Read of a kubeconfig",
            "Honeytoken opened",
            "Program started from a world-writable folder"
        ]
    );
    let guardrails: Vec<_> = policy.guardrails.guardrails().iter().map(|guardrail| guardrail.id.as_str()).collect();
    assert_eq!(
        guardrails,
        [
            "kubernetes.latest.deny_latest",
            "kubernetes.privileged.deny_privileged",
            "kubernetes.run_as_non_root.deny_root"
        ]
    );
}

#[test]
fn it_passes_its_tests_and_they_cover_every_rule() {
    let report = policy().test();
    assert!(report.accepted(), "{report}");
    assert_eq!(report.coverage.uncovered, [], "{report}");
    assert_eq!(report.coverage_percent(), 100);
    assert_eq!(report.coverage.total, 7);
    assert!(report.passed >= 30, "{report}");
}

#[test]
fn a_newcomer_kills_nothing() {
    let policy = policy();
    assert_eq!(policy.responses.len(), 2);
    assert!(policy.responses.iter().all(|response| response.mode == ResponseMode::Observe));
}

#[test]
fn its_examples_pass_its_guardrails() {
    let examples: Vec<InputFile> = template::files()
        .iter()
        .filter(|(path, _)| path.starts_with("examples/"))
        .map(|(path, bytes)| InputFile { name: (*path).to_owned(), text: String::from_utf8(bytes.to_vec()).unwrap() })
        .collect();
    assert!(!examples.is_empty());
    let report = check::check(&policy().guardrails, &examples, &Limits::default());
    assert!(report.passed(), "{report}");
}

#[test]
fn a_bad_pod_is_denied_with_what_to_do() {
    let request = serde_json::json!({
        "uid": "1", "operation": "CREATE", "userInfo": { "username": "eve" },
        "object": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" }, "spec": { "containers": [
            { "name": "app", "image": "nginx", "securityContext": { "privileged": true } }
        ] } }
    });
    let verdict = policy().guardrails.evaluate_admission(&request, &Limits::default()).unwrap();
    let messages: Vec<_> = verdict.denials.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "Pod web: container 'app' uses image 'nginx' without a fixed version; give it a tag other than 'latest', or better a digest",
            "Pod web: container 'app' must not be privileged; remove securityContext.privileged and add the capabilities it needs one by one",
            "Pod web: container 'app' may run as root; set securityContext.runAsNonRoot: true on the pod or on the container",
        ]
    );
}

#[test]
fn the_readme_names_every_kind_of_file() {
    let files = template::files();
    let readme =
        files.iter().find(|(path, _)| *path == "README.md").map(|(_, bytes)| String::from_utf8_lossy(bytes)).unwrap();
    for part in [
        "cairn.yaml",
        "guardrails/",
        "detections/",
        "detections/tests/",
        "responses/",
        "runbooks/",
        "owners.yaml",
        "examples/",
    ] {
        assert!(readme.contains(part), "{part}");
        assert!(files.iter().any(|(path, _)| path.starts_with(part)), "{part}");
    }
    assert!(files.iter().any(|(path, _)| *path == ".github/workflows/cairn.yml"));
    // Runbooks that rules point to exist.
    for rule in policy().rules.rules() {
        let runbook = rule.description.split_whitespace().find(|word| word.starts_with("runbooks/")).unwrap();
        assert!(files.iter().any(|(path, _)| *path == runbook.trim_end_matches('.')), "{runbook}");
    }
}
