//! What operators see of this process: metrics, the access log, spans and the log.
//!
//! The pipeline builds one [`RequestRecord`](record::RequestRecord) per request. It is counted on the data thread that
//! served it ([`ThreadMetrics::record`](metrics::ThreadMetrics::record)) and then given away to the access log's ring;
//! neither step blocks, locks after a series' first use, or wakes another thread.

pub mod access_log;
pub mod hex;
pub mod log;
pub mod metrics;
pub mod quiet;
pub mod record;
pub mod spans;
pub mod trace;
