//! What actors need from outside, made of what this node has.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use tokio::time::timeout;
use troupe_actors::{Actors, Probed, Prober, Published, Settings, Standing};
use troupe_cluster::seal::{NoRandom, Random};
use troupe_dialect::Dialect;
use troupe_proto::id::TargetId;

use crate::agreement::Agreement;
use crate::clock;
use crate::telemetry::metrics::{Learned, Metrics, TargetNow};
use crate::upstream::Client;
use crate::view::View;

/// What a provider may take to say that it is there.
const PROBE_FOR: Duration = Duration::from_secs(5);
/// More of an answer says nothing new.
const ANSWER_BYTES: usize = 256 << 10;

/// The settings of the supervision tree.
pub(crate) fn settings(view: &Arc<Published<View>>, metrics: &Arc<Metrics>, lanes: usize) -> Settings {
    let client = Arc::new(Client::new(metrics.clone()));
    let prober = Arc::new(ModelsProber { view: view.clone(), client });
    Settings { now: clock::now, dice: clock::dice, lanes, prober, board: None }
}

/// Where the cluster takes its random bytes from.
pub(crate) fn random() -> Random {
    Arc::new(|place| clock::fill_secret(place).map_err(|_| NoRandom))
}

/// What a scrape shows of what is learned.
pub(crate) fn learned(view: &View, actors: &Actors, agreement: &Agreement) -> Learned {
    let now = clock::now();
    let mut targets = BTreeMap::new();
    for pool in view.pools() {
        for index in 0..pool.members.len() {
            // A wildcard's name is no model's, so what comes back is what its unknown names share.
            let Some(target) = pool.cell.target(index, pool.id.as_str()) else { continue };
            let is_resting = match pool.cell.standing(index, &target, now) {
                Standing::Ready | Standing::Full { .. } => false,
                Standing::Probation | Standing::Probed | Standing::Resting { .. } => true,
            };
            let now = TargetNow { id: target.id.clone(), is_resting, in_flight: target.in_flight() };
            targets.entry(target.id.clone()).or_insert(now);
        }
    }
    let views = view.pools().map(|pool| (pool.id.clone(), pool.cell.view_age(now))).collect();
    Learned {
        vitals: Some(actors.vitals()),
        views,
        targets: targets.into_values().collect(),
        agreed: agreement.agreed(),
    }
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
            match timeout(PROBE_FOR, ask(&view, &client, &target)).await {
                Ok(probed) => probed,
                Err(_) => Probed::Dead,
            }
        })
    }
}

async fn ask(view: &View, client: &Arc<Client>, target: &TargetId) -> Probed {
    let Some(member) = view.member(&target.provider, target.credential.as_ref()) else { return Probed::Unknown };
    let provider = &member.provider;
    let Ok(uri) = provider.models_path().parse() else { return Probed::Unknown };
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
        Err(_) => Probed::Dead,
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
            verdict(head.status.as_u16())
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
