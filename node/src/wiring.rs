//! What actors need from outside, made of what this node has.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use tokio::time::timeout;
use troupe_actors::{Actors, Belief, CutOff, HealthBoard, Probed, Prober, Published, Settings, Standing, Target};
use troupe_cluster::seal::{NoRandom, Random};
use troupe_cluster::{Handle, State};
use troupe_dialect::Dialect;
use troupe_proto::health::Scope;
use troupe_proto::id::{NodeId, ProviderId, TargetId};

use crate::admin::explain::{self, NodeBelief};
use crate::admin::{BreakerReport, Targets, TestReport, millis};
use crate::clock;
use crate::house::House;
use crate::telemetry::metrics::{Learned, Metrics, TargetNow};
use crate::troubles::Trouble;
use crate::upstream::Client;
use crate::view::{Member, View};

/// What a provider may take to say that it is there.
const PROBE_FOR: Duration = Duration::from_secs(5);
/// More of an answer says nothing new.
const ANSWER_BYTES: usize = 256 << 10;

/// The settings of the supervision tree.
pub(crate) fn settings(
    view: &Arc<Published<View>>,
    metrics: &Arc<Metrics>,
    lanes: usize,
    board: Option<Arc<dyn HealthBoard>>,
) -> Settings {
    let client = Arc::new(Client::new(metrics.clone()));
    let prober = Arc::new(ModelsProber { view: view.clone(), client });
    Settings { now: clock::now, dice: clock::dice, lanes, prober, board }
}

/// Where the cluster takes its random bytes from.
pub(crate) fn random() -> Random {
    Arc::new(|place| clock::fill_secret(place).map_err(|_| NoRandom))
}

/// What a scrape shows of what is learned.
pub(crate) fn learned(house: &House) -> Learned {
    let House { actors, agreement, health, .. } = house;
    let (now, view) = (clock::now(), house.view.read());
    let mut targets = BTreeMap::new();
    for pool in view.pools() {
        for index in 0..pool.members.len() {
            // A wildcard's name is no model's, so what comes back is what its unknown names share.
            let Some(target) = pool.cell.target(index, pool.id.as_str()) else { continue };
            let is_resting = match pool.cell.standing(index, &target, now) {
                Standing::Ready | Standing::Full { .. } => false,
                Standing::Probation | Standing::Probed | Standing::Resting { .. } => true,
            };
            let is_told = target.report(now).is_told;
            let now = TargetNow { id: target.id.clone(), is_resting, is_told, in_flight: target.in_flight() };
            targets.entry(target.id.clone()).or_insert(now);
        }
    }
    let views = view.pools().map(|pool| (pool.id.clone(), pool.cell.view_age(now))).collect();
    Learned {
        vitals: Some(actors.vitals()),
        views,
        targets: targets.into_values().collect(),
        is_ready: health.readyz(false).0.is_success(),
        checks: health.checks().iter().map(|check| (check.name, check.is_well)).collect(),
        hearsay: actors.hearsay(),
        probes: actors.probes(),
        agreed: agreement.agreed(),
    }
}

/// Takes this node out of rotation while it reaches none of its providers and another node does, and says why.
pub(crate) async fn watch_uplink(house: Arc<House>) {
    let mut cut_off = house.actors.cut_off();
    loop {
        let told = cut_off.borrow_and_update().as_ref().map(|cut_off| cut_off_text(cut_off, &house));
        house.health.troubles().set(Trouble::CutOff, told, clock::now());
        if cut_off.changed().await.is_err() {
            return;
        }
    }
}

fn cut_off_text(CutOff { providers, witness }: &CutOff, house: &House) -> String {
    let names: Vec<&str> = providers.iter().map(ProviderId::as_str).collect();
    let witness = name_of(*witness, &house.agreement.handle().state());
    format!(
        "nobody answers this node at {}, and node {witness} is answered there: it is unready until a probe of its own is \
         answered; look at its network, its DNS and its proxy",
        names.join(", ")
    )
}

fn name_of(node: NodeId, state: &State) -> String {
    state.members().get(&node).map_or_else(|| node.to_string(), |member| member.name.clone())
}

/// Tells the other nodes that targets are to forget why they rest.
pub(crate) type TellReset = Box<dyn Fn(&Scope) + Send + Sync>;

/// The targets of this node, for operators.
pub(crate) struct LiveTargets {
    view: Arc<Published<View>>,
    actors: Actors,
    cluster: Handle,
    client: Arc<Client>,
    /// Tells the other nodes of a reset.
    tell: Option<TellReset>,
}

impl LiveTargets {
    pub(crate) fn new(house: &House, cluster: Handle, tell: Option<TellReset>) -> Self {
        let client = Arc::new(Client::new(house.metrics.clone()));
        Self { view: house.view.clone(), actors: house.actors.clone(), cluster, client, tell }
    }
}

impl Targets for LiveTargets {
    fn breakers(&self) -> Vec<BreakerReport> {
        let now = clock::now();
        let state = self.cluster.state();
        let report = |target: Arc<Target>| {
            let report = target.report(now);
            let (breaker, ends) = match report.standing {
                Standing::Ready | Standing::Full { .. } => ("closed", None),
                Standing::Probation | Standing::Probed => ("probation", None),
                Standing::Resting { until, .. } => ("rests", Some(millis(until.saturating_duration_since(now)))),
            };
            let beliefs = beliefs(&self.actors, &state, &target);
            BreakerReport {
                target: target.id.to_string(),
                state: breaker.to_owned(),
                rests_for: report.why.map(|why| why.as_str().to_owned()),
                rest_ends_in_ms: ends,
                is_told: report.is_told,
                failures: report.failures,
                streak: report.streak,
                nodes: beliefs.iter().map(explain::node_report).collect(),
            }
        };
        let off = |target: TargetId| BreakerReport { state: "disabled".to_owned(), ..BreakerReport::closed(&target) };
        let mut reports: Vec<BreakerReport> = self.actors.targets().into_iter().map(report).collect();
        reports.extend(self.view.read().off().into_iter().map(off));
        reports.sort_by(|a, b| a.target.cmp(&b.target));
        reports
    }

    fn reset(&self, scope: &Scope) -> usize {
        let meant = self.actors.reset(scope);
        if let Some(tell) = self.tell.as_ref().filter(|_| meant > 0) {
            tell(scope);
        }
        meant
    }

    fn test(&self, provider: &ProviderId) -> BoxFuture<'static, Option<Vec<TestReport>>> {
        let (view, client, provider) = (self.view.read(), self.client.clone(), provider.clone());
        Box::pin(async move {
            let members = view.members_of(&provider);
            let tested = join_all(members.into_iter().map(|member| test(member, &client))).await;
            (!tested.is_empty()).then_some(tested)
        })
    }
}

/// Tries one key of a provider.
async fn test(member: &Member, client: &Arc<Client>) -> TestReport {
    let began = clock::now();
    let asked = match timeout(PROBE_FOR, ask(member, client)).await {
        Ok(asked) => asked,
        Err(_) => Asked { probed: Probed::Dead, status: None, problem: Some("no answer within 5 s".to_owned()) },
    };
    TestReport {
        key: member.credential.as_ref().map(|credential| credential.id.to_string()),
        finding: asked.probed.as_str().to_owned(),
        status: asked.status,
        problem: asked.problem,
        url: member.provider.endpoint.address_of(&member.provider.models_path()),
        took_ms: millis(clock::now().saturating_duration_since(began)),
    }
}

/// What other nodes believe of a target, by their names.
pub(crate) fn beliefs(actors: &Actors, state: &State, target: &Target) -> Vec<NodeBelief> {
    let named = |belief: Belief| NodeBelief { node: name_of(belief.node, state), belief };
    actors.beliefs(target).into_iter().map(named).collect()
}

/// Asks providers for their list of models: a real request with the real credential, and it costs nothing.
struct ModelsProber {
    view: Arc<Published<View>>,
    client: Arc<Client>,
}

impl Prober for ModelsProber {
    fn probe(&self, target: &TargetId) -> Pin<Box<dyn Future<Output = Probed> + Send>> {
        let (view, client, target) = (self.view.read(), self.client.clone(), target.clone());
        Box::pin(async move {
            let Some(member) = view.member(&target.provider, target.credential.as_ref()) else {
                return Probed::Unknown;
            };
            match timeout(PROBE_FOR, ask(member, &client)).await {
                Ok(asked) => asked.probed,
                Err(_) => Probed::Dead,
            }
        })
    }
}

/// What became of the question.
struct Asked {
    probed: Probed,
    status: Option<u16>,
    problem: Option<String>,
}

async fn ask(member: &Member, client: &Arc<Client>) -> Asked {
    let provider = &member.provider;
    let Ok(uri) = provider.models_path().parse() else {
        return Asked { probed: Probed::Unknown, status: None, problem: None };
    };
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if provider.dialect == Dialect::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    headers.extend(provider.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(credential) = &member.credential {
        headers.insert(credential.header.clone(), credential.value.clone());
    }
    match client.send(&provider.id, &provider.endpoint, Box::new(request), member.limits.connect).await {
        Err(error) => Asked { probed: Probed::Dead, status: None, problem: Some(error.to_string()) },
        Ok(response) => {
            let (head, mut body) = response.into_parts();
            // Read to its end, or its connection would be of no further use.
            let mut read = 0;
            while let Some(Ok(chunk)) = body.chunk().await {
                read += chunk.len();
                if read > ANSWER_BYTES {
                    break;
                }
            }
            let status = head.status.as_u16();
            Asked { probed: verdict(status), status: Some(status), problem: None }
        }
    }
}

/// What an answer's status says.
const fn verdict(status: u16) -> Probed {
    match status {
        200..=299 => Probed::Alive,
        401 | 403 => Probed::CredentialRefused,
        // It answers, but has no such list, or no time for it. Whether its models answer too, a call has to find out.
        _ => Probed::Answers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_speaks_for_the_credential() {
        for (status, probed) in [
            (200, Probed::Alive),
            (401, Probed::CredentialRefused),
            (403, Probed::CredentialRefused),
            (404, Probed::Answers),
            (429, Probed::Answers),
            (500, Probed::Answers),
            (529, Probed::Answers),
        ] {
            assert_eq!(verdict(status), probed, "{status}");
        }
    }
}
