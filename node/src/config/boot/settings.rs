//! Every setting of node.toml: what the file reader, the variables, the flags, the defaults and the reference share.

use crate::config::source::{Field, Section};

/// A setting's three doors.
#[derive(Debug)]
pub struct Setting {
    /// Its section.
    pub section: &'static str,
    /// Its field in the file.
    pub name: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
}

macro_rules! settings {
    ($($konst:ident $section:literal $doc:literal {
        $($name:literal $variable:literal $flag:literal : $takes:literal = $default:literal, $field_doc:literal;)*
    })*) => {
        $(pub(super) const $konst: Section = Section {
            name: $section,
            doc: $doc,
            fields: &[$(Field { name: $name, takes: $takes, default: $default, doc: $field_doc }),*],
            unbuilt: &[],
        };)*
        /// The sections in the order of the reference.
        pub const SECTIONS: &[&Section] = &[$(&$konst),*];
        /// Every setting.
        pub const SETTINGS: &[Setting] =
            &[$($(Setting { section: $section, name: $name, variable: $variable, flag: $flag }),*),*];
    };
}

settings! {
    NODE "node" "What this process is." {
        "name" "TROUPE_NAME" "name": "name" = "", "The node's name in logs and metrics. Default: the host's name.";
        "data_dir" "TROUPE_DATA_DIR" "data-dir": "path" = "troupe-data",
            "Where the node keeps what it must not forget. Made when it does not exist.";
        "zone" "TROUPE_ZONE" "zone": "name" = "", "The failure zone it runs in; shown in logs and metrics.";
    }
    LISTEN "listen" "Where it listens." {
        "data" "TROUPE_LISTEN_DATA" "listen-data": "address" = "0.0.0.0:8080",
            "Clients; also `/healthz` and `/readyz`. Port 0 takes a free one.";
        "admin" "TROUPE_LISTEN_ADMIN" "listen-admin": "address" = "127.0.0.1:8081",
            "Operators: `/metrics` and probes.";
        "peer" "TROUPE_LISTEN_PEER" "listen-peer": "address" = "0.0.0.0:8082",
            "Other nodes. Opened where there are, or may come, others.";
        "proxy_protocol" "TROUPE_LISTEN_PROXY_PROTOCOL" "listen-proxy-protocol": "`true` or `false`" = "false",
            "Each connection to `listen.data` begins with a PROXY header of version 2, which says whose it is; one without is closed. For balancers only (`send-proxy-v2`).";
        "admin_token" "TROUPE_LISTEN_ADMIN_TOKEN" "listen-admin-token": "secret" = "",
            "A token that operators show as Bearer at this node, besides those of its cluster. Default: none; a node that follows a spec file makes one, shows it once, and keeps its hash in `data_dir/admin-token`: remove that file to have another.";
    }
    LISTEN_TLS "listen.tls" "TLS for `listen.data`. Both fields or none." {
        "cert" "TROUPE_LISTEN_TLS_CERT" "listen-tls-cert": "secret" = "", "PEM certificates, the server's own first.";
        "key" "TROUPE_LISTEN_TLS_KEY" "listen-tls-key": "secret" = "", "The PEM private key to it.";
    }
    LISTEN_ADMIN_TLS "listen.admin_tls" "TLS for `listen.admin`. Both fields or none." {
        "cert" "TROUPE_LISTEN_ADMIN_TLS_CERT" "listen-admin-tls-cert": "secret" = "",
            "PEM certificates, the server's own first.";
        "key" "TROUPE_LISTEN_ADMIN_TLS_KEY" "listen-admin-tls-key": "secret" = "", "The PEM private key to it.";
    }
    CLUSTER "cluster" "The nodes it agrees with. Without it: a cluster of one." {
        "bootstrap_expect" "TROUPE_CLUSTER_BOOTSTRAP_EXPECT" "cluster-bootstrap-expect": "count" = "",
            "How many nodes form a new cluster: 1, 3 or 5, the same on each of them. Nothing is formed twice.";
        "join" "TROUPE_CLUSTER_JOIN" "cluster-join": "addresses" = "",
            "Where other nodes listen for nodes, its own address may be among them: `[\"gw-1:8082\", \"gw-2:8082\"]`, with commas as flag or variable.";
        "advertise" "TROUPE_CLUSTER_ADVERTISE" "cluster-advertise": "address" = "",
            "Where other nodes reach this one: host and port. Default: the node's name and the port of `listen.peer`.";
        "join_token" "TROUPE_CLUSTER_JOIN_TOKEN" "cluster-join-token": "secret" = "",
            "Lets a new node into a cluster that exists, once: made by `troupe cluster token`.";
        "seal_key" "TROUPE_CLUSTER_SEAL_KEY" "cluster-seal-key": "secret" = "",
            "The 32 bytes (base64 or hex) under which secrets of providers are kept, the same on each node. Default, for a cluster of one: made once and kept in `data_dir/seal-key`.";
        "seal_key_old" "TROUPE_CLUSTER_SEAL_KEY_OLD" "cluster-seal-key-old": "secret" = "",
            "A second key that secrets are opened with. To rotate without a gap: give each node the new key here and restart one after the other; then swap the two on each (`seal_key` new, `seal_key_old` old) and restart; then run `troupe cluster reseal`; then take the old one out.";
        "plain" "TROUPE_CLUSTER_PLAIN" "cluster-plain": "`true` or `false`" = "false",
            "Speaks to other nodes without TLS; only between loopback addresses, for trying things out.";
    }
    CLUSTER_TLS "cluster.tls" "Who this node is to the others, by certificates of their own CA (`troupe ca`)." {
        "ca" "TROUPE_CLUSTER_TLS_CA" "cluster-tls-ca": "secret" = "", "The CA's PEM certificate.";
        "cert" "TROUPE_CLUSTER_TLS_CERT" "cluster-tls-cert": "secret" = "", "This node's PEM certificate.";
        "key" "TROUPE_CLUSTER_TLS_KEY" "cluster-tls-key": "secret" = "", "The PEM private key to it.";
        "ca_key" "TROUPE_CLUSTER_TLS_CA_KEY" "cluster-tls-ca-key": "secret" = "",
            "The CA's PEM private key, at a node that signs certificates for nodes with a join token. May be absent.";
    }
    LIMITS "limits" "What one client, and all of them, may take." {
        "header_bytes" "TROUPE_LIMITS_HEADER_BYTES" "limits-header-bytes": "size" = "32KiB",
            "A request's head. From 8KiB to 1MiB.";
        "body_bytes" "TROUPE_LIMITS_BODY_BYTES" "limits-body-bytes": "size" = "32MiB",
            "A request's body; more is a 413. From 1KiB to 1GiB.";
        "in_flight" "TROUPE_LIMITS_IN_FLIGHT" "limits-in-flight": "count" = "10000",
            "Requests at once on this node; more are a 503 with Retry-After.";
        "connections" "TROUPE_LIMITS_CONNECTIONS" "limits-connections": "count" = "20000",
            "Open client connections; beyond it the node stops accepting until one closes.";
        "h2_streams" "TROUPE_LIMITS_H2_STREAMS" "limits-h2-streams": "count" = "256",
            "Requests at once on one HTTP/2 connection.";
        "header_timeout" "TROUPE_LIMITS_HEADER_TIMEOUT" "limits-header-timeout": "duration" = "10s",
            "How long a client may take to send a request's head.";
        "body_timeout" "TROUPE_LIMITS_BODY_TIMEOUT" "limits-body-timeout": "duration" = "30s",
            "How long a client may pause while it sends a body or reads a reply. A body that takes longer must come at 8 KiB/s.";
        "connection_max_age" "TROUPE_LIMITS_CONNECTION_MAX_AGE" "limits-connection-max-age": "duration" = "10m",
            "When a connection is asked to go, so that balancers spread clients again. Its requests are finished.";
        "drain_delay" "TROUPE_LIMITS_DRAIN_DELAY" "limits-drain-delay": "duration" = "5s",
            "How long a stopping node says it is unready before it closes connections behind their requests: at least two probe intervals of the balancer.";
        "drain_timeout" "TROUPE_LIMITS_DRAIN_TIMEOUT" "limits-drain-timeout": "duration" = "60s",
            "How long it then waits for streams to finish; its door stays open for as long.";
    }
    RUNTIME "runtime" "How it uses the machine." {
        "data_threads" "TROUPE_DATA_THREADS" "data-threads": "count" = "0",
            "Threads that serve requests; 0 means one for each core. At most 1024.";
    }
    LOG "log" "What it writes about itself." {
        "access" "TROUPE_LOG_ACCESS" "log-access": "`off`, `stdout` or path" = "stdout",
            "Where one JSON line for each request goes.";
        "level" "TROUPE_LOG_LEVEL" "log-level": "level" = "info", "`error`, `warn`, `info`, `debug` or `trace`.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_flags_are_named_after_section_and_field() {
        for setting in SETTINGS {
            let path = match setting.section {
                "node" | "runtime" => setting.name.to_owned(),
                section => format!("{section}.{}", setting.name),
            };

            assert_eq!(setting.variable, format!("TROUPE_{}", path.replace('.', "_").to_uppercase()));
            assert_eq!(setting.flag, path.replace(['.', '_'], "-"));
        }
    }
}
