//! Every limit on what is taken in, in one place. The wire contract and the documentation quote these.

/// One gRPC message, encoded.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Series of all layouts that a machine has in use.
pub const SERIES_PER_MACHINE_MAX: usize = 20_000;
pub const METRIC_NAME_BYTES_MAX: usize = 255;
pub const UNIT_BYTES_MAX: usize = 63;
pub const LABELS_MAX: usize = 64;
pub const LABEL_NAME_BYTES_MAX: usize = 128;
pub const LABEL_VALUE_BYTES_MAX: usize = 1024;
/// A longer log body is cut and marked.
pub const LOG_BODY_BYTES_MAX: usize = 64 * 1024;
pub const LOG_EVENTS_PER_BATCH_MAX: usize = 10_000;
pub const PROCESSES_PER_REPORT_MAX: usize = 1_000;
pub const COMMAND_LINE_BYTES_MAX: usize = 1024;
pub const HOST_NAME_BYTES_MAX: usize = 255;
/// Free text for people: event details, facts, reasons.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Body of one request that programs push, unpacked.
pub const PUSH_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Values of one request, once histograms and summaries are spread over their series.
pub const PUSH_VALUES_MAX: usize = 5_000;
/// Series that one source may have in use.
pub const PUSH_SERIES_PER_SOURCE_MAX: usize = 5_000;
/// Sources that push at the same time.
pub const PUSH_SOURCES_MAX: usize = 1_000;
pub const PUSH_SOURCE_BYTES_MAX: usize = 120;
pub const PUSH_KEY_BYTES_MAX: usize = 255;
/// Buckets of one histogram, quantiles of one summary.
pub const PUSH_PARTS_MAX: usize = 200;

/// Items further behind the aggregator's clock than this are refused: 7 days.
pub const ITEM_AGE_MS_MAX: i64 = 7 * 24 * 60 * 60 * 1000;
/// Items further ahead of the aggregator's clock than this are refused: 10 minutes.
pub const ITEM_AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// How long frames stay in live state: 5 minutes.
pub const LIVE_WINDOW_MS: i64 = 5 * 60 * 1000;

/// Windows of one range query.
pub const QUERY_WINDOWS_MAX: usize = 20_000;
/// Series of one range query.
pub const QUERY_SERIES_MAX: usize = 2_000;
/// Values (series times windows) of one range query's answer.
pub const QUERY_VALUES_MAX: usize = 2_000_000;

/// Interval between frames that `Settings` may ask for.
pub const INTERVAL_MS_MIN: u64 = 100;
pub const INTERVAL_MS_MAX: u64 = 60 * 60 * 1000;
