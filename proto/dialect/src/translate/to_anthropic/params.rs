//! Parameters, from OpenAI's words to Anthropic's.

use serde_json::{Number, Value};

use crate::call::{Call, Extra, Format, ThinkingRule};
use crate::translate::shaping::{Shaping, is_blank, says_nothing};
use crate::translate::{RequestOptions, TranslateError};

pub(super) fn shape(call: &mut Call, shaping: &mut Shaping) -> Result<(), TranslateError> {
    shape_format(call, shaping)?;
    if let Some(stop) = &mut call.stop {
        // Anthropic refuses stop texts of white space alone.
        let before = stop.texts.len();
        stop.texts.retain(|text| !is_blank(text));
        if stop.texts.len() < before {
            shaping.lost.dropped("stop");
        }
        stop.bare = false;
    }
    call.stop.take_if(|stop| stop.texts.is_empty());
    let mut kept = Extra::new();
    for (key, value) in std::mem::take(&mut call.extra) {
        if !says_nothing(&value) {
            shape_member(&key, value, &mut kept, &mut call.user, shaping)?;
        }
    }
    call.extra = kept;
    Ok(())
}

/// Decides about one member the canonical form has no word for.
fn shape_member(
    key: &str,
    value: Value,
    kept: &mut Extra,
    user: &mut Option<String>,
    shaping: &mut Shaping,
) -> Result<(), TranslateError> {
    match (key, value) {
        ("n", value) if value != 1 => shaping.refuse("n")?,
        ("logprobs", Value::Bool(true)) => shaping.refuse("logprobs")?,
        ("top_logprobs", value) if value != 0 => shaping.refuse("top_logprobs")?,
        ("modalities", Value::Array(list)) if list.iter().all(|kind| kind == "text") => {}
        ("modalities", _) => shaping.refuse("modalities")?,
        ("audio", _) => shaping.refuse("audio")?,
        ("web_search_options", _) => shaping.refuse("web_search_options")?,
        ("functions", _) => shaping.refuse("functions")?,
        ("function_call", _) => shaping.refuse("function_call")?,
        ("response_format", Value::Object(rest)) if !rest.contains_key("type") => {
            shaping.lost.extra("response_format", &rest);
        }
        ("response_format", _) => shaping.refuse("response_format")?,
        ("stream_options", Value::Object(rest)) => shaping.lost.extra("stream_options", &rest),
        // Defaults, spelled out: nothing is lost with them.
        ("n" | "top_logprobs", _) | ("logprobs" | "store", Value::Bool(false)) => {}
        ("frequency_penalty" | "presence_penalty", Value::Number(number)) if is(&number, 0.0) => {}
        ("safety_identifier", Value::String(identifier)) => {
            // The newer name of `user` wins where both are given.
            if user.replace(identifier).is_some() {
                shaping.lost.dropped("user");
            }
        }
        ("service_tier", Value::String(tier)) => match tier.as_str() {
            "auto" => {
                kept.insert("service_tier".to_owned(), "auto".into());
            }
            "default" => {
                kept.insert("service_tier".to_owned(), "standard_only".into());
            }
            _ => shaping.lost.dropped("service_tier"),
        },
        (key, value) => shaping.lose("", key, value),
    }
    Ok(())
}

fn shape_format(call: &mut Call, shaping: &mut Shaping) -> Result<(), TranslateError> {
    match &mut call.format {
        None => {}
        Some(Format::Text) => call.format = None,
        Some(Format::JsonObject) => {
            call.format = None;
            shaping.refuse("response_format.json_object")?;
        }
        Some(Format::JsonSchema(schema)) => {
            if schema.name.take().is_some() {
                shaping.lost.dropped("response_format.json_schema.name");
            }
            if schema.description.take().is_some() {
                shaping.lost.dropped("response_format.json_schema.description");
            }
            // Anthropic always holds the output to the schema.
            if schema.strict.take() == Some(false) {
                shaping.lost.changed("response_format.json_schema.strict");
            }
            shaping.lost.extra("response_format.json_schema", &std::mem::take(&mut schema.extra));
            if schema.schema.is_none() {
                let param = "response_format.json_schema.schema";
                return Err(TranslateError::invalid_field(param, "is required by the model's provider"));
            }
        }
    }
    Ok(())
}

/// Fits temperature and nucleus to the target; runs after thinking is decided, which narrows both.
pub(super) fn shape_sampling(call: &mut Call, options: &RequestOptions<'_>, shaping: &mut Shaping) {
    let thinks = call.thinking.as_ref().is_some_and(|mode| match mode.rule {
        ThinkingRule::Enabled { .. } | ThinkingRule::Adaptive | ThinkingRule::BetweenTools => true,
        ThinkingRule::Disabled | ThinkingRule::Other(_) => false,
    });
    if !options.sampling_allowed || thinks {
        if call.temperature.take().is_some_and(|temperature| !is(&temperature, 1.0)) {
            shaping.lost.dropped("temperature");
        }
    } else if call.temperature.as_ref().and_then(Number::as_f64).is_some_and(|temperature| temperature > 1.0) {
        call.temperature = Some(1.into());
        shaping.lost.changed("temperature");
    }
    let narrow = |top_p: &Number| top_p.as_f64().is_some_and(|top_p| top_p < 0.95);
    if (!options.sampling_allowed || (thinks && call.top_p.as_ref().is_some_and(narrow)))
        && call.top_p.take().is_some_and(|top_p| !is(&top_p, 1.0))
    {
        shaping.lost.dropped("top_p");
    }
}

/// Whether a number is the given one, which a 64-bit float holds exactly.
fn is(number: &Number, other: f64) -> bool {
    number.as_f64().is_some_and(|number| number.total_cmp(&other).is_eq())
}
