//! The two nodes of `cairn up`: an admission server and a sensor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cairn_admission::{Admission, AdmissionConfig};
use cairn_ledger::witness::tls::Authorities;
use cairn_node::agent::{COMPARE_INTERVAL, POLL_WAIT};
use cairn_node::{Agent, AgentConfig, Identity, IdentityError, SpoolLimits, SystemRandom, join};
use cairn_schemas::data::{Inability, NodeCapabilities};
use cairn_schemas::time::Clock;
use cairn_schemas::types::NodeKind;
use cairn_schemas::wire::JoinToken;
use cairn_sensor::kernel::{self, Kernel, OBJECT, Options};
use cairn_sensor::watch::{Node, Watch};

use super::web::Web;
use crate::failure::{Failure, chain};
use crate::say;

/// Where a node lives and how it joins.
pub(super) struct Place {
    pub(super) kind: NodeKind,
    pub(super) folder: PathBuf,
    pub(super) token: JoinToken,
}

/// The running nodes.
#[derive(Default)]
pub(super) struct Nodes {
    agents: Vec<Agent>,
    watch: Option<Watch>,
}

impl Nodes {
    /// The sensor takes what lies in the ring; then both sign their last heads and send what they have.
    pub(super) fn stop(self) {
        if let Some(watch) = self.watch {
            watch.stop();
        }
        for agent in self.agents {
            if let Err(error) = agent.shutdown() {
                say::error(format_args!("error: node {}: {}", agent.identity().node(), chain(&error)));
            }
        }
    }
}

/// Joins and starts them, each with a line. Those that run when one cannot are in `nodes` all the same, to be stopped.
pub(super) fn start(
    nodes: &mut Nodes,
    places: Vec<Place>,
    web: &Web,
    authorities: &Authorities,
    clock: &Arc<dyn Clock>,
) -> Result<(), Failure> {
    for place in places {
        let labels = labels(place.kind);
        let identity = join(&place.folder, &web.url(), &place.token, place.kind, &labels, &SystemRandom)
            .map_err(|error| cannot_join(&place, &error))?;
        match place.kind {
            NodeKind::Admission => start_admission(nodes, identity, place.folder, web, authorities, clock)?,
            NodeKind::Sensor => start_sensor(nodes, identity, place.folder, web, authorities, clock)?,
            NodeKind::Local => unreachable!("`up` makes places for a sensor and an admission server only"),
        }
    }
    Ok(())
}

fn cannot_join(place: &Place, error: &IdentityError) -> Failure {
    let kind = place.kind.as_str();
    let failure = Failure::bad(format!("{kind} cannot join: {}", chain(error)));
    let spent = matches!(error, IdentityError::Refused(error) if error.status() == Some(403));
    let damaged = matches!(error, IdentityError::NotAKey { .. } | IdentityError::NotAnIdentity { .. });
    if spent || damaged {
        let folder = place.folder.display();
        return failure.hint(format!(
            "restore {folder} from a backup; or move it away with keys/join-{kind}.token, and it joins as a new node"
        ));
    }
    failure
}

fn start_admission(
    nodes: &mut Nodes,
    identity: Identity,
    folder: PathBuf,
    web: &Web,
    authorities: &Authorities,
    clock: &Arc<dyn Clock>,
) -> Result<(), Failure> {
    let node = identity.node().clone();
    let can = vec!["validate".to_owned()];
    let agent = start_agent(identity, folder, web, authorities, clock, capabilities(true, can, Vec::new()))?;
    let token_key = agent.token_key().clone();
    let admission = Admission::new(agent.watch(), agent.spool().clone(), token_key, AdmissionConfig::default());
    web.admit_with(admission.router());
    say::line(format_args!("admission: node {node}; POST {}{}", web.url(), cairn_admission::VALIDATE_PATH));
    nodes.agents.push(agent);
    Ok(())
}

fn start_sensor(
    nodes: &mut Nodes,
    identity: Identity,
    folder: PathBuf,
    web: &Web,
    authorities: &Authorities,
    clock: &Arc<dyn Clock>,
) -> Result<(), Failure> {
    let node = identity.node().clone();
    match Kernel::load(OBJECT, Options::default(), Arc::clone(clock)) {
        Ok(kernel) => {
            let can = ["exec", "fork", "exit", "open", "kill"].map(ToOwned::to_owned).to_vec();
            let release = kernel.capabilities().kernel_release.clone();
            let agent =
                start_agent(identity, folder.clone(), web, authorities, clock, capabilities(true, can, Vec::new()))?;
            let watch = Watch::start(Node::of(&agent), Box::new(kernel), Arc::clone(clock), &folder)
                .map_err(|error| Failure::bad(format!("the sensor's thread: {error}")))?;
            say::line(format_args!("sensor: node {node}; live on kernel {release}: exec, fork, exit, open"));
            nodes.watch = Some(watch);
            nodes.agents.push(agent);
        }
        Err(error) => {
            let why = chain(&error);
            let blind = ["exec", "fork", "exit", "open", "kill"]
                .map(|what| Inability { what: what.to_owned(), why: why.clone() })
                .to_vec();
            let agent = start_agent(identity, folder, web, authorities, clock, capabilities(false, Vec::new(), blind))?;
            say::line(format_args!("sensor: node {node}; not live: {why}; {}", remedy(&error)));
            nodes.agents.push(agent);
        }
    }
    Ok(())
}

fn remedy(error: &kernel::LoadError) -> String {
    match error {
        kernel::LoadError::Missing(missing) => missing.remedy(&kernel::sudo_command(own_command())),
        _ => "the rest works".to_owned(),
    }
}

/// This process's command line, with the program's own path: `sudo` may have another PATH.
pub(crate) fn own_command() -> Vec<String> {
    let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_else(|_| "cairn".to_owned());
    std::iter::once(program).chain(std::env::args().skip(1)).collect()
}

fn start_agent(
    identity: Identity,
    folder: PathBuf,
    web: &Web,
    authorities: &Authorities,
    clock: &Arc<dyn Clock>,
    capabilities: NodeCapabilities,
) -> Result<Agent, Failure> {
    let config = AgentConfig {
        folder,
        url: web.url(),
        authorities: authorities.clone(),
        capabilities,
        limits: SpoolLimits::default(),
        poll_wait: POLL_WAIT,
        compare_interval: COMPARE_INTERVAL,
        clock: Arc::clone(clock),
        random: Arc::new(SystemRandom),
    };
    let node = identity.node().clone();
    Agent::start(identity, config).map_err(|error| Failure::bad(format!("node {node}: {}", chain(&error))))
}

fn capabilities(live: bool, can: Vec<String>, cannot: Vec<Inability>) -> NodeCapabilities {
    NodeCapabilities { live, version: env!("CARGO_PKG_VERSION").to_owned(), can, cannot }
}

fn labels(kind: NodeKind) -> BTreeMap<String, String> {
    let uname = rustix::system::uname();
    [
        ("role", kind.as_str().to_owned()),
        ("cluster", "local".to_owned()),
        ("host", uname.nodename().to_string_lossy().into_owned()),
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("arch", uname.machine().to_string_lossy().into_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
