//! The readers of what nearly every event and reply looks like.
//!
//! Each gives exactly what the typed reader of the same name gives, or `None`, on which that reader is asked. A member
//! that is read and stands there twice is for that reader too.

use super::chat::{Choice as ChatChoice, Chunk, Delta, Summary};
use super::loose::{Count, Fold, Folded, Object, Says, Text, object};
use super::reply::{Choice, Ends, Reply};
use super::usage::{InputDetails, OutputDetails, ThinkingDetails};
use super::{AnthropicUsage, OpenAiUsage, ResponsesUsage, anthropic, responses};
use crate::json::Scan;

/// Which members of an object were seen, a bit each.
#[derive(Default)]
struct Once(u32);

impl Once {
    /// Notes a member; `None` the second time.
    const fn see(&mut self, member: u32) -> Option<()> {
        let bit = 1 << member;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        if is_new { Some(()) } else { None }
    }
}

/// Reads all of `text`, which must be one object.
fn whole<'a, T: Default>(
    text: &'a str,
    mut member: impl FnMut(&mut T, &mut Once, &mut Scan<'a>, &'a str) -> Option<()>,
) -> Option<T> {
    let (mut into, mut once, mut scan) = (T::default(), Once::default(), Scan::new(text));
    scan.object(|scan, name| member(&mut into, &mut once, scan, name))?;
    scan.end()?;
    Some(into)
}

/// Reads a value within a text: an object, or nothing of another type.
fn inner<'a, T: Default>(
    scan: &mut Scan<'a>,
    mut member: impl FnMut(&mut T, &mut Once, &mut Scan<'a>, &'a str) -> Option<()>,
) -> Option<Object<T>> {
    if scan.next()? != b'{' {
        return scan.skip().map(|_| Object(None));
    }
    let (mut into, mut once) = (T::default(), Once::default());
    scan.object(|scan, name| member(&mut into, &mut once, scan, name))?;
    Some(Object(Some(into)))
}

/// Reads an array within a text item by item, or nothing of another type.
fn folded<'a, T: Fold<'a>>(
    scan: &mut Scan<'a>,
    mut item: impl FnMut(&mut Scan<'a>) -> Option<T::Item>,
) -> Option<Folded<T>> {
    if scan.next()? != b'[' {
        return scan.skip().map(|_| Folded(None));
    }
    let mut all = T::default();
    scan.array(|scan| {
        all.take(item(scan)?);
        Some(())
    })?;
    Some(Folded(Some(all)))
}

fn text<'a>(into: &mut Text<'a>, scan: &mut Scan<'a>) -> Option<()> {
    *into = Text::of(scan.text()?);
    Some(())
}

fn count(into: &mut Count, scan: &mut Scan<'_>) -> Option<()> {
    into.0 = scan.count()?;
    Some(())
}

fn says(into: &mut Says, scan: &mut Scan<'_>) -> Option<()> {
    into.0 = scan.says()?;
    Some(())
}

fn skip(scan: &mut Scan<'_>) -> Option<()> {
    scan.skip().map(|_| ())
}

pub(super) fn chunk(all: &str) -> Option<Chunk<'_>> {
    whole(all, |chunk: &mut Chunk<'_>, once, scan, name| match name {
        "model" => once.see(0).and_then(|()| text(&mut chunk.model, scan)),
        "choices" => {
            once.see(1)?;
            chunk.choices = folded::<Summary>(scan, chat_choice)?;
            Some(())
        }
        "usage" => {
            once.see(2)?;
            chunk.usage = Some(scan.raw()?.1);
            Some(())
        }
        "error" => once.see(3).and_then(|()| says(&mut chunk.error, scan)),
        _ => skip(scan),
    })
}

fn chat_choice<'a>(scan: &mut Scan<'a>) -> Option<Object<ChatChoice<'a>>> {
    inner(scan, |choice: &mut ChatChoice<'a>, once, scan, name| match name {
        "index" => once.see(0).and_then(|()| count(&mut choice.index, scan)),
        "delta" => {
            once.see(1)?;
            choice.delta = inner(scan, delta)?;
            Some(())
        }
        "text" => once.see(2).and_then(|()| says(&mut choice.text, scan)),
        "finish_reason" => once.see(3).and_then(|()| text(&mut choice.finish_reason, scan)),
        _ => skip(scan),
    })
}

fn delta(delta: &mut Delta, once: &mut Once, scan: &mut Scan<'_>, name: &str) -> Option<()> {
    let (member, into) = match name {
        "content" => (0, &mut delta.content),
        "tool_calls" => (1, &mut delta.tool_calls),
        "function_call" => (2, &mut delta.function_call),
        "reasoning_content" => (3, &mut delta.reasoning_content),
        "reasoning" => (4, &mut delta.reasoning),
        "refusal" => (5, &mut delta.refusal),
        "audio" => (6, &mut delta.audio),
        _ => return skip(scan),
    };
    once.see(member)?;
    says(into, scan)
}

/// The events between the first and the last of a Messages stream: those with a message, a block or a usage are rare.
pub(super) fn messages_event(all: &str) -> Option<anthropic::Event<'_>> {
    whole(all, |event: &mut anthropic::Event<'_>, once, scan, name| match name {
        "type" => once.see(0).and_then(|()| text(&mut event.kind, scan)),
        "delta" => {
            once.see(1)?;
            event.delta = inner(scan, |delta: &mut anthropic::Delta<'_>, once, scan, name| match name {
                "stop_reason" => once.see(0).and_then(|()| text(&mut delta.stop_reason, scan)),
                _ => skip(scan),
            })?;
            Some(())
        }
        "message" | "content_block" | "usage" => None,
        _ => skip(scan),
    })
}

/// The events of a Responses stream that do not hold the whole response.
pub(super) fn responses_event(all: &str) -> Option<responses::Event<'_>> {
    whole(all, |event: &mut responses::Event<'_>, once, scan, name| match name {
        "type" => once.see(0).and_then(|()| text(&mut event.kind, scan)),
        "sequence_number" => once.see(1).and_then(|()| count(&mut event.sequence_number, scan)),
        "error" => once.see(2).and_then(|()| says(&mut event.error, scan)),
        "response" => None,
        _ => skip(scan),
    })
}

/// A whole reply without `incomplete_details`.
pub(super) fn reply(all: &str) -> Option<Reply<'_>> {
    whole(all, |reply: &mut Reply<'_>, once, scan, name| match name {
        "type" => once.see(0).and_then(|()| text(&mut reply.kind, scan)),
        "model" => once.see(1).and_then(|()| text(&mut reply.model, scan)),
        "choices" => {
            once.see(2)?;
            reply.choices = folded::<Ends>(scan, reply_choice)?;
            Some(())
        }
        "stop_reason" => once.see(3).and_then(|()| text(&mut reply.stop_reason, scan)),
        "status" => once.see(4).and_then(|()| text(&mut reply.status, scan)),
        "usage" => {
            once.see(5)?;
            reply.usage = Some(scan.raw()?.1);
            Some(())
        }
        "error" => once.see(6).and_then(|()| says(&mut reply.error, scan)),
        "incomplete_details" => once.see(7).and_then(|()| scan.null()),
        _ => skip(scan),
    })
}

fn reply_choice<'a>(scan: &mut Scan<'a>) -> Option<Object<Choice<'a>>> {
    inner(scan, |choice: &mut Choice<'a>, once, scan, name| match name {
        "finish_reason" => once.see(0).and_then(|()| text(&mut choice.finish_reason, scan)),
        _ => skip(scan),
    })
}

/// The usage of a chat, a completion or an embedding, by whichever reader can.
pub(super) fn openai_usage(all: &str) -> Option<OpenAiUsage> {
    // By far the most events of a stream say null.
    if all == "null" {
        return None;
    }
    let quick = whole(all, |usage: &mut OpenAiUsage, once, scan, name| match name {
        "prompt_tokens" => once.see(0).and_then(|()| count(&mut usage.prompt_tokens, scan)),
        "completion_tokens" => once.see(1).and_then(|()| count(&mut usage.completion_tokens, scan)),
        "prompt_tokens_details" => once.see(2).and_then(|()| input_details(&mut usage.prompt_tokens_details, scan)),
        "completion_tokens_details" => {
            once.see(3).and_then(|()| output_details(&mut usage.completion_tokens_details, scan))
        }
        "prompt_cache_hit_tokens" => once.see(4).and_then(|()| count(&mut usage.prompt_cache_hit_tokens, scan)),
        _ => skip(scan),
    });
    quick.or_else(|| object(all))
}

/// The usage of a response, by whichever reader can.
pub(super) fn responses_usage(all: &str) -> Option<ResponsesUsage> {
    let quick = whole(all, |usage: &mut ResponsesUsage, once, scan, name| match name {
        "input_tokens" => once.see(0).and_then(|()| count(&mut usage.input_tokens, scan)),
        "output_tokens" => once.see(1).and_then(|()| count(&mut usage.output_tokens, scan)),
        "input_tokens_details" => once.see(2).and_then(|()| input_details(&mut usage.input_tokens_details, scan)),
        "output_tokens_details" => once.see(3).and_then(|()| output_details(&mut usage.output_tokens_details, scan)),
        _ => skip(scan),
    });
    quick.or_else(|| object(all))
}

/// The usage of a message, by whichever reader can.
pub(super) fn anthropic_usage(all: &str) -> Option<AnthropicUsage> {
    let quick = whole(all, |usage: &mut AnthropicUsage, once, scan, name| match name {
        "input_tokens" => once.see(0).and_then(|()| count(&mut usage.input_tokens, scan)),
        "cache_creation_input_tokens" => once.see(1).and_then(|()| count(&mut usage.cache_creation_input_tokens, scan)),
        "cache_read_input_tokens" => once.see(2).and_then(|()| count(&mut usage.cache_read_input_tokens, scan)),
        "output_tokens" => once.see(3).and_then(|()| count(&mut usage.output_tokens, scan)),
        "output_tokens_details" => {
            once.see(4)?;
            usage.output_tokens_details = inner(scan, |details: &mut ThinkingDetails, once, scan, name| match name {
                "thinking_tokens" => once.see(0).and_then(|()| count(&mut details.thinking_tokens, scan)),
                _ => skip(scan),
            })?;
            Some(())
        }
        _ => skip(scan),
    });
    quick.or_else(|| object(all))
}

fn input_details(into: &mut Object<InputDetails>, scan: &mut Scan<'_>) -> Option<()> {
    *into = inner(scan, |details: &mut InputDetails, once, scan, name| match name {
        "cached_tokens" => once.see(0).and_then(|()| count(&mut details.cached_tokens, scan)),
        "cache_write_tokens" => once.see(1).and_then(|()| count(&mut details.cache_write_tokens, scan)),
        _ => skip(scan),
    })?;
    Some(())
}

fn output_details(into: &mut Object<OutputDetails>, scan: &mut Scan<'_>) -> Option<()> {
    *into = inner(scan, |details: &mut OutputDetails, once, scan, name| match name {
        "reasoning_tokens" => once.see(0).and_then(|()| count(&mut details.reasoning_tokens, scan)),
        _ => skip(scan),
    })?;
    Some(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::*;
    use crate::json::arbitrary;
    use crate::sse::Framer;

    /// What a quick reader gives, the full one gives too.
    fn agree<T: Debug>(quick: Option<T>, full: Option<T>) {
        if let Some(quick) = quick {
            assert_eq!(format!("{quick:?}"), format!("{:?}", full.expect("the full reader refuses it")));
        }
    }

    fn hold(text: &str) {
        agree(chunk(text), object(text));
        agree(messages_event(text), object(text));
        agree(responses_event(text), object(text));
        agree(reply(text), object(text));
        agree(openai_usage(text), object(text));
        agree(responses_usage(text), object(text));
        agree(anthropic_usage(text), object(text));
    }

    #[test]
    fn the_texts_that_readers_are_held_to_are_read_quickly_often_enough() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let texts = (0..1000).map(|_| arbitrary::text().new_tree(&mut runner).unwrap().current());

        let quick = texts.filter(|text| chunk(text).is_some_and(|_| text.len() > 40)).count();

        assert!(quick > 100, "{quick}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn quick_readers_give_what_the_full_ones_give(text in arbitrary::text()) {
            hold(&text);
        }
    }

    #[test]
    fn ordinary_events_of_the_fixtures_are_read_quickly() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stream_meter");
        for (op, is_quick) in [
            ("chat", (|text| chunk(text).is_some()) as fn(&str) -> bool),
            ("messages", |text| messages_event(text).is_some()),
            ("responses", |text| responses_event(text).is_some()),
        ] {
            let (mut quick, mut all) = (0, 0);
            for entry in fs::read_dir(folder.join(op)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "stream") {
                    continue;
                }
                let mut framer = Framer::new(1 << 20);
                framer.push(fs::read(&path).unwrap().into());
                while let Some(Ok(frame)) = framer.next() {
                    let data = frame.data();
                    let Ok(text) = std::str::from_utf8(&data) else { continue };
                    hold(text);
                    if text.starts_with('{') {
                        all += 1;
                        quick += usize::from(is_quick(text));
                    }
                }
            }
            // The fixtures are mostly oddities; the first and the last events of Anthropic's streams are never quick.
            assert!(all >= 10 && quick * 3 > all, "{op}: {quick} of {all}");
        }
    }

    #[test]
    fn an_ordinary_reply_is_read_quickly() {
        let text = r#"{"id":"x","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":
            "assistant","content":"a \"word\"\n","tool_calls":[]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,
            "completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":1}},"error":null}"#;

        let read = reply(text).unwrap();

        assert_eq!((read.model.get(), read.error.0), (Some("m"), false));
        assert_eq!(read.usage.and_then(openai_usage).map(|usage| usage.normal().input.get()), Some(3));
    }
}
