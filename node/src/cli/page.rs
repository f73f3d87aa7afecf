//! A page of metrics, as a node gives it.

use std::collections::BTreeMap;

/// What one node's metrics said, by the text before the value.
pub(super) type Page = BTreeMap<String, f64>;

/// Reads a page of metrics; comments and what is no number are left out.
pub(super) fn read(page: &str) -> Page {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// The value of a label in a series, if it has it.
pub(super) fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = series.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// What the series of a metric add up to, those that are meant.
pub(super) fn sum(page: &Page, metric: &str, with: impl Fn(&str) -> bool) -> f64 {
    series(page, metric).filter(|(series, _)| with(series)).map(|(_, value)| value).sum()
}

/// The series of a metric, with what they say.
pub(super) fn series<'a>(page: &'a Page, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    let is_of =
        move |series: &str| series.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    page.iter().filter(move |(series, _)| is_of(series)).map(|(series, value)| (series.as_str(), *value))
}
