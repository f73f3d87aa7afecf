//! Turns the events of a good reply into the steps of the reply that was asked for.

use std::time::Duration;

use bytes::Bytes;

use super::script::{Ending, Knobs};
use super::switch::draw;

/// One event of a stream in wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) bytes: String,
    /// Whether it carries content; the numbers of the knobs count these.
    pub(super) is_content: bool,
}

impl Event {
    pub(super) fn content(bytes: String) -> Self {
        Self { bytes, is_content: true }
    }

    pub(super) fn frame(bytes: String) -> Self {
        Self { bytes, is_content: false }
    }
}

/// One thing a body does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Hands bytes to the connection, which complete so many content events.
    Send(Bytes, u64),
    /// Waits with everything sent so far on its way.
    Wait(Duration),
    /// Lets the connection write what it holds.
    Flush,
    /// Says nothing any more.
    Hang,
    /// Breaks the connection off (over HTTP/2: the stream).
    Break,
}

/// Gap between the pieces of `slow-bytes` when `drip` names none.
const PIECE_GAP: Duration = Duration::from_micros(500);
/// Longest piece of `slow-bytes`.
const PIECE_MAX: u64 = 31;

/// Plans a stream: which events are sent, with what gaps, and how it ends.
///
/// `call` is this call's number, for [`Ending::RandomCut`]; `error` is the in-band error of the wire, for
/// [`Ending::Error`].
pub(super) fn stream(knobs: &Knobs, mut events: Vec<Event>, call: u64, error: impl FnOnce() -> String) -> Vec<Step> {
    for event in &mut events {
        if knobs.comments {
            event.bytes.insert_str(0, ": keep-alive\n\n");
        }
        if knobs.crlf {
            event.bytes = event.bytes.replace('\n', "\r\n");
        }
    }
    let (limit, ending) = match knobs.ending {
        Ending::Complete => (usize::MAX, Vec::new()),
        // The flush lets what was sent reach the wire before the connection goes.
        Ending::Cut(limit) => (limit, vec![Step::Flush, Step::Break]),
        Ending::RandomCut(seed) => (drawn(&events, seed, call), vec![Step::Flush, Step::Break]),
        Ending::CleanCut(limit) => (limit, Vec::new()),
        Ending::Error(limit) => (limit, vec![Step::Send(Bytes::from(error()), 0)]),
        Ending::Hang(limit) => (limit, vec![Step::Hang]),
    };
    let Some(end) = position(&events, limit) else {
        // The stream is over before the fault would strike.
        return if knobs.slow_bytes { dribble(knobs, events.into_iter()) } else { paced(knobs, events.into_iter()) };
    };
    let kept = events.into_iter().take(end);
    let mut steps = if knobs.slow_bytes { dribble(knobs, kept) } else { paced(knobs, kept) };
    steps.extend(ending);
    steps
}

/// Draws after how many content events to cut: one at least, and not all. Fewer than two cannot be cut so.
fn drawn(events: &[Event], seed: u64, call: u64) -> usize {
    let content = events.iter().filter(|event| event.is_content).count();
    let places = u64::try_from(content.saturating_sub(1)).unwrap_or(u64::MAX);
    match places {
        0 => usize::MAX,
        places => usize::try_from(draw(draw(seed) ^ call) % places).map_or(usize::MAX, |place| place + 1),
    }
}

/// Finds where the fault strikes: behind that many content events; for none, before the first.
fn position(events: &[Event], limit: usize) -> Option<usize> {
    let mut content = events.iter().enumerate().filter(|(_, event)| event.is_content).map(|(index, _)| index);
    match limit {
        0 => content.next(),
        limit => content.nth(limit - 1).map(|index| index + 1),
    }
}

fn paced(knobs: &Knobs, events: impl Iterator<Item = Event>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, event) in events.enumerate() {
        if let (Some(gap), true) = (knobs.drip, index > 0) {
            steps.push(Step::Wait(gap));
        }
        steps.push(Step::Send(Bytes::from(event.bytes), u64::from(event.is_content)));
    }
    steps
}

/// Cuts the wire form at places that have nothing to do with its events.
fn dribble(knobs: &Knobs, events: impl Iterator<Item = Event>) -> Vec<Step> {
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for event in events {
        all.extend_from_slice(event.bytes.as_bytes());
        if event.is_content {
            ends.push(all.len());
        }
    }
    pieces(Bytes::from(all), &ends, knobs.drip.unwrap_or(PIECE_GAP))
}

/// Cuts a whole body into small pieces.
pub(super) fn dribble_whole(knobs: &Knobs, body: Bytes) -> Vec<Step> {
    pieces(body, &[], knobs.drip.unwrap_or(PIECE_GAP))
}

fn pieces(mut rest: Bytes, ends: &[usize], gap: Duration) -> Vec<Step> {
    let (mut steps, mut sent, mut seed) = (Vec::new(), 0, 0x2545_f491_4f6c_dd1d_u64);
    let mut ends = ends.iter().peekable();
    while !rest.is_empty() {
        // A fixed seed: the same name gives the same pieces in every run.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wanted = usize::try_from((seed >> 33) % PIECE_MAX + 1).unwrap_or(1);
        let piece = rest.split_to(wanted.min(rest.len()));
        sent += piece.len();
        let mut completed = 0;
        while ends.next_if(|end| **end <= sent).is_some() {
            completed += 1;
        }
        if !steps.is_empty() {
            steps.push(Step::Wait(gap));
        }
        steps.push(Step::Send(piece, completed));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        let mut all = vec![Event::frame("head;".to_owned())];
        all.extend((0..4).map(|index| Event::content(format!("w{index};"))));
        all.push(Event::frame("end;".to_owned()));
        all
    }

    fn sent(steps: &[Step]) -> (String, u64) {
        let mut all = (Vec::new(), 0);
        for step in steps {
            if let Step::Send(bytes, events) = step {
                all.0.extend_from_slice(bytes);
                all.1 += events;
            }
        }
        (String::from_utf8(all.0).unwrap(), all.1)
    }

    fn plan(model: &str) -> Vec<Step> {
        stream(&Knobs::parse(model).unwrap(), events(), 1, || "error;".to_owned())
    }

    #[test]
    fn a_complete_stream_sends_every_event() {
        assert_eq!(sent(&plan("mock")), ("head;w0;w1;w2;w3;end;".to_owned(), 4));
    }

    #[test]
    fn a_cut_strikes_after_the_counted_content_events() {
        let steps = plan("mock+cut=2");

        assert_eq!(sent(&steps), ("head;w0;w1;".to_owned(), 2));
        assert_eq!(steps.last(), Some(&Step::Break));
    }

    #[test]
    fn every_ending_keeps_what_came_before_it() {
        assert_eq!(sent(&plan("mock+clean-cut=1")), ("head;w0;".to_owned(), 1));
        assert_eq!(sent(&plan("mock+error-at=1")), ("head;w0;error;".to_owned(), 1));
        assert_eq!(plan("mock+hang-at=0").last(), Some(&Step::Hang));
        assert_eq!(sent(&plan("mock+hang-at=0")), ("head;".to_owned(), 0));
    }

    #[test]
    fn a_fault_strikes_before_the_end_marker_and_not_at_all_when_too_late() {
        assert_eq!(sent(&plan("mock+clean-cut=4")), ("head;w0;w1;w2;w3;".to_owned(), 4));
        assert_eq!(plan("mock+cut=5"), plan("mock"));
    }

    #[test]
    fn a_random_cut_falls_on_every_place_between_words_and_on_the_same_ones_in_every_run() {
        let knobs = Knobs::parse("mock+random-cut=7").unwrap();
        let cuts = || (0..64).map(|call| sent(&stream(&knobs, events(), call, String::new)).1).collect::<Vec<_>>();

        assert_eq!(cuts(), cuts());
        assert_eq!(cuts().into_iter().collect::<std::collections::BTreeSet<_>>(), [1, 2, 3].into());
    }

    #[test]
    fn dribbled_bytes_are_the_same_bytes_and_the_same_number_of_events() {
        let steps = plan("mock+slow-bytes");

        assert_eq!(sent(&steps), sent(&plan("mock")));
        assert!(steps.contains(&Step::Wait(PIECE_GAP)));
    }

    #[test]
    fn comments_and_line_ends_are_part_of_each_event() {
        let lines = vec![Event::content("data: a\n\n".to_owned())];
        let knobs = Knobs::parse("mock+comments+crlf").unwrap();

        let (text, events) = sent(&stream(&knobs, lines, 1, String::new));

        assert_eq!((text.as_str(), events), (": keep-alive\r\n\r\ndata: a\r\n\r\n", 1));
    }

    #[test]
    fn drip_waits_between_events_only() {
        let waits = plan("mock+drip=5ms").iter().filter(|step| matches!(step, Step::Wait(_))).count();

        assert_eq!(waits, events().len() - 1);
    }
}
