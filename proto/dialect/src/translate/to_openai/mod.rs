//! Reshapes a message's request to what OpenAI's chat completions can say.

mod messages;
mod params;
mod parts;

use super::shaping::{Shaped, Shaping};
use super::{Context, RequestOptions, TranslateError};
use crate::call::{Call, TokenLimit};
use crate::{Dialect, Operation};

pub(super) fn shape(mut call: Call, options: &RequestOptions<'_>) -> Result<Shaped, TranslateError> {
    let mut shaping = Shaping::new(options.drop_params);
    let asked = std::mem::replace(&mut call.model, options.model.to_owned());
    call.max_tokens = call.max_tokens.map(|limit| TokenLimit { tokens: limit.tokens, name: options.token_limit });
    call.stream = Some(options.stream);
    // The end of our client's stream carries token counts, so we always ask for them.
    call.include_usage = options.stream.then_some(true);

    let mut names = parts::Names::default();
    params::shape_tools(&mut call, &mut names, &mut shaping)?;
    let system = call.system.take();
    call.messages = messages::shape(system, std::mem::take(&mut call.messages), &mut names, &mut shaping)?;
    params::shape(&mut call, options, &mut shaping)?;
    call.dialect = Dialect::OpenAi;
    let context = Context {
        client: Operation::Messages,
        upstream: Dialect::OpenAi,
        model: asked,
        created: options.created,
        stream: options.stream,
        include_usage: true,
        legacy_functions: false,
        tool_names: names.into_renamed(),
    };
    Ok(Shaped { call, lost: shaping.lost.into_vec(), context })
}
