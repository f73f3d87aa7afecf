//! What stands behind the `?` of an admin path.

use percent_encoding::percent_decode_str;

use super::explain::Question;

/// Reads a question about a route.
///
/// # Errors
/// What is wrong with it; a name that is not known is an error, as it is in a configuration file.
pub(super) fn question(query: Option<&str>) -> Result<Question, String> {
    let mut question = Question::default();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| format!("{name:?} is not UTF-8 text"))?;
        if value.is_empty() {
            return Err(format!("{name:?} is empty"));
        }
        match name {
            "model" => question.model = value.into_owned(),
            "key" => question.key = Some(value.into_owned()),
            "target" => question.target = Some(value.into_owned()),
            _ => return Err(format!("{name:?} is none of model, key, target")),
        }
    }
    if question.model.is_empty() {
        return Err("name a model: ?model=NAME".to_owned());
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_whatever_its_names_hold() {
        let read = question(Some("model=vendor%2Fm%26x&key=team&target=a/-/b+c")).unwrap();

        let target = Some("a/-/b+c".to_owned());
        assert_eq!(read, Question { model: "vendor/m&x".to_owned(), key: Some("team".to_owned()), target });
    }

    #[test]
    fn what_is_no_question_is_told() {
        for (query, told) in [
            (None, "name a model"),
            (Some("key=team"), "name a model"),
            (Some("model="), "\"model\" is empty"),
            (Some("model=m&modle=x"), "\"modle\" is none of model, key, target"),
            (Some("model=%ff"), "\"model\" is not UTF-8 text"),
        ] {
            assert!(question(query).unwrap_err().contains(told), "{query:?}");
        }
    }
}
