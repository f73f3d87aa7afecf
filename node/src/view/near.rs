//! Names that look like one that does not exist.

/// How many near names are offered.
const OFFERED: usize = 3;

/// The names nearest to `asked` among `known`, the nearest first; none that merely share a letter or two.
pub(super) fn nearest<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    // Similarity costs time with the length: a client's name is cut before it is compared.
    let asked: String = asked.chars().take(128).collect::<String>().to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .map(|name| {
            let lower = name.to_lowercase();
            let contained = !asked.is_empty() && (lower.contains(&asked) || asked.contains(&lower));
            (if contained { 1.0 } else { strsim::jaro_winkler(&asked, &lower) }, name)
        })
        .filter(|(score, _)| *score >= 0.75)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().take(OFFERED).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_finds_the_name_and_nonsense_finds_none() {
        let known = ["gpt-4o", "gpt-4o-mini", "claude-sonnet"];

        assert_eq!(nearest("gpt-40", known.into_iter()).first().map(String::as_str), Some("gpt-4o"));
        assert_eq!(nearest("Claude-Sonet", known.into_iter()), ["claude-sonnet"]);
        assert_eq!(nearest("zzz", known.into_iter()), [""; 0]);
    }
}
