//! Reshapes a chat completion's request to what Anthropic's wire can say.

mod messages;
mod params;
mod parts;
mod thinking;
mod tools;

use super::shaping::{Shaped, Shaping};
use super::{Context, RequestOptions, TranslateError};
use crate::call::{Call, TokenLimit, TokenLimitName};
use crate::{Dialect, Operation};

pub(super) fn shape(mut call: Call, options: &RequestOptions<'_>) -> Result<Shaped, TranslateError> {
    let mut shaping = Shaping::new(options.drop_params);
    let context = Context {
        client: Operation::Chat,
        upstream: Dialect::Anthropic,
        model: std::mem::replace(&mut call.model, options.model.to_owned()),
        created: options.created,
        stream: options.stream,
        include_usage: call.include_usage.take().unwrap_or(false),
        legacy_functions: std::mem::take(&mut call.legacy_functions),
        tool_names: Vec::new(),
    };
    let max_tokens = call.max_tokens.map_or(options.max_tokens_default, |limit| limit.tokens);
    call.max_tokens = Some(TokenLimit { tokens: max_tokens, name: TokenLimitName::default() });
    call.stream = Some(options.stream);

    let (system, turns) = messages::shape(std::mem::take(&mut call.messages), &mut shaping)?;
    (call.system, call.messages) = (system, turns);
    tools::shape(&mut call, &context, &mut shaping)?;
    params::shape(&mut call, &mut shaping)?;
    thinking::shape(&mut call, max_tokens, options, &mut shaping)?;
    params::shape_sampling(&mut call, options, &mut shaping);
    call.dialect = Dialect::Anthropic;
    Ok(Shaped { call, lost: shaping.lost.into_vec(), context })
}
