//! What the spec was at an earlier entry of the log: told by going back from the present, line of the audit by line.
//!
//! ```text
//! spec in force ── undo the newest line ── undo the one before ── ... ──▶ the spec behind the entry asked for
//! ```
//! A line is undone only where what it led to is what was found; where it is not, or where the line does not tell all it
//! changed, the way ends, and [`OutOfReach`] says at which entry. Secrets are in no line: what stands in their place says
//! whether a secret was the same.

use std::collections::BTreeMap;

use serde_json::Value;
use troupe_proto::spec::Spec;

use super::audit::Line;
use super::shape::{self, Shape};

/// A kind of thing in the spec, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// The defaults; their name is their noun's.
    Defaults,
    /// The policies; their name is their noun's.
    Policies,
    /// A provider.
    Provider,
    /// A model.
    Model,
    /// A virtual key.
    Key,
}

impl Noun {
    const ALL: [Self; 5] = [Self::Defaults, Self::Policies, Self::Provider, Self::Model, Self::Key];

    /// As the audit has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::Policies => "policies",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Key => "key",
        }
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|noun| noun.as_str() == text)
    }

    /// How a thing is now.
    fn in_force(self, spec: &Spec, name: &str) -> Option<Shape> {
        match self {
            Self::Defaults => Some(shape::rules(&spec.defaults)),
            Self::Policies => Some(shape::policies(&spec.policies)),
            Self::Provider => spec.providers.get(name).map(shape::provider),
            Self::Model => spec.models.get(name).map(shape::model),
            Self::Key => spec.keys.get(name).map(shape::key),
        }
    }
}

/// One thing, then and now; `None`: it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// How it was.
    pub then: Option<Shape>,
    /// How it is.
    pub now: Option<Shape>,
}

/// What changed since an entry: everything else is as it was.
pub type Past = BTreeMap<(Noun, String), Thing>;

/// The audit does not reach back so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what was in force at entry {index} cannot be told here, only from entry {from} on: {why}")]
pub struct OutOfReach {
    /// The entry that was asked for.
    pub index: u64,
    /// The earliest that can be told.
    pub from: u64,
    /// Why none before it can.
    pub why: Why,
}

/// What ends the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The lines before are not kept here.
    #[error("this node does not have what the audit held before")]
    Missing,
    /// A line counts changes it has no room to tell.
    #[error("that entry changed more than a line of the audit tells")]
    Counted,
    /// What a line led to is not what was found.
    #[error("what the audit says of that entry does not fit what came of it")]
    Unfit,
}

/// What was other behind the entry `index` than it is in `spec`, by `lines`, the oldest first, which have no hole and end
/// with the newest there is. `is_whole`: nothing was changed before the first of them.
///
/// # Errors
/// [`OutOfReach`].
pub fn past(spec: &Spec, lines: &[Line], is_whole: bool, index: u64) -> Result<Past, OutOfReach> {
    let mut walk = Walk { spec, past: Past::new(), are_resealed: false, same: BTreeMap::new() };
    for line in lines.iter().rev().take_while(|line| line.index > index) {
        walk.undo(line).map_err(|why| OutOfReach { index, from: line.index, why })?;
    }
    let oldest = lines.first().map(|line| line.index.saturating_sub(1));
    match oldest {
        Some(from) if from > index && !is_whole => Err(OutOfReach { index, from, why: Why::Missing }),
        Some(_) | None => Ok(walk.end()),
    }
}

struct Walk<'s> {
    spec: &'s Spec,
    past: Past,
    /// Whether secrets were sealed again on the way: the same one has another mark before that.
    are_resealed: bool,
    /// Marks of a provider's secret that stand for the same secret: the earlier one, and the later one.
    same: BTreeMap<(String, String, String), String>,
}

impl Walk<'_> {
    fn undo(&mut self, line: &Line) -> Result<(), Why> {
        let body: Value = serde_json::from_str(&line.body).map_err(|_| Why::Unfit)?;
        let counted = body.get("more").and_then(Value::as_object);
        let nouns = || counted.into_iter().flat_map(|more| more.keys());
        if nouns().any(|noun| Noun::of(noun).is_some()) {
            return Err(Why::Counted);
        }
        self.are_resealed |= nouns().any(|noun| noun == "resealed");
        let changes = body.get("changes").and_then(Value::as_array).ok_or(Why::Unfit)?;
        changes.iter().rev().try_for_each(|change| self.undo_one(change))
    }

    fn undo_one(&mut self, change: &Value) -> Result<(), Why> {
        let text = |name: &str| change.get(name).and_then(Value::as_str).ok_or(Why::Unfit);
        let Some(noun) = Noun::of(text("what")?) else { return Ok(()) };
        let (name, did) = (text("name")?.to_owned(), text("did")?);
        let table = |when: &str| change.get(when).and_then(Value::as_object).ok_or(Why::Unfit);
        let spec = self.spec;
        let thing = self.past.entry((noun, name.clone())).or_insert_with(|| {
            let now = noun.in_force(spec, &name);
            Thing { then: now.clone(), now }
        });
        thing.then = match (did, thing.then.take()) {
            ("removed", None) => Some(table("before")?.clone()),
            ("added", Some(found)) => {
                let after = table("after")?;
                let fits = after.len() == found.len() && fits(after, &found, &name, self.are_resealed, &mut self.same);
                fits.then_some(None).ok_or(Why::Unfit)?
            }
            ("changed", Some(mut found)) => {
                let (before, after) = (table("before")?, table("after")?);
                if !fits(after, &found, &name, self.are_resealed, &mut self.same) {
                    return Err(Why::Unfit);
                }
                for field in after.keys() {
                    found.shift_remove(field);
                }
                found.extend(before.iter().map(|(field, value)| (field.clone(), value.clone())));
                Some(found)
            }
            (_, _) => return Err(Why::Unfit),
        };
        Ok(())
    }

    /// What was found; marks that stand for a secret in force are those in force.
    fn end(mut self) -> Past {
        for ((noun, name), thing) in &mut self.past {
            let Some(Value::Array(credentials)) = thing.then.as_mut().and_then(|then| then.get_mut("keys")) else {
                continue;
            };
            if *noun != Noun::Provider {
                continue;
            }
            for credential in credentials {
                let Some((id, mut mark)) = marked(credential) else { continue };
                // Each step leads to a later seal; there are no more of them than there are pairs.
                for _ in 0..self.same.len() {
                    match self.same.get(&(name.clone(), id.clone(), mark.clone())) {
                        Some(later) => mark.clone_from(later),
                        None => break,
                    }
                }
                credential["secret"] = mark.into();
            }
        }
        self.past.retain(|_, thing| thing.then != thing.now);
        self.past
    }
}

/// Whether a thing has each of these fields. Where secrets were sealed again since, their marks may differ: they are noted
/// as the same.
fn fits(
    fields: &Shape,
    found: &Shape,
    name: &str,
    are_resealed: bool,
    same: &mut BTreeMap<(String, String, String), String>,
) -> bool {
    fields.iter().all(|(field, value)| match (field.as_str(), value, found.get(field)) {
        (_, value, Some(found)) if value == found => true,
        ("keys", Value::Array(earlier), Some(Value::Array(later))) if are_resealed && earlier.len() == later.len() => {
            earlier.iter().zip(later).all(|(earlier, later)| {
                let (Some((id, mark)), Some((_, later_mark))) = (marked(earlier), marked(later)) else { return false };
                let mut resealed = earlier.clone();
                resealed["secret"] = later_mark.clone().into();
                if mark != later_mark {
                    same.insert((name.to_owned(), id, mark), later_mark);
                }
                resealed == *later
            })
        }
        (_, _, _) => false,
    })
}

/// The name of a provider's key, and what stands for its secret.
fn marked(credential: &Value) -> Option<(String, String)> {
    let text = |name: &str| credential.get(name).and_then(Value::as_str).map(str::to_owned);
    text("name").zip(text("secret"))
}
