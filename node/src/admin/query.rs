//! What stands behind the `?` of an admin path.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use troupe_proto::failure::ErrorCode;

use super::failure::Failure;

/// Reads the values behind the `?`. A name that is not known is an error, as it is in a configuration file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read<'n>(
    query: Option<&str>,
    known: impl Iterator<Item = &'n str> + Clone,
) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = |detail: String| Failure::new(ErrorCode::InvalidField, detail);
    let mut values = BTreeMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !known.clone().any(|known| known == name) {
            let known: Vec<&str> = known.collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(wrong(format!("{name:?} is none of {known}")));
        }
        let value = decode(value).ok_or_else(|| wrong(format!("{name:?} is not UTF-8 text")))?;
        if values.insert(name.to_owned(), value).is_some() {
            return Err(wrong(format!("{name:?} is given twice")));
        }
    }
    Ok(values)
}

/// Text without its `%` escapes; `None` where it is no UTF-8 then.
pub(super) fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["model", "key", "target"];

    fn query(text: &str) -> Result<BTreeMap<String, String>, Failure> {
        read(Some(text), KNOWN.into_iter())
    }

    #[test]
    fn values_are_read_whatever_they_hold() {
        let read = query("model=vendor%2Fm%26x&key=team&target=a/-/b+c").unwrap();

        let values: Vec<&str> = KNOWN.iter().map(|name| read[*name].as_str()).collect();
        assert_eq!(values, ["vendor/m&x", "team", "a/-/b+c"]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (text, told) in [
            ("model=m&modle=x", "\"modle\" is none of model, key, target"),
            ("model=%ff", "\"model\" is not UTF-8 text"),
            ("key=a&key=b", "\"key\" is given twice"),
        ] {
            assert!(query(text).unwrap_err().detail.contains(told), "{text:?}");
        }
    }
}
