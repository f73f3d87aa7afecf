//! Whether this caller may make this call, and which pool it means.

use std::sync::Arc;

use troupe_proto::failure::ErrorCode;

use super::refusal::Refusal;
use crate::view::{Key, Pool, View};

/// Finds the pool behind a model's name.
///
/// # Errors
/// `model_forbidden` for a model outside the key's, `model_not_found` with near names for one that is not configured.
/// What a key may not use is not told apart from what does not exist, in the names that are offered.
pub(crate) fn admit(view: &View, key: &Key, model: &str) -> Result<Arc<Pool>, Refusal> {
    let pool = view.pool(model);
    match (pool, key.may_use(model)) {
        (Some(pool), true) => Ok(pool.clone()),
        (Some(_), false) => {
            let message = format!("the API key {:?} may not use the model {model:?}", key.id);
            Err(Refusal::new(ErrorCode::ModelForbidden, message).with_param(Some("model".to_owned())))
        }
        (None, _) => {
            let near = view.near_names(model, key);
            let hint = match near.as_slice() {
                [] => String::new(),
                names => format!("; did you mean {}?", names.join(", ")),
            };
            let message = format!("the model {model:?} does not exist{hint}");
            Err(Refusal::new(ErrorCode::ModelNotFound, message).with_param(Some("model".to_owned())))
        }
    }
}
