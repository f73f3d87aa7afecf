use std::fs;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::UNIX_EPOCH;

use troupe_dialect::{Dialect, Operation};
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::{CredentialId, KeyId, ModelId, ProviderId, RequestId, TargetId};
use troupe_proto::outcome::{AttemptEnd, Usage};
use troupe_proto::unit::Tokens;

use super::*;
use crate::telemetry::record::{AttemptRecord, Lost, Outcome};
use crate::telemetry::trace::TraceId;

fn soon() -> Instant {
    clock::now() + Duration::from_secs(10)
}

fn bare(number: u128) -> RequestRecord {
    RequestRecord::new(UNIX_EPOCH, RequestId(number))
}

fn attempt(credential: &str, end: AttemptEnd, status: u16) -> AttemptRecord {
    AttemptRecord {
        target: TargetId {
            provider: ProviderId::new("openai"),
            credential: Some(CredentialId::new(credential)),
            model: "gpt-4o-mini".into(),
        },
        end,
        upstream_status: Some(status),
        first_token: (status == 200).then(|| Duration::from_micros(212_400)),
        total: Duration::from_micros(if status == 200 { 1_480_900 } else { 35_250 }),
        usage: None,
    }
}

/// A record with every field set: the example of the reference page.
fn full() -> RequestRecord {
    RequestRecord {
        at: UNIX_EPOCH + Duration::from_millis(1_767_225_600_250),
        request_id: RequestId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        client_request_id: Some("checkout-17".into()),
        trace_id: TraceId::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
        key: Some(KeyId::new("search-team")),
        operation: Some(Operation::Chat),
        dialect: Some(Dialect::OpenAi),
        model_asked: Some("fast".into()),
        model: Some(ModelId::new("fast")),
        model_served: Some("gpt-4o-mini-2024-07-18".into()),
        provider: Some(ProviderId::new("openai")),
        stream: true,
        status: 200,
        outcome: Outcome::Interrupted,
        error: Some(ErrorCode::StreamInterrupted),
        finish: Some("length".into()),
        usage: Some(Usage {
            input: Tokens::new(812),
            cached_read: Tokens::new(512),
            cache_write: Tokens::new(0),
            output: Tokens::new(64),
            reasoning: Tokens::new(16),
        }),
        first_token: Some(Duration::from_micros(248_100)),
        total: Duration::from_micros(1_517_300),
        queue: Some(Duration::from_micros(40)),
        bytes_in: 3_210,
        bytes_out: 9_876,
        client: Some([192, 0, 2, 17].into()),
        user_agent: Some("OpenAI/Python 2.8.1".into()),
        sdk_retry: Some(1),
        attempts: vec![
            attempt("main", AttemptEnd::Failed(Fault::Capacity), 429),
            attempt("spare", AttemptEnd::Interrupted(Fault::Provider), 200),
        ],
        is_retry_denied: false,
        seams: 0,
        lost: Lost { request: vec!["seed".into()], reply: vec!["logprobs".into()] },
    }
}

fn text(record: &RequestRecord) -> String {
    let mut out = Vec::new();
    Lines::default().write(record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_example_of_the_reference_page_is_what_is_written() {
    let page = include_str!("../../../../docs/reference/access-log.md");
    let example = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();

    let written: serde_json::Value = serde_json::from_str(&text(&full())).unwrap();

    let documented: serde_json::Value = serde_json::from_str(example).unwrap();
    assert_eq!(written, documented, "{}", text(&full()));
    for field in written.as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{field}` |")), "{field} has no row");
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let written = text(&bare(7));

    assert_eq!(
        written,
        "{\"ts\":\"1970-01-01T00:00:00.000Z\",\"request_id\":\"req_00000000000000000000000000000007\",\
         \"stream\":false,\"status\":500,\"outcome\":\"refused\",\"total_ms\":0.0,\"bytes_in\":0,\"bytes_out\":0}\n"
    );
}

#[test]
fn a_clients_line_breaks_do_not_make_lines() {
    let mut record = bare(1);
    record.user_agent = Some("evil\n{\"status\":200}\u{2028}\u{0}".into());

    let written = text(&record);

    assert_eq!(written.matches('\n').count(), 1);
    let back: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(back["user_agent"], "evil\n{\"status\":200}\u{2028}\u{0}");
}

proptest::proptest! {
    #[test]
    fn a_line_is_what_a_serialiser_writes(
        words in proptest::collection::vec(any_text(), 4),
        micros in proptest::collection::vec(proptest::prelude::any::<u32>(), 3),
        zeros in 0_u32..7,
        number in proptest::prelude::any::<u64>(),
        set in proptest::prelude::any::<[bool; 6]>(),
    ) {
        let micros: Vec<_> = micros.iter().map(|n| Duration::from_micros((n / 10_u32.pow(zeros) * 10_u32.pow(zeros)).into())).collect();
        let mut record = if set[0] { full() } else { bare(u128::from(number) << 50) };
        record.at = UNIX_EPOCH + Duration::from_millis(number >> 22);
        (record.total, record.first_token, record.queue) = (micros[0], set[1].then_some(micros[1]), set[2].then_some(micros[2]));
        (record.bytes_in, record.bytes_out, record.status) = (number, number >> 40, u16::try_from(number % 999).unwrap());
        record.seams = zeros;
        for attempt in &mut record.attempts {
            attempt.usage = record.usage.filter(|_| set[1]);
        }
        record.user_agent = set[3].then(|| words[0].as_str().into());
        record.model_asked = set[4].then(|| words[1].as_str().into());
        record.lost.reply = if set[5] { words.into_iter().map(Into::into).collect() } else { Vec::new() };
        let mut expected = Vec::new();

        reference::line(&record, &mut expected);

        proptest::prop_assert_eq!(text(&record), String::from_utf8(expected).unwrap());
    }
}

fn any_text() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::strategy::Strategy as _;
    let any = proptest::collection::vec(proptest::prelude::any::<char>(), 0..20);
    proptest::prop_oneof!["[\\x00-\\x7f\"\\\\]{0,20}", any.prop_map(String::from_iter)]
}

#[test]
fn closing_writes_all_that_was_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let metrics = Metrics::new();
    let log = AccessLog::start(&Destination::File(path.clone()), Arc::clone(&metrics)).unwrap();

    for number in 0..2_000 {
        log.push(bare(number));
    }

    assert_eq!(log.close(soon()), Closed::Flushed);
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 2_000);
    assert!(
        metrics.render(&crate::telemetry::metrics::Learned::default()).contains("troupe_access_log_lines_total 2000\n")
    );
}

#[test]
fn a_moved_file_is_left_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = AccessLog::start(&Destination::File(path.clone()), Metrics::new()).unwrap();

    fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.push(bare(1));
    log.close(soon());

    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
    assert_eq!(fs::read_to_string(moved).unwrap(), "");
}

/// A writer that stands still until it is let go.
struct Stuck {
    entered: SyncSender<()>,
    release: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entered.send(()).ok();
        self.release.recv().ok();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_stands_still_costs_lines_and_nobody_waits() {
    let (entered, writing) = sync_channel(64);
    let (go, release) = sync_channel(64);
    let metrics = Metrics::new();
    let log = AccessLog::start_with(Sink::any(Stuck { entered, release }), Arc::clone(&metrics), 4).unwrap();

    log.push(bare(0));
    writing.recv_timeout(Duration::from_secs(10)).unwrap();
    for number in 0..10 {
        log.push(bare(number));
    }

    assert!(
        metrics.render(&crate::telemetry::metrics::Learned::default()).contains("troupe_access_log_dropped_total 6\n")
    );
    assert_eq!(log.close(clock::now()), Closed::Late { left: 4 });
    drop(go);
}

/// A writer that always fails.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted_as_dropped() {
    let metrics = Metrics::new();
    let log = AccessLog::start_with(Sink::any(Broken), Arc::clone(&metrics), 4).unwrap();

    log.push(bare(0));

    assert_eq!(log.close(soon()), Closed::Flushed);
    assert!(
        metrics.render(&crate::telemetry::metrics::Learned::default()).contains("troupe_access_log_dropped_total 1\n")
    );
}

#[test]
fn a_directory_that_does_not_exist_is_told_at_the_start() {
    let started = AccessLog::start(&Destination::read("no/such/directory/access.log"), Metrics::new());

    assert!(matches!(started, Err(AccessLogError::Open { .. })));
    assert_eq!(Destination::read("off"), Destination::Off);
    assert_eq!(Destination::read("stdout"), Destination::Stdout);
}
