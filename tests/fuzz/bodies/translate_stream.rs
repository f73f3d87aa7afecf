//! Any bytes as the events of a stream (one a line) and as a whole reply: never a panic, only whole events out, and
//! nothing at all from an end that was not seen.

use troupe_dialect::translate::{self, Context, StreamTranslator};
use troupe_dialect::{Dialect, Operation};

/// Holds one input to it.
pub(crate) fn run(data: &[u8]) {
    for (client, upstream) in [(Operation::Chat, Dialect::Anthropic), (Operation::Messages, Dialect::OpenAi)] {
        let context = Context {
            client,
            upstream,
            model: "m".to_owned(),
            created: 0,
            stream: true,
            include_usage: true,
            legacy_functions: data.first().is_some_and(|byte| byte & 1 != 0),
            tool_names: Vec::new(),
        };
        drop(translate::reply(&context, data));

        let mut translator = StreamTranslator::new(context);
        let mut out = Vec::new();
        let broken = data.split(|byte| *byte == b'\n').any(|line| translator.event(None, line, &mut out).is_err());
        assert!(out.is_empty() || out.ends_with(b"\n\n"), "half an event went out");
        let before = out.len();
        if !broken && translator.finish(&mut out).is_err() {
            assert_eq!(out.len(), before, "a broken stream was given an end");
        }
    }
}
