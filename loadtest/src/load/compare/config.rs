//! What Troupe is given to read: what an operator would write for one provider, and nothing else.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

/// The virtual key of the run; the child reads it from this variable.
pub(super) const KEY_VAR: &str = "TROUPE_COMPARE_KEY";
pub(super) const KEY: &str = "sk-troupe-compare-0123456789abcdef";
/// Models of this name go to the provider of the other wire.
pub(super) const TRANSLATED: &str = "translated";

/// One data thread, as the floor has; metrics are on, as they always are.
pub(super) fn node_toml(data_dir: &Path, data: SocketAddr, admin: SocketAddr, access_log: &str) -> String {
    let quoted = |text: &str| json!(text).to_string();
    format!(
        "[node]\nname = \"compare\"\ndata_dir = {}\n\n[listen]\ndata = \"{data}\"\nadmin = \"{admin}\"\n\n\
         [runtime]\ndata_threads = 1\n\n[log]\naccess = {}\nlevel = \"warn\"\n",
        quoted(&data_dir.display().to_string()),
        quoted(access_log),
    )
}

/// The wildcards pass the asked name on, so that the mock sees the knobs on every leg.
pub(super) fn spec_toml(mock: SocketAddr) -> String {
    format!(
        "[providers.mock]\nwire = \"openai\"\nbase_url = \"http://{mock}/v1\"\n\n\
         [providers.other]\nwire = \"anthropic\"\nbase_url = \"http://{mock}\"\n\n\
         [models.\"mock*\"]\ntargets = [{{ provider = \"mock\" }}]\n\n\
         [models.\"{TRANSLATED}*\"]\ntargets = [{{ provider = \"other\" }}]\n\n\
         [keys.compare]\nsecret = \"env:{KEY_VAR}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_the_run_chose() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        let node = node_toml(Path::new("/tmp/a \"b\""), addr, addr, "off");
        let spec = spec_toml(addr);

        assert!(node.contains("data_dir = \"/tmp/a \\\"b\\\"\""), "{node}");
        assert!(node.contains("data = \"127.0.0.1:9\"") && node.contains("access = \"off\""), "{node}");
        assert!(spec.contains("base_url = \"http://127.0.0.1:9/v1\""), "{spec}");
        assert!(spec.contains("secret = \"env:TROUPE_COMPARE_KEY\""), "{spec}");
        assert!(spec.contains("[models.\"translated*\"]"), "{spec}");
    }
}
