use std::collections::BTreeMap;

use super::*;
use crate::load::run_report::{CurvePoint, Percentiles, SlicePoint};

fn report(slices: u32, failed: u64) -> RunReport {
    let curve = (0..35_u32).map(|tenth| {
        let quantile = 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0);
        CurvePoint { quantile, us: 80 + u64::from(tenth) * u64::from(tenth) * 4 }
    });
    let slice = |number| SlicePoint { at: f64::from(number) / 2.0, per_second: 1000.0, failed, p50: 85, p99: 900 };
    RunReport {
        name: "a <b> & \"c\"\u{7}".to_owned(),
        mode: "open",
        url: String::new(),
        rate: Some(1000),
        held_rate: None,
        connections: 64,
        seconds: 10.0,
        done: 10_000,
        per_second: 1000.0,
        failed,
        not_sent: 0,
        faults: BTreeMap::new(),
        events: 0,
        bytes: 0,
        latency: Percentiles::default(),
        first_event: None,
        gap: None,
        curve: if slices == 0 { Vec::new() } else { curve.collect() },
        slices: (0..slices).map(slice).collect(),
        steps: Vec::new(),
    }
}

/// Walks the text as an XML reader would: tags nest and close, attributes are quoted, entities are known.
fn well_formed(xml: &str) -> Result<usize, String> {
    let (mut open, mut rest, mut tags) = (Vec::new(), xml, 0);
    while let Some((text, behind)) = rest.split_once('<') {
        entities(text)?;
        let (tag, next) = behind.split_once('>').ok_or("a tag does not end")?;
        rest = next;
        tags += 1;
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("</{name}> closes {last:?}"));
            }
            continue;
        }
        let inner = tag.strip_suffix('/').unwrap_or(tag);
        let (name, attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        if attributes.matches('"').count() % 2 != 0
            || attributes.matches('=').count() != attributes.matches("=\"").count()
        {
            return Err(format!("attributes of <{tag}>"));
        }
        entities(attributes)?;
        if inner.len() == tag.len() {
            open.push(name);
        }
    }
    if !open.is_empty() || !rest.trim().is_empty() {
        return Err(format!("left open: {open:?} {rest:?}"));
    }
    Ok(tags)
}

fn entities(text: &str) -> Result<(), String> {
    for behind in text.split('&').skip(1) {
        if !["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| behind.starts_with(entity)) {
            return Err(format!("bare & before {behind:?}"));
        }
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\n') {
        Err("a control character".to_owned())
    } else {
        Ok(())
    }
}

#[test]
fn the_reader_of_these_tests_sees_what_is_not_xml() {
    for bad in ["<a><b></a></b>", "<a", "<a x=1></a>", "<a>&</a>", "<a>", "</a>", "<a></a>x", "<a>\u{7}</a>"] {
        assert!(well_formed(bad).is_err(), "{bad}");
    }
    assert_eq!(well_formed("<a x=\"1\">&amp;<b/></a>\n"), Ok(3));
}

#[test]
fn a_run_is_drawn_as_well_formed_xml_whatever_its_name() {
    let svg = of_run(&report(20, 3));

    let tags = well_formed(&svg).unwrap();
    assert!(tags > 50, "{tags}");
    assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
    for shown in
        ["latency over percentile", "99.9", "p50", "p99", "good replies", "failed", "prefers-color-scheme:dark"]
    {
        assert!(svg.contains(shown), "{shown}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert!(svg.len() < 20_000, "{}", svg.len());
}

#[test]
fn a_run_without_replies_is_drawn_too() {
    let svg = of_run(&report(0, 0));

    well_formed(&svg).unwrap();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}
