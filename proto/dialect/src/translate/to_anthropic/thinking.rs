//! How much the model thinks: OpenAI's one word, Anthropic's budget or effort.

use crate::call::{Call, Extra, Part, Role, ThinkingMode, ThinkingRule, ToolRule};
use crate::translate::shaping::Shaping;
use crate::translate::{RequestOptions, TranslateError};

/// The least budget Anthropic takes.
const BUDGET_MIN: u64 = 1024;

/// Models that take sampling parameters think within a budget of tokens; newer ones adaptively, by effort.
pub(super) fn shape(
    call: &mut Call,
    max_tokens: u64,
    options: &RequestOptions<'_>,
    shaping: &mut Shaping,
) -> Result<(), TranslateError> {
    let Some(word) = call.effort.take() else { return Ok(()) };
    let budget = match word.as_str() {
        "none" => {
            if !options.sampling_allowed {
                call.thinking = Some(mode(ThinkingRule::Disabled));
            }
            return Ok(());
        }
        "minimal" => BUDGET_MIN,
        "low" => 2_048,
        "medium" => 8_192,
        "high" => 16_384,
        "xhigh" => 24_576,
        "max" => 32_768,
        _ => {
            let problem = "must be one of none, minimal, low, medium, high, xhigh, max";
            return Err(TranslateError::invalid_field("reasoning_effort", problem));
        }
    };
    let forced = call.tool_choice.as_ref().is_some_and(|choice| match choice.rule {
        ToolRule::Required | ToolRule::Tool(_) => true,
        ToolRule::Auto | ToolRule::None | ToolRule::Other(_) => false,
    });
    if !options.sampling_allowed {
        if word == "minimal" {
            shaping.lost.changed("reasoning_effort");
        }
        call.effort = Some(if word == "minimal" { "low".to_owned() } else { word });
        // A forced tool rules thinking out; effort alone still counts.
        call.thinking = (!forced).then(|| mode(ThinkingRule::Adaptive));
        return Ok(());
    }
    let room = max_tokens.saturating_sub(1);
    if forced || room < BUDGET_MIN || calls_without_thoughts(call) {
        shaping.lost.dropped("reasoning_effort");
        return Ok(());
    }
    call.thinking = Some(mode(ThinkingRule::Enabled { budget: budget.min(room) }));
    Ok(())
}

fn mode(rule: ThinkingRule) -> ThinkingMode {
    ThinkingMode { rule, extra: Extra::new() }
}

/// With a budget, Anthropic wants the turn that tools are now answering to begin with its signed thought, which chat
/// clients cannot carry.
fn calls_without_thoughts(call: &Call) -> bool {
    let last = call.messages.iter().rfind(|message| message.role == Role::Assistant);
    last.is_some_and(|message| message.content.parts.iter().any(|part| matches!(part, Part::ToolCall(_))))
}
