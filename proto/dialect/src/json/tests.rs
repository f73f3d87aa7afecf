use proptest::prelude::*;

use super::*;

fn why(body: &str) -> String {
    check(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_member_named_twice_is_refused_wherever_it_is() {
    assert_eq!(why(r#"{"a":1,"a":2}"#), r#"body: the member "a" is there twice (line 1, column 10)"#);
    assert_eq!(
        why(r#"{"messages":[{},{"content":[{"x":1,"y":2,"x":3}]}]}"#),
        r#"messages[1].content[0]: the member "x" is there twice (line 1, column 44)"#
    );
}

#[test]
fn names_are_compared_after_unescaping() {
    assert!(matches!(check(br#"{"model":1,"\u006dodel":2}"#), Err(BadJson::Duplicate { key, .. }) if key == "model"));
}

#[test]
fn a_name_may_come_again_in_another_object() {
    assert_eq!(check(br#"{"a":{"a":{"b":1}},"b":[{"a":1},{"a":2}]}"#), Ok(Kind::Object));
}

#[test]
fn an_object_of_many_members_is_checked_too() {
    let members: Vec<String> = (0..500).map(|n| format!(r#""k{n}":{{"k{n}":{n}}}"#)).collect();
    let fine = format!("{{{}}}", members.join(","));
    let twice = format!("{{{},\"k7\":0}}", members.join(","));

    assert_eq!(check(fine.as_bytes()), Ok(Kind::Object));
    assert!(matches!(check(twice.as_bytes()), Err(BadJson::Duplicate { key, .. }) if key == "k7"));
}

#[test]
fn bytes_that_are_not_utf8_are_placed() {
    assert_eq!(check(b"{\"a\":\"\xff\"}"), Err(BadJson::NotUtf8 { offset: 6 }));
}

#[test]
fn nesting_has_a_limit_and_no_body_exhausts_the_stack() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));

    assert_eq!(check(deep(DEPTH_MAX - 1).as_bytes()), Ok(Kind::Array));
    assert!(matches!(check(deep(DEPTH_MAX + 1).as_bytes()), Err(BadJson::TooDeep { .. })));
    assert!(matches!(check("[".repeat(5_000_000).as_bytes()), Err(BadJson::TooDeep { .. })));
    assert!(matches!(check("{\"a\":".repeat(1_000_000).as_bytes()), Err(BadJson::TooDeep { .. })));
}

#[test]
fn what_is_no_json_is_said_with_its_place() {
    assert_eq!(why(""), "the body is not valid JSON: EOF while parsing a value (line 1, column 0)");
    assert_eq!(why("{}\n{}"), "the body is not valid JSON: trailing characters (line 2, column 1)");
    assert_eq!(why("{\"a\":1,}"), "the body is not valid JSON: trailing comma (line 1, column 8)");
    for bad in ["{'a':1}", "[01]", "\"\\ud800\"", "[NaN]", "[1e999]", "\"\u{1}\"", "{\"a\" 1}", "nul"] {
        assert!(matches!(check(bad.as_bytes()), Err(BadJson::Syntax { .. })), "{bad}");
    }
}

#[test]
fn a_message_repeats_no_more_than_a_line_of_the_body() {
    let long = "k".repeat(100_000);
    let body = format!(r#"{{"{long}":{{"{long}":1,"{long}":2}}}}"#);

    assert!(why(&body).len() < 400);
}

proptest! {
    #[test]
    fn what_is_accepted_is_what_serde_json_accepts_less_the_twice_named(text in r#"[\[\]{}",:a01.e\\u\- tfn]{0,24}"#) {
        let reference = serde_json::from_str::<serde_json::Value>(&text).is_ok();

        match check(text.as_bytes()) {
            Ok(_) => prop_assert!(reference),
            Err(BadJson::Duplicate { .. }) => {}
            Err(_) => prop_assert!(!reference),
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        if let Err(bad) = check(&bytes) {
            prop_assert!(bad.to_string().len() < 1000);
        }
    }

    #[test]
    fn the_head_of_a_text_is_the_most_that_fits(text in ".{0,12}", max in 0_usize..40) {
        let head = head(&text, max);

        prop_assert!(text.starts_with(head) && head.len() <= max);
        prop_assert!(head.len() == text.len() || head.len() + 4 > max);
    }
}

/// Whether the scanner alone reads a text, and as what.
fn scanned(text: &str) -> Option<Kind> {
    let mut scan = Scan::new(text);
    let kind = scan.walk(&mut OpenNames::new())?;
    scan.end().map(|()| kind)
}

#[test]
fn the_scanner_reads_what_machines_write() {
    let written = serde_json::json!({
        "model": "m", "messages": [{"role": "user", "content": "a \"word\"\n\té漢😀"}, {"role": "x", "content": []}],
        "temperature": 0.7, "n": 3, "seed": -5, "stop": null, "tools": [{"function": {"strict": true, "x": {}}}],
    });
    let pretty = serde_json::to_string_pretty(&written).unwrap();

    assert_eq!(scanned(&written.to_string()), Some(Kind::Object));
    assert_eq!(scanned(&pretty), Some(Kind::Object));
}

#[test]
fn what_the_scanner_cannot_tell_apart_is_left_alone() {
    let many: Vec<String> = (0..65).map(|n| format!("\"{n}\":0")).collect();
    let texts = [
        format!("{{{}}}", many.join(",")),
        format!("{}{}", "[".repeat(49), "]".repeat(49)),
        r#"{"a":1,"a":2}"#.to_owned(),
        r#"{"\u0061":1,"a":2}"#.to_owned(),
        "[1e5]".to_owned(),
        "\"\\ud800\"".to_owned(),
    ];
    for text in texts {
        assert_eq!(scanned(&text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_scanner_accepts_nothing_that_the_full_reader_refuses(text in super::arbitrary::text()) {
        if let Some(kind) = scanned(&text) {
            prop_assert_eq!(check(text.as_bytes()).ok(), Some(kind));
        }
    }

    #[test]
    fn a_string_ends_where_it_ends(inside in r#"([ -~é漢😀]|\\n|\\"|\\\\|\\u00e9){0,40}"#, behind in "[\"a\\\\]{0,9}") {
        let quoted = serde_json::Value::from(inside.clone()).to_string();
        let text = format!("{quoted}{behind}");

        let read = Scan::new(&text).raw();

        prop_assert_eq!(read, Some((Kind::String, &*quoted)));
    }
}

#[test]
fn a_string_takes_every_character_but_the_three_kinds_that_stop_it_wherever_they_stand() {
    for at in 0..23 {
        for byte in 0..0x80_u8 {
            let mut text = "\"é-----------------------\"".to_owned();
            text.replace_range(3 + at..4 + at, &char::from(byte).to_string());

            let read = Scan::new(&text).string();

            assert_eq!(read.is_some(), byte >= 0x20 && byte != b'\\', "{text:?}");
            assert_eq!(scanned(&text).is_some(), check(text.as_bytes()).is_ok(), "{text:?}");
        }
    }
}
