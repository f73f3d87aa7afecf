//! Translates streams: one decoder, one encoder, and between them what the two wires understand differently.

use troupe_proto::outcome::Usage;

use super::reply::{call_id_for_anthropic, finish_for_anthropic, finish_for_openai};
use super::shaping::PARAGRAPH;
use super::{Context, StreamError};
use crate::call::Extra;
use crate::delta::Delta;
use crate::loss::{Loss, Losses};
use crate::reply::Finish;
use crate::{Dialect, anthropic, openai};

/// What one event did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Something a reader sees was appended.
    pub content: bool,
    /// The end of both wires was reached; later events are ignored.
    pub end: bool,
}

/// Translates one stream.
#[derive(Debug)]
pub struct StreamTranslator {
    context: Context,
    machine: Machine,
    /// Steps of the event at hand; kept to be used again.
    deltas: Vec<Delta>,
    calls: u32,
    /// Whether any text came, and whether a call came after the last of it.
    said: bool,
    behind_call: bool,
    refused: bool,
    usage: Option<Usage>,
    finish: Option<Finish>,
    lost: Losses,
}

#[derive(Debug)]
enum Machine {
    ToChat { decoder: anthropic::stream::Decoder, encoder: openai::chat::stream::Encoder },
    ToMessages { decoder: openai::chat::stream::Decoder, encoder: anthropic::stream::Encoder },
}

impl StreamTranslator {
    /// A translator that has seen nothing.
    pub fn new(context: Context) -> Self {
        let machine = match context.upstream {
            Dialect::Anthropic => {
                let style = openai::chat::stream::Style {
                    created: context.created,
                    include_usage: context.include_usage,
                    legacy_functions: context.legacy_functions,
                };
                let encoder = openai::chat::stream::Encoder::new(style);
                Machine::ToChat { decoder: anthropic::stream::Decoder::default(), encoder }
            }
            Dialect::OpenAi => Machine::ToMessages {
                decoder: openai::chat::stream::Decoder::default(),
                encoder: anthropic::stream::Encoder::default(),
            },
        };
        Self {
            context,
            machine,
            deltas: Vec::new(),
            calls: 0,
            said: false,
            behind_call: false,
            refused: false,
            usage: None,
            finish: None,
            lost: Losses::default(),
        }
    }

    /// Feeds one upstream event and appends the client's events that follow from it, each complete.
    ///
    /// # Errors
    /// See [`StreamError`]. Nothing of the event at hand is appended then, and the translator is of no more use.
    pub fn event(&mut self, name: Option<&str>, data: &[u8], out: &mut Vec<u8>) -> Result<Step, StreamError> {
        let mut deltas = std::mem::take(&mut self.deltas);
        deltas.clear();
        match &mut self.machine {
            Machine::ToChat { decoder, .. } => decoder.event(name, data, &mut deltas)?,
            Machine::ToMessages { decoder, .. } => decoder.event(data, &mut deltas)?,
        }
        self.write(deltas, out)
    }

    /// The upstream ended without trouble: appends what the client's wire still needs.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] when the upstream's own end was not seen; nothing is appended then.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        let mut deltas = Vec::new();
        match &mut self.machine {
            Machine::ToChat { decoder, .. } => decoder.finish()?,
            Machine::ToMessages { decoder, .. } => decoder.finish(&mut deltas)?,
        }
        self.write(deltas, out).map(|_| ())
    }

    /// Token counts so far, if any were reported.
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether the upstream's own end was seen.
    pub const fn finished(&self) -> bool {
        match &self.machine {
            Machine::ToChat { decoder, .. } => decoder.is_finished(),
            Machine::ToMessages { decoder, .. } => decoder.is_finished(),
        }
    }

    /// What the reply lost so far.
    pub fn lost(&self) -> &[Loss] {
        self.lost.as_slice()
    }

    /// Why the answer ended, once that is known.
    pub const fn finish_reason(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    fn write(&mut self, mut deltas: Vec<Delta>, out: &mut Vec<u8>) -> Result<Step, StreamError> {
        let mut step = Step::default();
        let before = out.len();
        for delta in deltas.drain(..) {
            step.end |= delta == Delta::End;
            let delta = self.adapt(delta);
            let content = delta.is_content();
            let written = out.len();
            match &mut self.machine {
                Machine::ToChat { encoder, .. } => encoder.delta(delta, out),
                Machine::ToMessages { encoder, .. } => {
                    encoder.delta(delta, out).inspect_err(|_| out.truncate(before))?;
                }
            }
            step.content |= content && out.len() > written;
        }
        self.deltas = deltas;
        Ok(step)
    }

    /// A reader of this wire joins all text, wherever the calls stood: one that follows a call begins a paragraph.
    fn text_for_openai(&mut self, text: String) -> String {
        let begins = !text.is_empty() && std::mem::take(&mut self.behind_call);
        if begins {
            self.lost.changed("content.text");
        }
        let follows = begins && self.said;
        self.said |= !text.is_empty();
        if follows { format!("{PARAGRAPH}{text}") } else { text }
    }

    /// Puts one step into the words of the client's wire, and notes what is lost.
    fn adapt(&mut self, delta: Delta) -> Delta {
        let to_chat = matches!(self.machine, Machine::ToChat { .. });
        match delta {
            Delta::Start { id, model } => {
                let model = if model.is_empty() { self.context.model.clone() } else { model };
                let id = if id.is_empty() && !to_chat { "msg_unknown".to_owned() } else { id };
                Delta::Start { id, model }
            }
            Delta::Text(text) => Delta::Text(if to_chat { self.text_for_openai(text) } else { text }),
            Delta::Refusal(text) => {
                self.refused = true;
                Delta::Text(text)
            }
            Delta::Signature(signature) => {
                if to_chat {
                    self.lost.dropped("content.signature");
                }
                Delta::Signature(signature)
            }
            Delta::RedactedThinking(data) => {
                if to_chat {
                    self.lost.dropped("content.redacted_thinking");
                }
                Delta::RedactedThinking(data)
            }
            Delta::ToolStart { call, id, name } => {
                self.calls = self.calls.saturating_add(1);
                self.behind_call = true;
                if self.context.legacy_functions && call > 0 {
                    self.lost.dropped("content.tool_use");
                }
                let id = if to_chat { id } else { Some(call_id_for_anthropic(id.as_deref(), call)) };
                Delta::ToolStart { call, id, name: self.context.tool_name(name) }
            }
            Delta::Usage(usage) => {
                self.usage = Some(usage);
                Delta::Usage(usage)
            }
            Delta::Finish { reason, stop_sequence } => {
                let reason = if to_chat {
                    if stop_sequence.is_some() {
                        self.lost.dropped("stop_sequence");
                    }
                    finish_for_openai(reason, &self.context, &mut self.lost)
                } else {
                    finish_for_anthropic(reason, self.calls > 0, self.refused, &mut self.lost)
                };
                self.finish = Some(reason.clone());
                Delta::Finish { reason, stop_sequence }
            }
            Delta::Lost(name) => {
                self.lost.extra("", &Extra::from_iter([(name.clone(), true.into())]));
                Delta::Lost(name)
            }
            delta @ (Delta::Thinking(_) | Delta::ToolArguments { .. } | Delta::PartEnd | Delta::End) => delta,
        }
    }
}
