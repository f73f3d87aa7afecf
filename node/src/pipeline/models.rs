//! The models a key may use, as each dialect lists them.

use http::{HeaderMap, HeaderValue, Response, header};
use troupe_dialect::Dialect;
use troupe_dialect::models::{self, Entry, Page};
use troupe_proto::failure::ErrorCode;

use super::admit::admit;
use super::refusal::Refusal;
use super::{Visit, enter};
use crate::ingress::ReplyBody;

/// Who owns a model is nobody's business but the operator's; SDKs want the member.
const OWNER: &str = "troupe";

/// Answers a list of models, or with `id` the one of that name.
///
/// # Errors
/// Those of entering, and `model_not_found`.
pub(crate) async fn models(
    dialect: Dialect,
    id: Option<&str>,
    headers: &HeaderMap,
    query: Option<&str>,
    visit: &mut Visit,
) -> Result<Response<ReplyBody>, Refusal> {
    let (view, key) = enter(headers, visit).await?;
    let entry = |id| Entry { id, created: 0, owned_by: OWNER };
    let body = match id {
        Some(id) => {
            admit(&view, &key, id)?;
            models::one(dialect, &entry(id))
        }
        None => {
            let query = Query::read(query);
            let page =
                Page { limit: query.limit()?, after_id: query.get("after_id"), before_id: query.get("before_id") };
            let names = view.model_names();
            let entries: Vec<_> = names.into_iter().filter(|name| key.may_use(name)).map(entry).collect();
            models::list(dialect, &entries, &page)
        }
    };
    let mut response = Response::new(ReplyBody::whole(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The parameters of a URL.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: Option<&str>) -> Self {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn limit(&self) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.get("limit") else { return Ok(None) };
        let limit = text.parse().ok().filter(|limit| (1..=1000).contains(limit));
        limit.map(Some).ok_or_else(|| {
            Refusal::new(ErrorCode::InvalidField, "limit: expected a number from 1 to 1000")
                .with_param(Some("limit".to_owned()))
        })
    }
}
