//! The plan as it stands in its file; [`super`] checks it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::load::streams::Wire;
use crate::load::units::{Size, Time};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) target: TargetFile,
    pub(super) request: RequestFile,
    pub(super) load: LoadFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetFile {
    pub(super) base_url: Option<String>,
    #[serde(default)]
    pub(super) wire: WireName,
    pub(super) key: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WireName {
    #[default]
    OpenAi,
    Anthropic,
}

impl From<WireName> for Wire {
    fn from(name: WireName) -> Self {
        match name {
            WireName::OpenAi => Self::OpenAi,
            WireName::Anthropic => Self::Anthropic,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestFile {
    pub(super) model: Option<String>,
    pub(super) models: Option<Vec<ModelFile>>,
    #[serde(default)]
    pub(super) stream: bool,
    pub(super) events: Option<u64>,
    #[serde(default = "no_bytes")]
    pub(super) body_bytes: Size,
}

fn no_bytes() -> Size {
    Size(0)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelFile {
    pub(super) name: String,
    #[serde(default = "one")]
    pub(super) weight: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadFile {
    pub(super) mode: ModeName,
    pub(super) rate: Option<u64>,
    pub(super) p99_max: Option<Time>,
    pub(super) rate_min: Option<u64>,
    pub(super) rate_max: Option<u64>,
    pub(super) precision_percent: Option<u64>,
    pub(super) connections: Option<u32>,
    pub(super) backlog: Option<u32>,
    pub(super) warm_up: Option<Time>,
    pub(super) time: Option<Time>,
    pub(super) requests: Option<u64>,
    pub(super) timeout: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeName {
    Open,
    Closed,
    Sustained,
}
